"""What is installed: the names, the version, the typing marker, and where the package under test comes from."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

import freezecheck

ROOT = Path(__file__).resolve().parents[1]
HOME = Path(freezecheck.__file__).resolve().parent


def test_the_package_under_test_is_the_one_meant():
    """Beside the package's source its source is tested; away from it, the installed wheel and nothing else."""
    source = ROOT / "freezecheck"
    installed = Path(sysconfig.get_path("purelib")).resolve() / "freezecheck"
    assert (source if source.is_dir() else installed) == HOME


@pytest.mark.parametrize("name", freezecheck.__all__)
def test_every_public_name_is_there(name):
    """Each name that the package promises can be had from it."""
    assert getattr(freezecheck, name) is not None
    assert name == "__version__" or name in dir(freezecheck) or hasattr(freezecheck, name)


def test_a_wrong_name_is_an_attribute_error():
    """A name that is not public gets Python's usual answer."""
    with pytest.raises(AttributeError, match="has no attribute 'verfy'"):
        _ = freezecheck.verfy


def test_the_version_is_the_same_everywhere():
    """The package, its metadata, the project file and the command agree on the version."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert freezecheck.__version__ == declared == importlib.metadata.version("freezecheck")
    shown = subprocess.run(
        [Path(sys.executable).parent / "freezecheck", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert declared in shown.stdout


def test_the_package_ships_its_types_and_its_schemas():
    """The marker for type checkers and the published JSON Schemas are beside the code."""
    assert (HOME / "py.typed").is_file()
    assert sorted(path.name for path in (HOME / "schema").glob("*.json"))


def test_every_requirement_is_used():
    """The package requires at run time what it imports, and no more."""
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    required = {re.split(r"[^\w-]", text)[0].replace("-", "_") for text in requirements}
    imported = {
        name.partition(".")[0]
        for path in HOME.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom) and node.module and not node.level
            else []
        )
    }
    optional = {
        "torchvision",
        "timm",
        "transformers",
        "lightning",
        "pytorch_lightning",
        "pytest",
    }  # used where the user has them
    outside = imported - set(sys.stdlib_module_names) - optional - {"freezecheck", "pydantic_core"}
    assert outside == required
