"""`freezecheck diff` from the command line: exit codes, formats and what a person reads."""

from __future__ import annotations

import json

import pytest
import torch

from tests.cli.runner import run

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    """Two checkpoints of which a head, one row of an embedding and one statistic differ."""
    monkeypatch.chdir(tmp_path)
    before = {
        "embed.weight": torch.zeros(100, 4),
        "bn.running_mean": torch.zeros(4),
        "bn.running_var": torch.zeros(4),
        "head.weight": torch.zeros(2, 4),
    }
    after = {name: tensor.clone() for name, tensor in before.items()}
    torch.save(before, "before.pt")
    after["head.weight"] += 0.5
    torch.save(after, "right.pt")
    after["embed.weight"][7] += 0.25
    after["bn.running_mean"] += 0.125
    torch.save({"model": after, "ema": before}, "wrong.pt")
    (tmp_path / "freeze.toml").write_text('trainable = ["head"]\n')


def test_what_changed_is_shown_without_a_spec():
    """A table by layer, the rows that changed, and a last line that counts; nothing is judged."""
    done = run("diff", "before.pt", "wrong.pt")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line.split() for line in lines if line.startswith("embed ")] == [
        ["embed", "1", "of", "1", "0.25", "0.0025"]
    ]
    assert "embed.weight: only row 7 of 100 changed" in lines
    assert lines[-1] == "freezecheck: 3 of 4 tensors changed, 1 is the same byte for byte"


def test_what_was_allowed_is_ok():
    """With a spec that allows it, a change is fine."""
    done = run("diff", "before.pt", "right.pt", "--spec", "freeze.toml")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == ("freezecheck: ok — 1 of 4 tensors changed, 3 are the same byte for byte")


def test_what_was_not_allowed_is_a_finding():
    """A frozen parameter and a frozen buffer that changed end in exit code 1."""
    done = run("diff", "before.pt", "wrong.pt", "--spec", "freeze.toml")
    assert done.exit_code == 1
    assert done.stdout.count("error FZ701 frozen-tensor-differs") == 2
    assert "only in row 7 of 100" in done.stdout
    assert "before.pt → wrong.pt is not what freeze.toml says" in done.stdout


def test_a_key_is_taken_for_each_file():
    """`--key` twice names one for each; the EMA weights are those from before."""
    done = run("diff", "wrong.pt", "wrong.pt", "--key", "model", "--key", "ema")
    assert "3 of 4 tensors changed" in done.stdout
    assert run("diff", "wrong.pt", "wrong.pt", "--key", "ema").stdout.endswith("4 are the same byte for byte\n")
    assert run("diff", "wrong.pt", "wrong.pt", *("--key", "ema") * 3).exit_code == 2


@pytest.mark.parametrize("name", ["markdown", "github", "sarif", "junit", "html"])
def test_every_format_takes_it(name):
    """A failed comparison is written in each format and ends with 1."""
    done = run("diff", "before.pt", "wrong.pt", "--spec", "freeze.toml", "--format", name)
    assert done.exit_code == 1
    assert "FZ701" in done.stdout


def test_json_holds_every_change():
    """The JSON fits the published schema and says of each tensor how it changed."""
    import jsonschema

    done = run("diff", "before.pt", "wrong.pt", "--spec", "freeze.toml", "--format", "json")
    report = json.loads(done.stdout)
    jsonschema.validate(report, json.loads(run("rule", "--json-schema").stdout))
    changes = {tensor["name"]: tensor["change"] for tensor in report["tensors"]}
    assert changes["embed.weight"]["rows"] == [[7, 8]]
    assert changes["embed.weight"]["changed_elements"] == 4
    assert changes["bn.running_var"]["same"] is True
    assert report["comparison"]["before"] == "before.pt"


def test_a_checkpoint_that_cannot_be_read_ends_with_2(tmp_path):
    """No answer is given for a broken file, and JSON has the error too."""
    (tmp_path / "broken.pt").write_bytes(b"PK\x03\x04 and no more")
    done = run("diff", "before.pt", "broken.pt", "--format", "json")
    assert done.exit_code == 2
    assert "broken.pt" in json.loads(done.stdout)["error"]["message"]
    assert "broken.pt" in done.stderr


def test_quiet_is_one_line_for_each_thing():
    """-q gives the findings in brief and the verdict."""
    done = run("diff", "before.pt", "wrong.pt", "--spec", "freeze.toml", "-q")
    assert len(done.stdout.splitlines()) == 3
