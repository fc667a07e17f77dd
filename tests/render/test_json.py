"""The JSON report: valid against the published schema, and true to the contract letter by letter."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files

import jsonschema
import pytest

from freezecheck.errors import FreezecheckError, ProbeError, SpecError, TargetError, UsageError
from freezecheck.records import Location, Skipped
from freezecheck.render._renderer import Style
from freezecheck.render.json_format import RENDERER
from tests.render.golden import failed, reported
from tests.render.samples import DRIFT, Sketch, bert, resnet50, tied, trained, verified

SCHEMA = json.loads((files("freezecheck") / "schema" / "report.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def strict(text: str) -> dict:
    """Read JSON as the standard has it, without NaN and Infinity, and hold it against the schema."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    document = json.loads(text, parse_constant=refuse)
    VALIDATOR.validate(document)
    return document


def rendered(report) -> dict:
    return strict(RENDERER.render(report, Style()))


def test_the_schema_is_itself_valid():
    """The published schema is a JSON Schema of draft 2020-12."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "report",
    [
        verified(),
        failed(),
        reported(resnet50(), "x"),
        reported(bert(), "x"),
        reported(tied(), "x", "s.toml"),
        reported(Sketch("Identity"), "x"),
    ],
    ids=["ok", "failed", "resnet50", "bert", "tied", "empty"],
)
def test_every_report_is_valid(report):
    """Reports of all kinds fit the schema."""
    rendered(report)


def test_the_keys_are_the_contract_s_in_its_order():
    """What a program finds at the top, in a layer, in a tensor and in a finding."""
    document = rendered(failed())
    assert list(document) == [
        *("schema_version", "freezecheck_version", "command", "target", "spec", "ok", "exit_code", "summary"),
        *("layers", "tensors", "findings", "conditions", "skipped"),
    ]
    assert (
        " ".join(document["layers"][0])
        == "name type depth trainable frozen expected actual held_by training saved_bytes findings"
    )
    assert " ".join(document["tensors"][0]) == (
        "name aliases kind shape dtype numel requires_grad expected gradient moved max_abs_change "
        "optimizer_group lr weight_decay"
    )
    assert " ".join(document["findings"][0]) == "code name severity phase tensors message fix evidence location"
    assert document["findings"][0]["location"] == {"file": "train.py", "line": 17, "function": "Net.forward"}


def test_tied_tensors_are_counted_once():
    """The summary counts what exists, not how often it is named."""
    document = rendered(reported(tied(), "x"))
    assert document["summary"]["parameters"] == {"total": 5248, "trainable": 3200, "frozen": 2048}
    (emb,) = [tensor for tensor in document["tensors"] if tensor["name"] == "emb.weight"]
    assert emb["aliases"] == ["lm_head.weight"]


def test_what_was_not_seen_is_null():
    """Without a probe there is no gradient, no movement and no optimizer."""
    (tensor, *_) = rendered(reported(resnet50(), "x"))["tensors"]
    unseen = ("gradient", "moved", "max_abs_change", "optimizer_group", "lr", "weight_decay")
    assert [tensor[key] for key in unseen] == [None] * len(unseen)


def test_the_optimizer_s_numbers_are_there():
    """A tensor in an optimizer carries its group, learning rate and weight decay."""
    head = {tensor["name"]: tensor for tensor in rendered(verified())["tensors"]}["head.weight"]
    assert (head["optimizer_group"], head["lr"], head["weight_decay"]) == (0, 0.1, 0.01)


def test_numbers_that_json_does_not_have_become_null():
    """NaN and infinity, in a tensor's row and deep in the evidence, are null."""
    sketch = trained()
    sketch.facts["head.weight"] = replace(sketch.facts["head.weight"], max_abs_change=float("inf"))
    odd = replace(DRIFT, evidence={"values": [1.0, float("nan"), {"x": float("-inf")}]})
    document = rendered(verified([odd], sketch))
    assert document["findings"][0]["evidence"] == {"values": [1.0, None, {"x": None}]}
    assert {t["name"]: t for t in document["tensors"]}["head.weight"]["max_abs_change"] is None


def test_a_layer_knows_the_findings_of_its_subtree():
    """A finding in a leaf is told of its layer and of all above it, and of no other."""
    codes = {layer["name"]: layer["findings"] for layer in rendered(verified([DRIFT]))["layers"]}
    assert codes == {"": ["FZ501"], "bn": ["FZ501"], "conv": [], "head": []}


def test_skipped_is_told():
    """What was not checked is in the report, with the reason."""
    document = rendered(verified(skipped=(Skipped("FZ401", "no optimizer"),)))
    assert document["skipped"] == [{"what": "FZ401", "why": "no optimizer"}]


@pytest.mark.parametrize("kind", [UsageError, TargetError, SpecError, ProbeError, FreezecheckError])
def test_an_error_has_its_own_form(kind):
    """Exit code 2 in this format: the kind, the message, the place or null, and what to do."""
    assert RENDERER.error is not None
    document = strict(RENDERER.error(kind("no such file", hint="look", location=Location("a.py", 3))))
    assert document == {
        "schema_version": 1,
        "ok": False,
        "exit_code": 2,
        "error": {
            "kind": kind.kind,
            "message": "no such file",
            "location": {"file": "a.py", "line": 3, "function": None},
            "hint": "look",
        },
    }
    assert strict(RENDERER.error(kind("x")))["error"]["location"] is None


def test_several_reports_are_one_document():
    """Two specs give one array, which the schema knows, in their order; one report stays as it is."""
    one, two = RENDERER.render(verified(), Style()), RENDERER.render(failed(), Style())
    assert [report["ok"] for report in strict(RENDERER.join([one, two]))] == [True, False]
    assert RENDERER.join([one]) == one


def test_the_schema_refuses_what_is_not_said_in_it():
    """The check can fail: a key too many or a wrong word is no valid report."""
    document = rendered(verified())
    for broken in ({**document, "more": 1}, {**document, "exit_code": 256}, {**document, "layers": [{}]}):
        with pytest.raises(jsonschema.ValidationError):
            VALIDATOR.validate(broken)
