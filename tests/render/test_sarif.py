"""SARIF, held against the published schema and against what GitHub asks for beyond it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import jsonschema
import pytest

from freezecheck.discover import rules
from freezecheck.errors import ProbeError, UsageError
from freezecheck.records import Location, Report, Skipped
from freezecheck.render._renderer import Style
from freezecheck.render.sarif import RENDERER
from tests.render.golden import failed, reported
from tests.render.placed import EVERYWHERE, checkout, everywhere, finding, placed
from tests.render.samples import DRIFT, IN_OPTIMIZER, Sketch, tied, verified

__all__ = ["checkout"]

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft4Validator(SCHEMA, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER)


def read(text: str) -> dict:
    document = json.loads(text)
    VALIDATOR.validate(document)
    return document


def run_of(report: Report) -> dict:
    (run,) = read(RENDERER.render(report, Style()))["runs"]
    return run


def places(run: dict) -> list[tuple[str, int]]:
    """Where each result is shown, with its URI as it stands."""
    physical = [result["locations"][0]["physicalLocation"] for result in run["results"]]
    return [(one["artifactLocation"]["uri"], one["region"]["startLine"]) for one in physical]


def test_the_schema_would_refuse():
    """The schema at hand is a schema and can fail: a result without a message is not valid."""
    jsonschema.Draft4Validator.check_schema(SCHEMA)
    document = read(RENDERER.render(failed(), Style()))
    del document["runs"][0]["results"][0]["message"]
    assert not VALIDATOR.is_valid(document)


class TestValid:
    """Whatever is reported is valid SARIF."""

    @pytest.mark.parametrize(
        "report",
        [verified(), failed(), reported(tied(), "x.py", "s.toml"), reported(Sketch("Identity"), "timm:resnet18")],
        ids=["ok", "failed", "report", "empty"],
    )
    def test_reports(self, report):
        """One run; a result for each finding and no other."""
        assert [one["ruleId"] for one in run_of(report)["results"]] == [one.code for one in report.findings]

    def test_an_error(self):
        """A check that could not be made is a run that did not succeed, with the place and no results."""
        error = ProbeError("forward raised\nValueError", hint="give a shape", location=Location("net.py", 3))
        (run,) = read(RENDERER.error(error))["runs"]
        (invocation,) = run["invocations"]
        (notification,) = invocation["toolExecutionNotifications"]
        assert (invocation["executionSuccessful"], invocation["exitCode"], run["results"]) == (False, 2, [])
        assert notification["message"]["text"] == "forward raised\nValueError\nat net.py:3\nhint: give a shape"
        assert notification["locations"][0]["physicalLocation"]["region"] == {"startLine": 3}

    def test_several_specs_are_runs_of_different_categories(self):
        """GitHub refuses an upload in which two runs of one tool have the same category."""
        texts = [RENDERER.render(replace(failed(), spec=name), Style()) for name in ("a.toml", "b.toml")]
        runs = read(RENDERER.join([*texts, RENDERER.error(UsageError("no"))]))["runs"]
        categories = [run.get("automationDetails", {}).get("id") for run in runs]
        assert categories == ["freezecheck/verify/a.toml/", "freezecheck/verify/b.toml/", None]


class TestPlaces:
    """Every result has a file and a line; paths are relative URIs from the repository's root."""

    def test_each_finding_has_the_best_place_there_is(self, checkout):
        """The code's line, the selector's, the key's that the rest follows from, the spec's first."""
        run = run_of(everywhere())
        assert [(unquote(uri), line) for uri, line in places(run)] == [
            (f"models #1 ü/{file}", line) for file, line in EVERYWHERE
        ]
        assert {uri.rpartition("/")[0] for uri, _ in places(run)} == {"models%20%231%20%C3%BC"}

    def test_without_a_spec_it_is_the_model_s_file(self, checkout):
        """By the target's name, else by the files that were loaded, else by what the target is called."""
        report = placed(finding("FZ206"), spec=False)
        assert places(run_of(replace(report, target="net.py:build")))[0][0].endswith("/net.py")
        loaded = (str(Path.cwd() / "pack" / "net.py"),)
        assert places(run_of(replace(report, target="pack.net:Net", files=loaded)))[0][0].endswith("/pack/net.py")
        assert places(run_of(replace(report, target="timm:vit")))[0] == ("models%20%231%20%C3%BC/timm%3Avit", 1)

    def test_the_root_is_given_once_and_paths_count_from_it(self, checkout):
        """The root is an absolute folder's URI; a file outside of it has an absolute URI of its own."""
        run = run_of(placed(DRIFT, replace(DRIFT, location=Location("/opt/x y/lib.py", 4))))
        assert run["originalUriBaseIds"] == {"SRCROOT": {"uri": f"{checkout.as_uri()}/"}}
        inside, outside = (r["locations"][0]["physicalLocation"]["artifactLocation"] for r in run["results"])
        assert inside["uriBaseId"] == "SRCROOT"
        assert outside == {"uri": "file:///opt/x%20y/lib.py"}

    def test_tensors_are_logical_locations(self):
        """All of them, also where the message names only a few."""
        named = run_of(failed())["results"][1]["locations"][0]["logicalLocations"]
        assert [one["fullyQualifiedName"] for one in named] == list(IN_OPTIMIZER.tensors)


class TestFingerprints:
    """GitHub follows a finding by its fingerprint."""

    def prints(self, *findings):
        return [one["partialFingerprints"]["freezecheckFinding/v1"] for one in run_of(verified(findings))["results"]]

    def test_they_survive_a_move_of_the_line(self):
        """Lines added above, and one tensor more, leave a finding what it was."""
        moved = replace(DRIFT, location=replace(DRIFT.location, line=99), tensors=(*DRIFT.tensors, "z"))
        assert self.prints(DRIFT) == self.prints(moved)

    def test_they_tell_findings_apart(self):
        """Another rule, line, phase or first tensor is another finding, and so is an equal one beside it."""
        several = [
            DRIFT,
            DRIFT,
            replace(DRIFT, location=replace(DRIFT.location, text="other()")),
            replace(DRIFT, phase="head"),
            IN_OPTIMIZER,
            replace(IN_OPTIMIZER, tensors=("other",)),
        ]
        assert len(set(self.prints(*several))) == len(several)


class TestRules:
    """What GitHub shows of a rule comes from its docstring."""

    def test_every_rule_that_ran_is_described(self):
        """Short and full description, help in Markdown, and the level of each."""
        every = tuple(rule.code for rule in rules())
        described = run_of(replace(failed(), ran=every))["tool"]["driver"]["rules"]
        assert [one["id"] for one in described] == list(every)
        for one, rule in zip(described, rules(), strict=True):
            assert one["help"]["markdown"] == rule.doc.strip()
            assert one["defaultConfiguration"]["level"] == rule.severity
            for text in (one["shortDescription"]["text"], one["fullDescription"]["text"]):
                assert text.endswith((".", ":"))
                assert " ".join(text.split()) == text

    def test_results_point_at_their_rule(self):
        """The index of each result is that of its rule among those described."""
        run = run_of(failed())
        described = run["tool"]["driver"]["rules"]
        assert [described[one["ruleIndex"]]["id"] for one in run["results"]] == ["FZ501", "FZ401", "FZ503"]

    def test_what_was_skipped_is_told(self):
        """Not as results: as notifications of the run."""
        run = run_of(verified(skipped=(Skipped("FZ401–FZ403", "no optimizer", ("FZ401", "FZ403")),)))
        (notification,) = run["invocations"][0]["toolExecutionNotifications"]
        assert notification["message"]["text"] == "not checked: FZ401–FZ403 — no optimizer"
        assert [one["id"] for one in run["tool"]["driver"]["rules"]] == ["FZ401", "FZ403"]
