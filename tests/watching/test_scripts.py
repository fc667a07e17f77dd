"""`freezecheck run` on unmodified training scripts as people write them: silence, or the one mistake of a twin."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.readme import freezecheck_command
from tests.watching.twins import RIGHT, SCRIPTS, TORCHRUN, TWINS

pytest.importorskip("lightning")
pytest.importorskip("peft")


def run(name, folder, options=None):
    """Run a script in a folder by `freezecheck run`, under torchrun where it needs several processes."""
    if options is None:
        options = ["--spec", "freeze.toml"] if (folder / "freeze.toml").is_file() else []
    arguments = ["run", *options, "--format", "json", "train.py"]
    if name not in TORCHRUN:
        ran = freezecheck_command(*arguments, folder=folder)
        assert ran.code in (0, 1), ran.err
        return ran.code, json.loads(ran.out)
    done = torchrun(folder, *arguments)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert (done.returncode == 0) == report["ok"], done.stderr
    return report["exit_code"], report


def torchrun(folder, *arguments):
    """Run `freezecheck ARGUMENTS` in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*command, "-m", "freezecheck", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def loud(report):
    return [finding for finding in report["findings"] if finding["severity"] != "note"]


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_script_is_silent(name):
    """A script without a mistake ends with 0 and nothing above a note, whatever trainer or wrapper drives it."""
    code, report = run(name, SCRIPTS / name)
    assert loud(report) == []
    assert code == 0
    assert report["conditions"]["steps"] >= 3


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.script)
def test_a_twin_shows_its_one_mistake(twin, tmp_path):
    """The same script with one mistake gives the mistake's code in its tensors, at its line, and nothing else."""
    code, report = run(twin.script, tmp_path, twin.write(tmp_path))
    found = loud(report)
    assert {finding["code"] for finding in found} <= {*twin.must, *twin.may}, report["findings"]
    for wanted, prefix in twin.must.items():
        tensors = [name for finding in found if finding["code"] == wanted for name in finding["tensors"] or [""]]
        assert any(name.startswith(prefix) for name in tensors), (wanted, found)
    assert code == 1
    if twin.line:
        place = next(finding["location"] for finding in found if finding["code"] in twin.must)
        assert twin.line in (tmp_path / place["file"]).read_text(encoding="utf-8").splitlines()[place["line"] - 1]


def test_there_is_a_twin_for_every_script():
    """No script is only ever right: a check that finds nothing anywhere would be noticed."""
    assert {twin.script for twin in TWINS} == set(RIGHT)
