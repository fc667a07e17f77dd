"""Each example finds what its README says: exit code, codes, tensors, and what it costs in memory."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests.readme import ROOT, freezecheck_command

EXAMPLES = ROOT / "examples"

# folder, arguments of verify → the loud codes, each with a tensor that it names ("": none of the model's)
SILENT = [
    ("resnet18_head", "--spec freeze.toml"),
    ("tied_transformer", "--spec freeze.toml"),
    ("lenet", "constructor.py --spec freeze.toml"),
    ("lenet", "per_layer.py --spec conv2.toml"),
    ("two_stage", "--spec freeze.toml"),
    ("watched", "--spec freeze.toml"),
]
FIRING = [
    ("lenet", "no_grad.py --spec freeze.toml", {"FZ401": "conv1.weight"}),
    ("lenet", "detached.py --spec freeze.toml", {"FZ401": "conv2.bias"}),
    ("lenet", "plain.py --spec freeze.toml", {"FZ101": "conv1.weight"}),
    ("resnet18_mistakes", "batchnorm_drift.py --spec train_mode.toml", {"FZ502": "bn1.running_mean"}),
    ("resnet18_mistakes", "misspelled_flag.py --spec freeze.toml", {"FZ103": "conv1.weight"}),
    ("resnet18_mistakes", "optimizer_before_head.py --spec freeze.toml", {"FZ403": "fc.weight"}),
    ("resnet18_mistakes", "graph_cut.py --spec freeze.toml", {"FZ201": "layer4.0.conv1.weight"}),
    ("resnet18_mistakes", "broad_pattern.py --spec freeze.toml", {"FZ102": "layer4.0.conv1.weight"}),
    ("tied_transformer", "--spec wrong.toml", {"FZ002": "embedding.weight"}),
    ("two_stage", "--spec forgotten.toml", {"FZ402": "layer4.0.conv1.weight"}),
]


def verify(folder: str, arguments: str) -> tuple[int, dict]:
    ran = freezecheck_command("verify", *arguments.split(), "--format", "json", folder=EXAMPLES / folder)
    assert ran.code in (0, 1), ran.err or ran.out
    return ran.code, json.loads(ran.out)


@pytest.mark.parametrize(("folder", "arguments"), SILENT)
def test_a_right_example_is_silent(folder, arguments):
    """The examples that are right end with 0 and without a warning."""
    code, report = verify(folder, arguments)
    assert [finding for finding in report["findings"] if finding["severity"] != "note"] == []
    assert code == 0


@pytest.mark.parametrize(("folder", "arguments", "codes"), FIRING)
def test_a_wrong_example_shows_its_one_mistake(folder, arguments, codes):
    """Each wrong example ends with 1, for its own mistake in its own tensors and nothing beside it."""
    code, report = verify(folder, arguments)
    loud = [finding for finding in report["findings"] if finding["severity"] != "note"]
    assert {finding["code"] for finding in loud} == set(codes)
    for wanted, tensor in codes.items():
        assert not tensor or any(tensor in finding["tensors"] for finding in loud if finding["code"] == wanted)
    assert code == 1


def test_every_model_and_spec_is_run():
    """No model and no spec lies in the examples that the tests above leave out."""
    run = {(folder, word) for folder, arguments, *_ in [*SILENT, *FIRING] for word in arguments.split()}
    run |= {
        (path.parent.name, tomllib.loads(path.read_text(encoding="utf-8")).get("target"))
        for path in EXAMPLES.glob("*/*.toml")
    }
    helpers = {("lenet", "lenet.py"), ("lenet", "memory.py")}
    helpers |= {("watched", name) for name in ("lightning_train.py", "trainer_lora.py", "test_model.py")}
    assert {(path.parent.name, path.name) for path in EXAMPLES.glob("*/*.[pt]*")} - helpers <= run


def test_the_right_resnet_has_the_counts_people_know():
    """ResNet-18 with a head for ten classes trains 5,130 of 11,181,642 parameters."""
    _, report = verify("resnet18_head", "--spec freeze.toml")
    assert report["summary"]["parameters"] == {"total": 11_181_642, "trainable": 5_130, "frozen": 11_176_512}


def test_what_the_three_ways_cost_in_memory():
    """Frozen flags below everything cost what no_grad costs; detach drops the graph only after building it."""
    done = subprocess.run(
        [sys.executable, "-B", "memory.py"],
        cwd=EXAMPLES / "lenet",
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    cost = {
        name: (int(peak), int(held)) for name, peak, held in re.findall(r"^(\w+) +(\d+) +(\d+)$", done.stdout, re.M)
    }
    assert list(cost) == ["plain", "per_layer", "constructor", "no_grad", "detached"]
    assert cost["constructor"] == cost["no_grad"]
    assert cost["per_layer"] == cost["plain"]
    assert cost["detached"][1] == cost["no_grad"][1]
    assert cost["no_grad"][0] * 10 < cost["detached"][0] < cost["plain"][0]


def test_the_frozen_ways_are_as_frozen_as_they_say():
    """An independent look: after one plain step only the tensors that the spec trains have changed."""
    code = """
import importlib
from lenet import build_optimizer, compute_loss, example_inputs
for name in ("plain", "per_layer", "constructor", "no_grad", "detached"):
    model = importlib.import_module(name).Net()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model)
    compute_loss(model, example_inputs()).backward()
    optimizer.step()
    print(name, *sorted({key.split(".")[0] for key, p in model.named_parameters() if not p.equal(before[key])}))
"""
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=EXAMPLES / "lenet",
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "plain conv1 conv2 fc1 fc2 fc3",
        "per_layer conv1 fc1 fc2 fc3",
        "constructor fc1 fc2 fc3",
        "no_grad fc1 fc2 fc3",
        "detached fc1 fc2 fc3",
    ]


def test_two_stages_from_start_to_end(tmp_path):
    """Each stage's checkpoint differs from the one it began from in what that stage trains, and in nothing else."""
    folder = tmp_path / "two_stage"
    shutil.copytree(EXAMPLES / "two_stage", folder, ignore=shutil.ignore_patterns("checkpoints"))
    subprocess.run([sys.executable, "-B", "train.py"], cwd=folder, timeout=300, check=True, capture_output=True)
    stages = {"head": ("start.pt", "head.pt"), "finetune": ("head.pt", "finetuned.pt")}
    for phase, files in stages.items():
        arguments = (*(f"checkpoints/{file}" for file in files), "--spec", "freeze.toml", "--phase")
        assert freezecheck_command("diff", *arguments, phase, folder=folder).code == 0
    changed = freezecheck_command("diff", *arguments, "head", "--format", "json", folder=folder)
    (found,) = {finding["code"] for finding in json.loads(changed.out)["findings"]}
    assert (changed.code, found) == (1, "FZ701")


def test_a_training_with_a_callback_of_its_own_is_right():
    """The Trainer's example is silent under `run` too; its README shows the others."""
    pytest.importorskip("peft")
    ran = freezecheck_command("run", "--format", "json", "trainer_lora.py", folder=EXAMPLES / "watched")
    assert ran.code == 0, ran.out + ran.err
    assert [f for f in json.loads(ran.out)["findings"] if f["severity"] != "note"] == []


def test_the_examples_test_suite_passes():
    """The test file in the examples is a suite that pytest runs, with the fixture that freezecheck brings."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_model.py"]
    done = subprocess.run(command, cwd=EXAMPLES / "watched", capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
