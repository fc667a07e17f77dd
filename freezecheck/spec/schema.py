"""The keys of a freeze spec as pydantic models: the only place that says what each key takes.

The published JSON Schema is generated from here, so it cannot disagree with the parser.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError, core_schema

from ..discover import rules
from .selectors import parse_selector

SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"
Dtype = Literal[
    "bfloat16",
    "bool",
    "complex64",
    "complex128",
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
]


def _selector(text: str) -> str:
    try:
        parse_selector(text)
    except ValueError as error:
        raise PydanticCustomError("selector", "{why}", {"why": str(error)}) from None
    return text


def _takes_from_something(selectors: list[str]) -> list[str]:
    if selectors and all(text.startswith("!") for text in selectors):
        raise PydanticCustomError("only_negated", "holds only `!` selectors and so selects nothing")
    return selectors


def _code(code: str) -> str:
    if not any(rule.code.startswith(code) for rule in rules()):
        raise PydanticCustomError("rule_code", "unknown rule")
    return code


def _bare_shape(value: Any) -> Any:
    if isinstance(value, list) and value and all(type(size) is int for size in value):
        raise PydanticCustomError("bare_shape", "bare shape")
    return value


def _branch(value: object) -> str | None:
    kinds = ((str, "<string>"), (dict, "<table>"), (list, "<tables>"))
    return next((tag for kind, tag in kinds if isinstance(value, kind)), None)


SelectorText = Annotated[str, Field(min_length=1), AfterValidator(_selector)]
SelectorList = Annotated[list[SelectorText], AfterValidator(_takes_from_something)]
Reference = Annotated[str, Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class InputTable(_Table):
    """One example input: a random tensor of this shape."""

    shape: Annotated[
        list[Annotated[int, Field(ge=1)]], Field(description="The tensor's size, the batch first: [2, 3, 224, 224].")
    ]
    dtype: Annotated[Dtype, Field(description="As torch names it, without `torch.`.")] = "float32"
    low: Annotated[float | None, Field(description="Smallest value drawn.")] = None
    high: Annotated[float | None, Field(description="Upper bound of the values drawn, itself not drawn.")] = None


class OptimizerTable(BaseModel):
    """An optimizer of torch.optim by name; every other key is an argument of its constructor."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: Annotated[Reference, Field(description='The class\'s name in torch.optim, such as "AdamW".')]


class ExpectTable(_Table):
    """A lock on the counts: the check fails when the model no longer has exactly so many parameters."""

    trainable_parameters: Annotated[
        int | None, Field(ge=0, description="Elements of all parameters that require grad, tied tensors once.")
    ] = None
    frozen_parameters: Annotated[
        int | None, Field(ge=0, description="Elements of all parameters that do not require grad, tied tensors once.")
    ] = None


class PretrainedTable(_Table):
    """A checkpoint that holds several state dicts, and which of them is meant."""

    file: Annotated[Reference, Field(description="A checkpoint's file or folder, relative to the spec.")]
    key: Annotated[Reference, Field(description="Where its weights lie in the file, such as `ema` or `model.encoder`.")]


Optimizer = Annotated[
    Annotated[Reference, Tag("<string>")] | Annotated[OptimizerTable, Tag("<table>")],
    Discriminator(_branch, "branch", "a string or a table"),
]
Inputs = Annotated[
    Annotated[Reference, Tag("<string>")]
    | Annotated[InputTable, Tag("<table>")]
    | Annotated[list[InputTable], Field(min_length=1), BeforeValidator(_bare_shape), Tag("<tables>")],
    Discriminator(_branch, "branch", "a table, a list of tables or a string"),
]


Pretrained = Annotated[
    Annotated[Reference, Tag("<string>")] | Annotated[PretrainedTable, Tag("<table>")],
    Discriminator(_branch, "branch", "a string or a table"),
]


class _Lists(_Table):
    trainable: Annotated[SelectorList | None, Field(description="Selectors of the tensors that train.")] = None
    frozen: Annotated[SelectorList | None, Field(description="Selectors of the tensors that must not change.")] = None
    unchecked: Annotated[
        SelectorList | None, Field(description="Selectors of the tensors of which nothing is expected.")
    ] = None
    rest: Annotated[
        Literal["frozen", "trainable", "unchecked"] | None,
        Field(
            description="What is expected of tensors that no list names. Left out: the opposite when only one of"
            " `trainable` and `frozen` is given, else unchecked."
        ),
    ] = None
    buffers_may_move: Annotated[
        SelectorList | None, Field(description="Selectors of the buffers that may change although expected frozen.")
    ] = None
    eval: Annotated[
        SelectorList | None,
        Field(description="Selectors of the modules that the training loop puts back into eval mode."),
    ] = None
    steps: Annotated[int | None, Field(ge=1, description="How many training steps the probe takes at most.")] = None
    ignore: Annotated[
        list[Annotated[str, Field(pattern=r"^FZ[0-9]{0,3}$"), AfterValidator(_code)]] | None,
        Field(description="Rule codes, or their beginnings, that are not reported: `FZ503`, `FZ4`."),
    ] = None


class PhaseTable(_Lists):
    """A stage of the training, on the model as the stage before left it. A key left out has the value of the top."""

    name: Annotated[Reference, Field(description="What findings call the phase and `--phase` takes; no two alike.")]
    setup: Annotated[
        Reference | None,
        Field(
            description="`file.py:function`, called when the phase begins: (model, optimizer) → None, or the optimizer"
            " to use from then on (or a list). `optimizer` is a list where there are several."
        ),
    ] = None
    expect: Annotated[ExpectTable | None, Field(description="A lock on the counts of parameters in this phase.")] = None


class SpecTable(_Lists):
    """Which tensors of a PyTorch model train and which are frozen."""

    model_config = ConfigDict(title="freezecheck spec")

    target: Annotated[
        Reference | None,
        Field(description="The model: `model.py`, `model.py:NAME`, `package.module:NAME`, `torchvision:NAME`."),
    ] = None
    optimizer: Annotated[
        Optimizer | None,
        Field(description='`"train.py:build_optimizer"`, or a table such as `{ name = "AdamW", lr = 1e-3 }`.'),
    ] = None
    inputs: Annotated[
        Inputs | None,
        Field(description='A table with a shape, a list of them (positional), or `"file.py:function"`.'),
    ] = None
    loss: Annotated[
        Reference | None,
        Field(description="`file.py:function`: (model, inputs) → scalar tensor; does its own forward."),
    ] = None
    pretrained: Annotated[
        Pretrained | None,
        Field(
            description="The checkpoint that the model starts from: what is frozen must be as it is in there."
            ' `"base.pt"`, or `{ file = "base.pt", key = "ema" }`.'
        ),
    ] = None
    expect: Annotated[
        ExpectTable | None,
        Field(description="A lock on the counts of parameters; in the last phase, where there are phases."),
    ] = None
    phase: Annotated[
        list[PhaseTable] | None,
        Field(
            min_length=1,
            description="Training in stages, one after another on the same model; the checks are made in each.",
        ),
    ] = None


KEYS: dict[str, list[str]] = {
    "": list(SpecTable.model_fields),
    "inputs": list(InputTable.model_fields),
    "expect": list(ExpectTable.model_fields),
    "phase": list(PhaseTable.model_fields),
    "pretrained": list(PretrainedTable.model_fields),
}
"""The keys of the spec's tables, those of the top under the empty name."""


class _TomlSchema(GenerateJsonSchema):
    """TOML knows no null, and a title made of the key's own name says nothing."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        if schema.get("default") is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's own signature
        return False


def errors(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Everything wrong with the values of a spec, as pydantic's errors: `type`, `loc`, `input`, `msg` and `ctx`."""
    try:
        SpecTable.model_validate(data)
    except ValidationError as error:
        return [{**found, "loc": _plain(found["loc"])} for found in error.errors(include_url=False)]
    return []


def _plain(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The location without pydantic's name for the branch of a union."""
    return (loc[0], *loc[2:]) if len(loc) > 1 and loc[0] in ("inputs", "optimizer", "pretrained") else loc


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a spec."""
    return {"$schema": SCHEMA_ID, **SpecTable.model_json_schema(schema_generator=_TomlSchema)}
