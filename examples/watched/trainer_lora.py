"""Transformers: LoRA on a small BERT, and a callback that checks what the `Trainer` really trains."""

import tempfile

import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification, PrinterCallback, Trainer, TrainingArguments

import freezecheck
from freezecheck.callbacks.transformers import FreezeCheckCallback


class Words(torch.utils.data.Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return {"input_ids": torch.randint(1, 100, (8,), generator=generator), "labels": index % 2}


def main():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    lora = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"])  # the new classifier trains too
    model = get_peft_model(BertForSequenceClassification(config), lora)
    spec = freezecheck.Spec.of(trainable=["*.lora_A", "*.lora_B", "*.modules_to_save"])
    check = FreezeCheckCallback(spec, on_violation="raise")
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, max_steps=4, report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no", logging_steps=100
        )
        trainer = Trainer(model, arguments, train_dataset=Words(), callbacks=[check])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    print(check.results[0])


if __name__ == "__main__":
    main()
