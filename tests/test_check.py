"""The straight line: what it says while it walks, and what a report says of the rules."""

from __future__ import annotations

import torch
from torch import nn

from freezecheck.check import report_subject, verify_subject
from freezecheck.spec import Spec
from freezecheck.subject import Subject

torch.set_num_threads(1)

SPEC = 'trainable = ["1"]\nfrozen = ["0", "nothing"]\n'


def subject(**known) -> Subject:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    return Subject(model, "model.py", files=("model.py",), **known)


class TestProgress:
    """A caller is told what is about to be done."""

    def test_the_steps_are_told_in_their_order(self):
        """From the search for inputs to the judgement."""
        said: list[str] = []
        verify_subject(subject(), Spec.of(trainable=["1"]), progress=said.append)
        assert said == [
            "looking for inputs that fit",
            "training step 1 of at most 3",
            "comparing every tensor with what it was",
            "judging",
        ]

    def test_inputs_that_are_given_are_not_looked_for_and_memory_is_told(self):
        """Only what is done is said."""
        said: list[str] = []
        verify_subject(subject(make_inputs=lambda: torch.randn(4, 2)), memory=True, progress=said.append)
        assert "looking for inputs that fit" not in said
        assert "measuring what each layer keeps for the backward pass" in said


class TestRulesOfAReport:
    """A report knows which rules were run and which were left out."""

    def test_report_runs_the_rules_of_the_spec_alone(self):
        """And says nothing of the others, which have no place there."""
        report = report_subject(subject(), Spec.parse(SPEC, "s.toml"))
        assert report.ran == ("FZ001", "FZ002", "FZ003", "FZ004")
        assert [finding.code for finding in report.findings] == ["FZ001"]
        assert report.skipped == ()

    def test_report_heeds_what_the_spec_ignores_and_says_so(self):
        """A rule left out by the spec is not silently gone."""
        report = report_subject(subject(), Spec.parse('ignore = ["FZ001", "FZ5"]\n' + SPEC, "s.toml"))
        assert report.findings == ()
        assert [item.codes for item in report.skipped] == [("FZ001",)]
        assert "FZ001" not in report.ran

    def test_without_a_spec_report_runs_and_misses_nothing(self):
        """There is no intent to judge by."""
        report = report_subject(subject())
        assert (report.ran, report.findings, report.skipped) == ((), (), ())

    def test_verify_runs_or_skips_every_rule_that_has_a_place(self):
        """No rule is both run and skipped, and what it found it also ran."""
        report = verify_subject(subject(), Spec.parse(SPEC, "s.toml"), ignore=("FZ503",))
        skipped = {code for item in report.skipped for code in item.codes}
        assert "FZ503" in skipped
        assert not skipped & set(report.ran)
        assert {finding.code for finding in report.findings} <= set(report.ran)
        assert report.files == ("model.py",)
