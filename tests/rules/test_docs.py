"""The examples in the rules' docstrings are run: the bad one is found, the good one is silent."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from freezecheck.check import verify_subject
from freezecheck.discover import rules
from freezecheck.loading import load
from freezecheck.records import Need, Severity
from freezecheck.spec import Spec

torch.set_num_threads(1)

HEADINGS = ["What it does", "Why is this bad", "Example", "Use instead", "Known problems"]
# A rule that needs a watched training or two checkpoints has a script for its example; the tests of `freezecheck run`
# and of `freezecheck diff` are its place.
SHOWN = [rule for rule in rules() if rule.needs.isdisjoint({Need.TRAINING, Need.COMPARISON})]


def sections(rule):
    """Give each section of a rule's docstring under its heading."""
    _, *parts = re.split(r"^## (.+)$", rule.doc, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def blocks(text, language):
    """Give the code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def verified(tmp_path, monkeypatch):
    """Verify the model of a section, under the section's spec if it has one, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def verify(text):
        (model,) = blocks(text, "python")
        Path("model.py").write_text(model, encoding="utf-8")
        spec = None
        for toml in blocks(text, "toml"):
            Path("freeze.toml").write_text(toml, encoding="utf-8")
            if "pretrained" in toml:
                load("model.py")  # writes the checkpoint that the spec names
            spec = Spec.load("freeze.toml")
        return verify_subject(load("model.py", spec=spec), spec)

    return verify


@pytest.mark.parametrize("rule", SHOWN, ids=lambda rule: rule.code)
def test_what_to_use_instead_is_silent(rule, verified):
    """The recommended code gives no error and no warning, of this rule or of any other."""
    report = verified(sections(rule)["Use instead"])
    assert [f"{f.code}: {f.message}" for f in report.findings if f.severity is not Severity.NOTE] == []
    assert rule.code not in {finding.code for finding in report.findings}


@pytest.mark.parametrize("rule", SHOWN, ids=lambda rule: rule.code)
def test_the_example_is_found(rule, verified):
    """The example fires the rule that it explains, and whatever else it fires is no error."""
    report = verified(sections(rule)["Example"])
    assert rule.code in {finding.code for finding in report.findings}
    assert {f.code for f in report.findings if f.severity is Severity.ERROR} <= {rule.code}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.code)
def test_every_docstring_has_the_five_headings(rule):
    """A rule explains itself under the same headings as every other, beginning with one sentence."""
    assert list(sections(rule)) == HEADINGS
    assert re.fullmatch(r"[^\n]+\.\n\n", rule.doc.partition("## ")[0])


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.code)
def test_the_name_is_the_modules(rule):
    """The module that holds a rule is named after it, so that it is found without a list."""
    assert rule.check.__module__ == f"freezecheck.rules.{rule.name.replace('-', '_')}"
