"""The pre-commit hook, driven by pre-commit itself in a repository made for the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = ROOT / ".pre-commit-hooks.yaml"
BIN = Path(sys.executable).parent

MODEL = """\
from torch import nn, optim

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
for parameter in model[0].parameters():
    parameter.requires_grad = False
optimizer = optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
"""
SPEC = """\
target = "model.py"
trainable = ["2"]
inputs = { shape = [3, 4] }
"""
IDENTITY = {"NAME": "", "EMAIL": "@example.invalid"}


class Repository:
    """A git repository whose commands cannot read or write anything of the person who runs the tests."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        folder.mkdir()
        who = {f"GIT_{role}_{key}": f"test{end}" for role in ("AUTHOR", "COMMITTER") for key, end in IDENTITY.items()}
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "PRE_COMMIT"))},
            **who,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "PRE_COMMIT_HOME": str(home),
            "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", "")]),
        }
        self.run("git", "init", "--quiet", "--initial-branch=main")

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
        self.run("git", "add", ".")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the repository; `check` asks that it end with 0."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
        return done


@pytest.fixture
def hooked(tmp_path):
    """Return a repository whose commits run the hook, taken from a repository that holds our manifest alone."""
    home = tmp_path / "pre-commit-home"
    source = Repository(tmp_path / "freezecheck", home)
    shutil.copy(MANIFEST, source.folder)
    source.run("git", "add", ".")
    source.run("git", "commit", "--quiet", "--message", "the hook")
    revision = source.run("git", "rev-parse", "HEAD").stdout.strip()

    repository = Repository(tmp_path / "project", home)
    hook = {"repo": str(source.folder), "rev": revision, "hooks": [{"id": "freezecheck-verify"}]}
    (repository.folder / ".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [hook]}), encoding="utf-8")
    repository.run("pre-commit", "install")
    return repository


def test_a_commit_of_a_right_model_passes(hooked):
    """A model that trains what its spec says is committed, and the hook did run."""
    hooked.write(model__py=MODEL, freezecheck__toml=SPEC)
    done = hooked.run("git", "commit", "--message", "a head")
    assert "freezecheck verify" in done.stdout
    assert "Passed" in done.stdout
    assert hooked.run("git", "rev-list", "--count", "HEAD").stdout.strip() == "1"


def test_a_commit_of_a_wrong_model_is_stopped_with_the_finding(hooked):
    """A frozen layer that was left trainable stops the commit; pre-commit shows the code and the tensor."""
    hooked.write(model__py=MODEL.replace("requires_grad = False", "require_grad = False"), freezecheck__toml=SPEC)
    done = hooked.run("git", "commit", "--message", "a head", check=False)
    assert done.returncode == 1
    assert "Failed" in done.stdout
    assert "- exit code: 1" in done.stdout
    assert "FZ103" in done.stdout
    assert "0.weight" in done.stdout
    assert hooked.run("git", "rev-list", "--all", "--count").stdout.strip() == "0"


def test_a_commit_that_touches_no_code_and_no_spec_does_not_train_a_step(hooked):
    """A change of prose alone skips the hook."""
    hooked.write(notes__md="Nothing to see.\n")
    hooked.run("git", "reset", "--quiet", ".pre-commit-config.yaml")
    assert "Skipped" in hooked.run("pre-commit", "run").stdout


def test_pre_commit_finds_the_manifest_valid():
    """The manifest keeps to pre-commit's own schema."""
    subprocess.run([BIN / "pre-commit", "validate-manifest", MANIFEST], check=True, timeout=60)


def test_the_hook_sees_the_users_environment_and_no_file_names():
    """It is a system hook, as the README says why, and asks the spec, not pre-commit, what to check."""
    (hook,) = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    assert (hook["id"], hook["language"], hook["pass_filenames"]) == ("freezecheck-verify", "system", False)
    assert hook["entry"] == "freezecheck verify"
