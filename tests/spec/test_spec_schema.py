"""The published JSON Schema of the spec and the parser agree."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from strategies import spec_tables

from freezecheck.errors import SpecError
from freezecheck.spec import Spec
from freezecheck.spec.schema import KEYS

SCHEMA = Spec.json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
MEANING_ONLY = re.compile(
    "`FZ[0-9]{0,3}` in `ignore` is no rule's code|needs low < high|is the name of more than one phase"
    "|names a file that does not exist"
)
"""Mistakes of meaning, which a schema cannot know."""


def test_the_shipped_file_is_the_generated_one() -> None:
    """The file in the package is what `json.dumps(Spec.json_schema(), indent=2, ensure_ascii=False)` gives now."""
    shipped = (files("freezecheck") / "schema" / "spec.schema.json").read_text(encoding="utf-8")
    assert shipped == json.dumps(SCHEMA, indent=2, ensure_ascii=False) + "\n"


def test_it_is_a_schema_and_describes_every_key() -> None:
    """It is valid draft 2020-12, has a title, and an editor can show a sentence for each key."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["title"]
    tables = [SCHEMA, *SCHEMA["$defs"].values()]
    described = {key for table in tables for key, value in table["properties"].items() if value.get("description")}
    assert described == {key for keys in KEYS.values() for key in keys}


def parses(keys: dict[str, Any]) -> bool:
    """Whether the parser finds nothing wrong, mistakes of meaning aside."""
    try:
        Spec.of(**keys)  # type: ignore[arg-type]  # right and wrong keys alike
    except SpecError as error:
        return all(MEANING_ONLY.search(line) for line in error.message.splitlines())
    return True


@given(spec_tables)
@example({"trainable": ["fc"], "inputs": {"shape": [2, 3], "dtype": "float16"}, "expect": {"frozen_parameters": 0}})
@example({"inputs": [{"shape": [1]}, {"shape": []}], "optimizer": {"name": "SGD", "lr": 0.1, "betas": [0.9, 0.99]}})
@example({"inputs": [{"shape": [1]}, {"shape": [0]}]})
@example({"optimizer": {"lr": 0.1}})
@example({"ignore": [""]})
@example({"ignore": ["FZ999"]})
@example({"pretrained": "a.pt"})
@example({"pretrained": {"file": "a.pt"}})
@example({"phase": [{"name": "a", "setup": "a.py:f", "trainable": ["fc"], "expect": {"frozen_parameters": 0}}]})
@example({"phase": [{"name": "a"}, {"name": "a"}]})
@example({"phase": [{"trainable": ["fc"]}]})
@example({"phase": {"name": "a"}})
def test_schema_and_parser_agree(keys: dict[str, Any]) -> None:
    """What the schema rejects the parser rejects, and the other way round."""
    assert VALIDATOR.is_valid(keys) == parses(keys)


@pytest.mark.parametrize("key", ["target", "steps", "expect", "eval"])
def test_null_is_nothing_to_the_schema(key: str) -> None:
    """TOML knows no null, so an editor must not offer it."""
    assert not VALIDATOR.is_valid({key: None})
