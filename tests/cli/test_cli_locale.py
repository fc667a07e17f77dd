"""Where the locale knows only ASCII, names that are not still give a report, in the file as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from freezecheck.cli.output import readable
from freezecheck.discover import renderers

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
MODEL = """\
import torch
from torch import nn

class Nätz(nn.Module):
    def __init__(self):
        super().__init__()
        self.add_module("schicht_ü", nn.Linear(4, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.get_submodule("schicht_ü")(x).detach())

model = Nätz()
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "modèl.py").write_text(MODEL, encoding="utf-8")
    return tmp_path


def freezecheck(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "freezecheck", *words]
    return subprocess.run(command, cwd=folder, env={**os.environ, **ASCII}, capture_output=True, check=False)


def test_every_format_is_written(folder):
    """To stdout with question marks, to files as UTF-8; nothing ends in a traceback."""
    formats = [name for name, renderer in renderers().items() if "verify" in renderer.commands]
    files = [word for name in formats for word in ("--format", f"{name}=out.{name}")]
    done = freezecheck(folder, "verify", "modèl.py", "--input-shape", "2,4", *files, "--format", "text")
    assert done.returncode == 1, done.stderr.decode()
    assert b"schicht_?.weight" in done.stdout
    assert "modèl.py does not train what" in (folder / "out.text").read_text(encoding="utf-8")
    assert "schicht_ü.weight" in (folder / "out.markdown").read_text(encoding="utf-8")
    assert json.loads((folder / "out.sarif").read_text(encoding="utf-8"))["runs"][0]["results"]


@pytest.mark.parametrize(
    ("words", "code"),
    [(("report", "modèl.py"), 0), (("verify", "nichtdä.py"), 2), (("init", "modèl.py", "--output", "neü.toml"), 0)],
)
def test_every_command_ends_as_it_should(words, code, folder):
    """A report, an error that names the file, and a draft that is found from where it lies."""
    done = freezecheck(folder, *words)
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    if words[0] == "init":
        assert 'target = "modèl.py"' in (folder / "neü.toml").read_text(encoding="utf-8")


def test_a_name_is_written_as_the_bytes_it_has():
    """What Python keeps of a name that its encoding lacks is UTF-8 again, or a mark where it never was."""
    assert readable("ä".encode().decode("ascii", "surrogateescape")) == "ä"
    assert readable("mod\udce8l.py") == "mod\N{REPLACEMENT CHARACTER}l.py"
    assert readable("plain ü") == "plain ü"
