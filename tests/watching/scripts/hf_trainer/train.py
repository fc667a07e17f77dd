"""Fine-tunes the classifier of a small BERT with the Transformers Trainer; the encoder is frozen."""

import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments


class Reviews(torch.utils.data.Dataset):
    def __init__(self, size=64):
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(0, 100, (size, 16), generator=generator)
        self.labels = torch.randint(0, 2, (size,), generator=generator)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return {"input_ids": self.ids[index], "labels": self.labels[index]}


class Announce(TrainerCallback):
    def on_train_begin(self, args, state, control, model=None, **kwargs):
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        print(f"{trained:,} parameters are trained")


config = BertConfig(
    vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_labels=2
)
model = BertForSequenceClassification(config)
for parameter in model.bert.parameters():
    parameter.requires_grad = False

with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=8,
        max_steps=6,
        learning_rate=1e-3,
        warmup_steps=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=Reviews(), callbacks=[Announce()])
    trainer.train()
