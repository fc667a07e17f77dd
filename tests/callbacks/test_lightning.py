"""The Lightning callback, with the real library and tiny models."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import freezecheck
from freezecheck.spec import Spec

L = pytest.importorskip("lightning")
from lightning.pytorch.callbacks import BackboneFinetuning, Callback  # noqa: E402  # after the skip

from freezecheck.callbacks.lightning import FreezeCheck  # noqa: E402  # as above

torch.set_num_threads(1)
HEAD = Spec.parse('trainable = ["head"]')


class Net(L.LightningModule):
    """A frozen backbone that its training keeps in eval mode, and a head."""

    def __init__(self, *, keep_eval=True, every=False):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.head = nn.Linear(8, 2)
        self.keep_eval, self.every = keep_eval, every
        self.backbone.requires_grad_(False)

    def on_train_epoch_start(self):
        if self.keep_eval:
            self.backbone.eval()

    def training_step(self, batch, index):
        x, y = batch
        return F.cross_entropy(self.head(self.backbone(x)), y)

    def validation_step(self, batch, index):
        self.log("loss", self.training_step(batch, index))

    def configure_optimizers(self):
        parameters = self.parameters() if self.every else [p for p in self.parameters() if p.requires_grad]
        return torch.optim.SGD(parameters, lr=0.1)


def data(batches=4):
    torch.manual_seed(0)
    return DataLoader(TensorDataset(torch.randn(8 * batches, 4), torch.randint(0, 2, (8 * batches,))), batch_size=8)


def fit(model, *callbacks, epochs=1, batches=4, **options):
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **options,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer.fit(model, data(batches), data(1))
    return trainer


def hooks():
    from torch.nn.modules import module
    from torch.optim import optimizer
    from torch.overrides import _get_current_function_mode_stack

    return (
        len(module._global_forward_pre_hooks),
        len(optimizer._global_optimizer_pre_hooks),
        len(_get_current_function_mode_stack()),
        torch.autograd.backward,
    )


def loud(result):
    return [finding.code for finding in result.findings if finding.severity != "note"]


class TestSilent:
    @pytest.mark.parametrize("spec", [HEAD, None], ids=["spec", "flags"])
    def test_a_right_training(self, spec):
        """Three steps are watched after the sanity check, nothing is found, and the training ends as it would."""
        check = FreezeCheck(spec)
        trainer = fit(Net(), check)
        assert trainer.global_step == 4
        assert [loud(result) for result in check.results] == [[]]
        assert check.results[0].report.case.conditions.steps == 3

    def test_accumulation_and_clipping(self):
        """A step of two batches counts once."""
        check = FreezeCheck(HEAD)
        fit(Net(), check, accumulate_grad_batches=2, gradient_clip_val=1.0, batches=8)
        assert check.results[0].report.case.conditions.steps == 3

    @pytest.mark.parametrize("order", [1, -1])
    def test_unfreezing_at_a_later_epoch(self, order):
        """Lightning's own BackboneFinetuning, before or after ours: the check is renewed, and both halves are right."""
        check = FreezeCheck()
        finetuning = BackboneFinetuning(unfreeze_backbone_at_epoch=2, verbose=False)
        model = Net(keep_eval=False)
        fit(model, *[check, finetuning][::order], epochs=4)
        assert [loud(result) for result in check.results] == [[], []]
        trained = [[f.name for f in result.report.case.parameters if f.moved] for result in check.results]
        assert "backbone.0.weight" not in trained[0]
        assert "backbone.0.weight" in trained[1]

    def test_unfreezing_inside_of_the_first_steps(self):
        """An epoch shorter than the watched steps: each set of parameters is judged by what it saw."""
        check = FreezeCheck()
        finetuning = BackboneFinetuning(unfreeze_backbone_at_epoch=1, verbose=False)
        fit(Net(keep_eval=False), check, finetuning, epochs=3, batches=2)
        assert [loud(result) for result in check.results] == [[], []]
        assert [result.report.case.conditions.steps for result in check.results] == [2, 3]

    def test_phases_follow_the_unfreezing(self):
        """The spec of both stages: the second watch is judged by its second phase."""
        spec = Spec.parse(
            'unchecked = ["backbone.1"]\nrest = "frozen"\n'  # BackboneFinetuning trains BatchNorm throughout
            '[[phase]]\nname = "head"\ntrainable = ["head"]\n'
            '[[phase]]\nname = "all"\ntrainable = ["head", "backbone.0"]'
        )
        check = FreezeCheck(spec)
        finetuning = BackboneFinetuning(unfreeze_backbone_at_epoch=1, verbose=False)
        fit(Net(keep_eval=False), check, finetuning, epochs=2)
        assert [loud(result) for result in check.results] == [[], []]

    def test_lora_of_peft(self):
        """Adapters train, the base does not; A's gradient is zero in the first step."""
        peft = pytest.importorskip("peft")
        model = Net(keep_eval=False)
        model.backbone = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        lora = peft.LoraConfig(r=2, target_modules=["0"], modules_to_save=[])
        model.backbone = peft.get_peft_model(model.backbone, lora)
        check = FreezeCheck(Spec.parse('trainable = ["*.lora_A", "*.lora_B", "head"]'))
        fit(model, check)
        assert [loud(result) for result in check.results] == [[]]

    def test_nothing_is_left_behind(self):
        """After a training, one that failed too, torch's hooks and functions are what they were."""
        before = hooks()
        fit(Net(), FreezeCheck(HEAD), batches=2)
        with pytest.raises(ZeroDivisionError):
            fit(Net(), FreezeCheck(HEAD), Failing())
        assert hooks() == before


class Failing(Callback):
    def on_train_batch_end(self, *_):
        raise ZeroDivisionError


class Unfreezing(Callback):
    def on_train_start(self, trainer, pl_module):
        pl_module.backbone.requires_grad_(True)


class TestFired:
    def test_it_raises_out_of_fit(self):
        """The frozen BatchNorm drifts: FreezeError at the third step, with the report, and nothing left behind."""
        before = hooks()
        check = FreezeCheck(HEAD)
        with pytest.raises(freezecheck.FreezeError, match="FZ501") as caught:
            fit(Net(keep_eval=False), check)
        assert [finding.code for finding in caught.value.findings] == ["FZ501"]
        assert [loud(result) for result in check.results] == [["FZ501"]]
        assert hooks() == before

    def test_it_warns_and_goes_on(self):
        """With `warn` the training ends, and the warning is the report."""
        with pytest.warns(UserWarning, match="FZ401"):
            trainer = fit(Net(every=True), FreezeCheck(HEAD, "warn"))
        assert trainer.global_step == 4

    def test_another_callback_flips_the_flags(self):
        """FZ106 with the line in that callback."""
        check = FreezeCheck(HEAD, "warn")
        with pytest.warns(UserWarning, match="FZ106"):
            fit(Net(every=True), check, Unfreezing())
        (finding,) = [f for f in check.results[0].findings if f.code == "FZ106"]
        assert finding.location is not None
        assert finding.location.function == "Unfreezing.on_train_start"

    def test_a_short_training_is_judged_too(self):
        """Fewer steps than were to be watched: the end judges."""
        with pytest.raises(freezecheck.FreezeError, match="FZ501"):
            fit(Net(keep_eval=False), FreezeCheck(HEAD), batches=1)

    def test_its_arguments_are_checked_at_once(self):
        """A misspelled word, and a spec that is not there."""
        with pytest.raises(ValueError, match="on_violation"):
            FreezeCheck(on_violation="rise")
        with pytest.raises(freezecheck.FreezecheckError, match=r"no\.toml"):
            FreezeCheck("no.toml")
