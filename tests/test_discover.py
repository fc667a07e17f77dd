"""The registry: what a package's modules define is found by name, and no more is imported than is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from freezecheck.discover import renderer, renderers

ONE = """
import sys
from freezecheck.discover import renderer
renderer("text")
sys.exit("freezecheck.render.html" in sys.modules)
"""


@pytest.mark.parametrize("name", list(renderers()))
def test_a_format_is_the_same_one_alone_and_among_all(name):
    """Asked for by its name, a format is the very object that the registry of all formats holds."""
    assert renderer(name) is renderers()[name]


def test_a_format_that_there_is_not_is_a_key_error():
    """No format is found under a name that no module has."""
    with pytest.raises(KeyError):
        renderer("pdf")


def test_the_other_formats_are_not_imported():
    """A process that wants the text alone does not pay for the page."""
    assert subprocess.run([sys.executable, "-c", ONE], check=False).returncode == 0
