"""The Transformers callback, with the real library and tiny models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import freezecheck
from freezecheck.spec import Spec

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from freezecheck.callbacks.transformers import FreezeCheckCallback  # noqa: E402  # after the skips

torch.set_num_threads(1)
CLASSIFIER = Spec.parse('trainable = ["classifier"]')


class Words(torch.utils.data.Dataset):
    def __len__(self):
        return 48

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return {"input_ids": torch.randint(1, 30, (6,), generator=generator), "labels": index % 2}


def bert():
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    model = transformers.BertForSequenceClassification(config)
    model.bert.requires_grad_(False)
    return model


def train(model, folder, *callbacks, optimizers=(None, None), **options):
    arguments = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "num_train_epochs": 1,
        "learning_rate": 1e-3,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
        **options,
    }
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(**arguments),
        train_dataset=Words(),
        eval_dataset=Words(),
        callbacks=list(callbacks),
        optimizers=optimizers,
    )
    trainer.train()
    return trainer


def loud(result):
    return [finding.code for finding in result.findings if finding.severity != "note"]


class Unfreeze(transformers.TrainerCallback):
    """Unfreezes the last layer as the second epoch begins, and gives it to the optimizer."""

    def on_epoch_begin(self, args, state, control, model=None, optimizer=None, **kwargs):
        if state.epoch == 1:
            layer = model.bert.encoder.layer[1]
            layer.requires_grad_(True)
            optimizer.param_groups[0]["params"] += list(layer.parameters())


class TestSilent:
    @pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2}, {"warmup_steps": 3}, {"bf16": True}])
    def test_a_right_training(self, tmp_path, options):
        """Plain, with accumulation, from a learning rate of zero, and in bfloat16."""
        check = FreezeCheckCallback(CLASSIFIER)
        trainer = train(bert(), tmp_path, check, **options)
        assert [loud(result) for result in check.results] == [[]]
        assert check.results[0].report.case.conditions.steps == 3
        assert trainer.state.global_step >= 3

    def test_evaluation_between_steps(self, tmp_path):
        """An evaluation in the watched steps puts the model in eval mode and back."""
        check = FreezeCheckCallback(CLASSIFIER)
        train(bert(), tmp_path, check, eval_strategy="steps", eval_steps=1)
        assert [loud(result) for result in check.results] == [[]]

    def test_lora_of_peft(self, tmp_path):
        """Adapters and the new head train; the base does not."""
        peft = pytest.importorskip("peft")
        lora = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
        model = peft.get_peft_model(bert(), lora)
        spec = Spec.parse('trainable = ["*.lora_A", "*.lora_B", "*.modules_to_save"]')
        check = FreezeCheckCallback(spec)
        train(model, tmp_path, check)
        assert [loud(result) for result in check.results] == [[]]

    @pytest.mark.parametrize("spec", [None, "phases"])
    def test_unfreezing_at_the_second_epoch(self, tmp_path, spec):
        """By the flags, and by a spec with phases: both epochs are watched, and right."""
        phases = Spec.parse(
            '[[phase]]\nname = "head"\ntrainable = ["classifier"]\n'
            '[[phase]]\nname = "last"\ntrainable = ["classifier", "bert.encoder.layer[1]"]'
        )
        check = FreezeCheckCallback(phases if spec else None)
        train(bert(), tmp_path, Unfreeze(), check, num_train_epochs=2)
        assert [loud(result) for result in check.results] == [[], []]
        moved = {facts.name for facts in check.results[1].report.case.parameters if facts.moved}
        assert "bert.encoder.layer.1.output.dense.weight" in moved


class TestFired:
    def test_it_raises_out_of_train(self, tmp_path):
        """The optimizer holds the frozen encoder: FreezeError with the report."""
        model = bert()
        check = FreezeCheckCallback(CLASSIFIER)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        with pytest.raises(freezecheck.FreezeError, match="FZ401"):
            train(model, tmp_path, check, optimizers=(optimizer, None))
        assert [loud(result) for result in check.results] == [["FZ401"]]

    def test_it_warns_and_goes_on(self, tmp_path):
        """With `warn` the training ends; a head that was replaced after the optimizer took it is FZ403."""
        model = bert()
        optimizer = torch.optim.AdamW(model.classifier.parameters(), lr=1e-3)
        model.classifier = nn.Linear(16, 2)
        with pytest.warns(UserWarning, match="FZ403"):
            trainer = train(model, tmp_path, FreezeCheckCallback(CLASSIFIER, "warn"), optimizers=(optimizer, None))
        assert trainer.state.global_step == 6
