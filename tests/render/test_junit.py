"""JUnit XML, read by a library that reads other tools' files."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junitparser import Error, Failure, JUnitXml, Skipped

from freezecheck import records
from freezecheck.errors import TargetError
from freezecheck.records import Location, Severity
from freezecheck.render._renderer import Style
from freezecheck.render.junit import RENDERER
from tests.render.golden import failed, reported
from tests.render.placed import checkout, everywhere
from tests.render.samples import DRIFT, DROPOUT, IN_OPTIMIZER, Sketch, verified

__all__ = ["checkout"]

RAN = ("FZ101", "FZ401", "FZ501", "FZ503")


def read(text: str) -> JUnitXml:
    return JUnitXml.fromstring(text.encode())


def cases(report) -> dict:
    (suite,) = read(RENDERER.render(report, Style()))
    return {case.name.partition(" ")[0]: case for case in suite}


def result(case):
    """The one result of a case; None when it passed."""
    (result,) = case.result or [None]
    return result


def test_every_rule_that_ran_is_a_case():
    """Also those that found nothing, which pass."""
    found = cases(replace(verified(), ran=RAN))
    assert list(found) == list(RAN)
    assert found["FZ101"].name == "FZ101 frozen-requires-grad"
    assert all(result(case) is None for case in found.values())


def test_a_note_does_not_fail_a_case():
    """What does not fail the check does not fail its case, and is told all the same."""
    (case,) = cases(verified([DROPOUT])).values()
    assert result(case) is None
    assert DROPOUT.message in case.system_out


def test_fail_on_decides_which_cases_fail():
    """Exactly those whose finding makes the exit code 1."""
    for fail_on, failing in ((Severity.ERROR, {"FZ501"}), (Severity.NOTE, {"FZ501", "FZ401", "FZ503"})):
        found = cases(replace(failed(), ran=RAN, skipped=(), fail_on=fail_on))
        assert {code for code, case in found.items() if isinstance(result(case), Failure)} == failing


def test_a_failure_says_all(checkout):
    """Its message is what is wrong, its text has tensors, line and mend, its place is in the case."""
    case = cases(everywhere())["FZ402"]
    assert (result(case).message, result(case).type) == ("What is wrong.", "error")
    assert result(case).text == "error FZ402 a-rule\nhead.weight\nWhat is wrong.\nfix: the_mend()"
    assert (case._elem.get("file"), case._elem.get("line")) == ("models #1 ü/freeze.toml", "3")


def test_several_findings_of_a_rule_are_one_failure():
    """Viewers show one failure for a case, so that one has both."""
    other = replace(DRIFT, tensors=("bn2.running_mean",), message="Another one.")
    case = cases(verified([DRIFT, other]))["FZ501"]
    assert DRIFT.message in result(case).text
    assert "bn2.running_mean\nAnother one." in result(case).text


def test_what_was_skipped_is_a_skipped_case():
    """Each rule by itself with its reason, and what is no rule under its own words."""
    skipped = (
        records.Skipped("FZ401–FZ403", "no optimizer", ("FZ401", "FZ402", "FZ403")),
        records.Skipped("`optimizer` in train.py", "it is an int"),
    )
    found = cases(verified(skipped=skipped))
    assert list(found) == ["FZ401", "FZ402", "FZ403", "`optimizer`"]
    assert {result(case).message for case in found.values()} == {"no optimizer", "it is an int"}
    assert all(isinstance(result(case), Skipped) for case in found.values())


@pytest.mark.parametrize("report", [verified(), failed(), reported(Sketch("Identity"), "x.py")])
def test_the_totals_are_those_of_the_cases(report):
    """Counted by the reader and as written."""
    read_back = read(RENDERER.render(report, Style()))
    written = (read_back.tests, read_back.failures, read_back.errors, read_back.skipped)
    read_back.update_statistics()
    assert (read_back.tests, read_back.failures, read_back.errors, read_back.skipped) == written


def test_the_suite_says_what_was_checked_and_how():
    """Its name, the conditions as properties, and the verdict as its output."""
    (suite,) = read(RENDERER.render(failed(), Style()))
    assert suite.name == "freezecheck verify train.py against freeze.toml"
    assert {one.name: one.value for one in suite.properties()}["optimizer"] == "SGD from train.py:optimizer"
    assert suite._elem.findtext("system-out").splitlines()[-1].startswith("freezecheck: 1 error")


def test_an_error_is_an_error():
    """A check that could not be made is an error, which no viewer takes for a failure."""
    ((case,),) = read(RENDERER.error(TargetError("it raised", hint="mend it", location=Location("a.py", 3))))
    assert isinstance(result(case), Error)
    assert (result(case).message, result(case).text) == ("it raised", "it raised\nat a.py:3\nhint: mend it")


def test_several_specs_are_several_suites():
    """In their order, with the totals of all."""
    document = read(RENDERER.join([RENDERER.render(failed(), Style()), RENDERER.error(TargetError("no"))]))
    assert [suite.name for suite in document] == [
        "freezecheck verify train.py against freeze.toml",
        "freezecheck could not check",
    ]
    assert (document.failures, document.errors) == (2, 1)


@given(st.text(st.characters(codec=None)), st.text())
def test_whatever_a_name_holds_it_is_xml(name, message):
    """Angle brackets, control characters and lone surrogates leave the document readable."""
    found = cases(
        verified([replace(IN_OPTIMIZER, tensors=(name,), message=message)], skipped=(records.Skipped(name, message),))
    )
    assert "FZ401" in found
