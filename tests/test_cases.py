"""Twenty small training scripts, eighteen with a known mistake: what `verify` must find, may find, and must not.

`cases/README.md` says what an `expect.json` holds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.readme import freezecheck_command

CASES = Path(__file__).with_name("cases")
NAMES = sorted(path.name for path in CASES.iterdir() if path.is_dir() and (path / "expect.json").is_file())
RIGHT = ["q_correct", "r_correct_lora"]
VERIFY = ("verify", "--spec", "freeze.toml", "--format", "json")


def expected(name: str, command: str = "verify") -> dict:
    return json.loads((CASES / name / "expect.json").read_text(encoding="utf-8"))[command]


def check(name: str, report: dict, command: str = "verify") -> None:
    """Hold one report against the case's expectation."""
    wanted = expected(name, command)
    findings = {}
    for finding in report["findings"]:
        findings.setdefault(finding["code"], []).append(finding)
    for code, prefixes in wanted["must"].items():
        assert code in findings, f"{code} is missing among {sorted(findings)}"
        tensors = [tensor for finding in findings[code] for tensor in finding["tensors"]]
        for prefix in prefixes:
            assert any(tensor.startswith(prefix) for tensor in tensors), f"{code} names {tensors}, not {prefix}"
    loud = {finding["code"] for finding in report["findings"] if finding["severity"] != "note"}
    assert loud <= {*wanted["must"], *wanted["may"]}
    for code, piece in wanted["line"].items():
        assert any(piece in source_line(name, finding["location"]) for finding in findings[code]), findings[code]
    assert report["exit_code"] == wanted["exit"]


def source_line(name: str, location: dict | None) -> str:
    """Return the line that a location points at, empty when it points nowhere."""
    if location is None:
        return ""
    return (CASES / name / location["file"]).read_text(encoding="utf-8").splitlines()[location["line"] - 1]


@pytest.mark.parametrize("name", [*RIGHT, *(name for name in NAMES if name not in RIGHT)])
def test_verify_finds_what_is_wrong_and_nothing_else(name):
    """Each mistake is found in its tensors and, where known, at its line; no other rule fires."""
    ran = freezecheck_command(*VERIFY, folder=CASES / name)
    assert ran.code == expected(name)["exit"], ran.out + ran.err
    check(name, json.loads(ran.out))


@pytest.mark.parametrize("name", ["q_correct", "e_no_grad"])
def test_the_installed_command_says_the_same(name):
    """A process of its own, from another folder, finds the same as the call inside this one."""
    command = [Path(sys.executable).parent / "freezecheck", "verify", "--spec", f"cases/{name}/freeze.toml"]
    done = subprocess.run(
        [*command, "--format", "json"], cwd=CASES.parent, capture_output=True, text=True, timeout=300, check=False
    )
    report = json.loads(done.stdout)
    inside = json.loads(freezecheck_command(*VERIFY, folder=CASES / name).out)
    assert done.returncode == expected(name)["exit"]
    assert [(f["code"], f["tensors"]) for f in report["findings"]] == [
        (f["code"], f["tensors"]) for f in inside["findings"]
    ]


def test_there_are_twenty_cases_and_two_are_right():
    """No case is lost, and the two right ones expect silence."""
    assert len(NAMES) == 20
    assert [name for name in NAMES if not expected(name)["must"]] == RIGHT


def test_a_false_alarm_and_a_miss_would_be_noticed():
    """The check can fail: on a finding that is not expected, and on one that is missing."""
    alarm = {"code": "FZ999", "severity": "warning", "tensors": [], "location": None}
    check("q_correct", {"findings": [{**alarm, "severity": "note"}], "exit_code": 0})
    with pytest.raises(AssertionError):
        check("q_correct", {"findings": [alarm], "exit_code": 0})
    with pytest.raises(AssertionError, match="FZ201 is missing"):
        check("e_no_grad", {"findings": [], "exit_code": 1})
