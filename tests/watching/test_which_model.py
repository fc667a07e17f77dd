"""Of the models that a script trains one after another, the one that is meant is waited for."""

from __future__ import annotations

import torch

from tests.watching.loops import codes, report_of, run, write

torch.set_num_threads(1)

SCRIPT = """\
import torch
from torch import nn

class Coder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 3), nn.Linear(3, 4)
    def forward(self, x):
        return self.decoder(self.encoder(x))

class Classifier(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.head = encoder.requires_grad_(False), nn.Linear(3, 2)
    def forward(self, x):
        return self.head(self.encoder(x))

def fit(model, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()

coder = Coder()
fit(coder, torch.optim.Adam(coder.parameters()), 5)
probe = Classifier(coder.encoder)
fit(probe, torch.optim.Adam(probe.head.parameters()), 5)
print("the end")
"""
WRONG = SCRIPT.replace("Adam(probe.head.", "Adam(probe.")
SPEC = 'trainable = ["head"]\nfrozen = ["encoder"]\n'


def watched(folder, source, *arguments, spec=SPEC):
    write(folder, source, spec=spec)
    return run(folder, *arguments, "--format", "json", "train.py")


class TestSilent:
    def test_a_right_probe_after_its_pretraining(self, tmp_path):
        """The autoencoder, whose encoder trains, is not what a spec with a head is for; then the script is stopped."""
        ran = watched(tmp_path, SCRIPT)
        assert (ran.code, codes(ran), report_of(ran)["conditions"]["steps"]) == (0, [], 3)
        assert "the end" not in ran.err

    def test_a_class_as_the_target(self, tmp_path):
        """The autoencoder has all that this spec names, and is not of its target's class."""
        spec = 'target = "train.py:Classifier"\nfrozen = ["encoder"]\n'
        ran = watched(tmp_path, SCRIPT, spec=spec)
        assert (ran.code, codes(ran)) == (0, [])

    def test_a_gradient_that_pretraining_left_is_in_nobodys_way(self, tmp_path):
        """It lies on a layer in no optimizer, and no clipping writes to it."""
        assert codes(watched(tmp_path, SCRIPT)) == []


class TestFired:
    def test_a_wrong_probe_after_its_pretraining(self, tmp_path):
        """Its frozen encoder is in its optimizer."""
        ran = watched(tmp_path, WRONG)
        assert (ran.code, codes(ran)[0]) == (1, "FZ401")

    def test_clipping_counts_what_pretraining_left(self, tmp_path):
        """FZ203 where the loop clips the gradients of the whole model."""
        source = SCRIPT.replace(
            "backward()\n", "backward()\n        nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
        )
        assert codes(watched(tmp_path, source)) == ["FZ203"]

    def test_the_model_that_is_asked_for_is_waited_for(self, tmp_path):
        """By variable, or by class; without a spec as well."""
        for name in ("probe", "Classifier"):
            ran = watched(tmp_path, WRONG, "--model", name, spec=None)
            assert codes(ran)[0] == "FZ401"
            assert all(not one.startswith("decoder") for f in report_of(ran)["findings"] for one in f["tensors"])

    def test_one_that_never_comes_is_said_at_the_end(self, tmp_path):
        """With all that were seen."""
        ran = watched(tmp_path, SCRIPT, "--model", "student")
        assert ran.code == 2
        assert report_of(ran)["error"]["message"] == "no model called student was trained"
        assert report_of(ran)["error"]["hint"] == "seen: model (Coder), model (Classifier)"

    def test_a_spec_that_fits_none(self, tmp_path):
        """The script comes to its end, and the selector is told of the first model."""
        ran = watched(tmp_path, SCRIPT, spec='trainable = ["zzz"]\nrest = "unchecked"\n')
        assert (ran.code, codes(ran)) == (1, ["FZ001"])
        assert "the end" in ran.err

    def test_a_slip_of_the_pen_is_told_at_once(self, tmp_path):
        """A selector with a near name in the model waits for no other one."""
        ran = watched(tmp_path, SCRIPT, spec='trainable = ["decodr"]\nrest = "unchecked"\n')
        assert (ran.code, codes(ran)) == (1, ["FZ001"])
        assert "the end" not in ran.err
