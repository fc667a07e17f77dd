"""The freeze spec: what is expected of the model, read from TOML or given as Python lists.

Every mistake is found before any is reported, each with its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from ..errors import SpecError
from ..places import shown
from ..records import Counts, Expected, Location, Selector
from .mistakes import Mistake, described, in_words, nearest, spec_error, spelled
from .text import NO_FILE, Source, read, text_of
from .toml_lines import Path as TomlPath

FILE = "freezecheck.toml"
PROJECT = "pyproject.toml"
TABLE: TomlPath = ("tool", "freezecheck")
LISTS = ("trainable", "frozen", "unchecked", "buffers_may_move", "eval")
_NOTHING: Mapping[str, Any] = {}
REFERENCES = ("target", "optimizer", "inputs", "loss")
"""Keys that may name a Python file."""

_PYTHON_FILE = re.compile(r"(.+\.py)(?::.*)?", re.DOTALL)


@dataclass(frozen=True)
class InputSpec:
    """One example input: a random tensor."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    """As torch names it, without `torch.`."""
    low: float | None = None
    """Smallest value drawn; None leaves the choice to the dtype."""
    high: float | None = None
    """Upper bound of the values drawn, itself not drawn."""


class SpecKeys(TypedDict, total=False):
    """What `Spec.of` takes: the keys of the TOML file."""

    target: str
    trainable: Sequence[str]
    frozen: Sequence[str]
    unchecked: Sequence[str]
    buffers_may_move: Sequence[str]
    eval: Sequence[str]
    rest: str
    optimizer: str | Mapping[str, Any]
    inputs: str | Mapping[str, Any] | Sequence[Mapping[str, Any]]
    loss: str
    steps: int
    ignore: Sequence[str]
    pretrained: str | Mapping[str, str]
    expect: Mapping[str, int]
    phase: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Spec:
    """What is expected of a model's tensors, and how to train it for the check. See `Spec.load` and `Spec.of`."""

    path: str | None = None
    """The file it came from, as the user would type it; None when it came from Python."""
    folder: Path = field(default_factory=Path.cwd)
    """What relative paths in it mean."""
    target: str | None = None
    trainable: tuple[Selector, ...] = ()
    frozen: tuple[Selector, ...] = ()
    unchecked: tuple[Selector, ...] = ()
    buffers_may_move: tuple[Selector, ...] = ()
    eval: tuple[Selector, ...] = ()
    rest: Expected = Expected.UNCHECKED
    """What is expected of the tensors that no list names."""
    rest_said: bool = False
    """Whether the spec says so itself; else it follows from its lists."""
    optimizer: str | Mapping[str, Any] | None = None
    """A reference such as `train.py:build_optimizer`, or a table with the key `name` and constructor arguments."""
    inputs: str | tuple[InputSpec, ...] | None = None
    loss: str | None = None
    steps: int | None = None
    ignore: tuple[str, ...] = ()
    """Codes of rules, or beginnings of codes."""
    pretrained: str | None = None
    """The checkpoint that frozen tensors must be equal to, a path relative to `folder`."""
    pretrained_key: str | None = None
    """Which of the state dicts in it is meant, where it holds several."""
    expect: Counts | None = None
    phases: tuple[Phase, ...] = ()
    """The stages of the training, in their order; empty when the training has but one."""
    locations: Mapping[str, Location] = field(default_factory=dict, compare=False, repr=False)
    """Where each key stands; empty when the spec came from Python."""

    @classmethod
    def load(cls, path: str | Path) -> Spec:
        """Read a TOML file, the `[tool.freezecheck]` table of a pyproject.toml, or what a folder holds of these.

        Raises SpecError with every mistake, one `file:line: what` a line.
        """
        path = Path(path)
        if path.is_dir():
            found = cls.discover(path)
            if found is None:
                raise SpecError(
                    f"{shown(str(path))}: the folder holds no {FILE} and no pyproject.toml with [tool.freezecheck]",
                    hint="Write one with `freezecheck init TARGET`, or name the file.",
                )
            return found
        found = _load(path)
        if found is None:
            raise SpecError(
                f"{shown(str(path))}: it has no [tool.freezecheck] table",
                hint=f"Add the table, or put the spec into a {FILE} beside it.",
            )
        return found

    @classmethod
    def discover(cls, folder: str | Path) -> Spec | None:
        """Read the folder's freezecheck.toml, else its pyproject.toml's table; None when it has neither.

        Raises SpecError when the file found is wrong.
        """
        folder = Path(folder)
        if (folder / FILE).is_file():
            return _load(folder / FILE)
        return _load(folder / PROJECT) if (folder / PROJECT).is_file() else None

    @classmethod
    def parse(cls, text: str, path: str | Path | None = None) -> Spec:
        """Read a spec from TOML text; `path` is the file it stands in (it need not exist). Raises SpecError."""
        return _build(*read(text, None if path is None else Path(path)))

    @classmethod
    def of(cls, *, folder: str | Path = ".", **keys: Unpack[SpecKeys]) -> Spec:
        """Make a spec from Python values under the names of the TOML keys, None standing for a key left out.

        `folder` is what relative paths in it mean. Raises SpecError with every mistake.
        """
        given = {key: _plain(value) for key, value in keys.items() if value is not None}
        return _build(given, Source(None, Path(folder).absolute(), {}))

    def phase(self, name: str) -> Spec:
        """What is expected in one phase, as a spec without phases. Raises SpecError when there is no such phase."""
        for phase in self.phases:
            if phase.name == name:
                return phase.spec
        known = [phase.name for phase in self.phases]
        what = f"the spec {self.path or ''} has no phase `{name}`".replace("  ", " ")
        if not known:
            raise SpecError(what, hint="It has no [[phase]] at all.")
        raise SpecError(f"{what}{nearest(name, known)}", hint=f"Its phases are {', '.join(known)}.")

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """The JSON Schema (draft 2020-12) of the TOML file, for editors."""
        from .schema import json_schema

        return json_schema()


@dataclass(frozen=True)
class Phase:
    """A stage of the training, on the model as the stage before it left it."""

    name: str
    spec: Spec
    """What is expected in it: its own keys, and the spec's for those it leaves out. Has no phases itself."""
    setup: str | None = None
    """A function such as `train.py:unfreeze`, called with (model, optimizer) as the phase begins."""


def _load(path: Path) -> Spec | None:
    data, source = read(text_of(path), path)
    if path.name != PROJECT:
        return _build(data, source)
    tool = data.get("tool")
    if not isinstance(tool, dict) or "freezecheck" not in tool:
        return None
    table, source = tool["freezecheck"], replace(source, above=TABLE)
    if not isinstance(table, dict):
        raise spec_error([Mistake(f"`tool.freezecheck` must be a table, not {described(table)}", source.at(()))])
    return _build(table, source)


def _plain(value: object) -> Any:
    """Tuples and mappings as the lists and dicts that TOML would give."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _build(data: dict[str, Any], source: Source) -> Spec:
    from .schema import KEYS, errors

    wrong = errors(data)
    mistakes = [Mistake(in_words(error, KEYS), source.at(error["loc"])) for error in wrong]
    mistakes += _missing_files(data, source)
    if not wrong:
        mistakes += [*_empty_ranges(data, source), *_names_used_twice(data, source)]
    if mistakes:
        raise spec_error(mistakes)
    return _spec(data, source)


def _missing_files(data: Mapping[str, Any], source: Source) -> list[Mistake]:
    mistakes = []
    for loc, named in _named_files(data):
        file = source.folder / named
        if "\0" in named or not file.exists():
            beside = [other.name for other in file.parent.glob(f"*{file.suffix}")] if "\0" not in named else []
            what = (
                f"`{spelled(loc)}` names a file that does not exist: `{shown(str(file))}`{nearest(file.name, beside)}"
            )
            mistakes.append(Mistake(what, source.at(loc)))
    return mistakes


def _named_files(data: Mapping[str, Any]) -> Iterator[tuple[TomlPath, str]]:
    """Each key whose value names a file, and the file."""
    values: list[tuple[TomlPath, Any]] = [((key,), data.get(key)) for key in REFERENCES]
    values += [(("phase", n, "setup"), phase.get("setup")) for n, phase in _phases(data)]
    for loc, value in values:
        if isinstance(value, str) and (named := _PYTHON_FILE.fullmatch(value)):
            yield loc, named[1]
    pretrained, _ = _pretrained(data)
    if isinstance(pretrained, str) and pretrained:
        yield ("pretrained",), pretrained


def _phases(data: Mapping[str, Any]) -> list[tuple[int, Mapping[str, Any]]]:
    phases = data.get("phase")
    if not isinstance(phases, list):
        return []
    return [(n, phase) for n, phase in enumerate(phases) if isinstance(phase, Mapping)]


def _names_used_twice(data: Mapping[str, Any], source: Source) -> list[Mistake]:
    mistakes, seen = [], set()
    for n, phase in _phases(data):
        if phase["name"] in seen:
            what = f"`{phase['name']}` is the name of more than one phase"
            mistakes.append(Mistake(what, source.at(("phase", n, "name"))))
        seen.add(phase["name"])
    return mistakes


def _empty_ranges(data: Mapping[str, Any], source: Source) -> list[Mistake]:
    mistakes = []
    for loc, table in _tables(data.get("inputs")):
        low, high = table.get("low"), table.get("high")
        if low is not None and high is not None and not low < high:
            what = f"`{spelled(('inputs', *loc))}` needs low < high, and has low = {low}, high = {high}"
            mistakes.append(Mistake(what, source.at(("inputs", *loc, "low"))))
    return mistakes


def _tables(inputs: Any) -> list[tuple[TomlPath, Mapping[str, Any]]]:
    if isinstance(inputs, Mapping):
        return [((), inputs)]
    return [((position,), table) for position, table in enumerate(inputs)] if isinstance(inputs, list) else []


def _spec(data: Mapping[str, Any], source: Source) -> Spec:
    """The spec of the whole text, its phases' included."""
    phases = tuple(
        Phase(phase["name"], _spec_of(data, source, phase, ("phase", n)), phase.get("setup"))
        for n, phase in _phases(data)
    )
    if not phases:
        return _spec_of(data, source)
    if "expect" not in data["phase"][-1]:
        # The counts of the model as it is in the end; in an earlier phase others train.
        last = phases[-1]
        phases = (*phases[:-1], replace(last, spec=replace(last.spec, expect=_counts(data, source, ("expect",)))))
    return replace(_spec_of(data, source), phases=phases)


def _spec_of(data: Mapping[str, Any], source: Source, phase: Mapping[str, Any] = _NOTHING, at: TomlPath = ()) -> Spec:
    """What the top says, or one phase, which stands at `at` and has the top's values for the keys it leaves out."""
    keys: dict[str, Any] = {**data, **phase}

    def where(key: str) -> TomlPath:
        return (*at, key) if key in phase else (key,)

    lists = {
        name: tuple(Selector(text, name, source.at((*where(name), n))) for n, text in enumerate(keys.get(name, ())))
        for name in LISTS
    }
    inputs = keys.get("inputs")
    if not isinstance(inputs, str | None):
        inputs = tuple(InputSpec(**{**table, "shape": tuple(table["shape"])}) for _, table in _tables(inputs))
    pretrained, pretrained_key = _pretrained(keys)
    return Spec(
        path=None if source.path == NO_FILE else source.path,
        folder=source.folder,
        target=keys.get("target"),
        **lists,
        rest=_rest(keys),
        rest_said="rest" in keys,
        optimizer=keys.get("optimizer"),
        inputs=inputs,
        loss=keys.get("loss"),
        steps=keys.get("steps"),
        ignore=tuple(keys.get("ignore", ())),
        pretrained=pretrained,
        pretrained_key=pretrained_key,
        expect=_counts(phase or data, source, (*at, "expect")),
        phases=(),
        locations={key: place for key in keys if (place := source.at(where(key)))},
    )


def _pretrained(data: Mapping[str, Any]) -> tuple[Any, Any]:
    """The file that `pretrained` names, and the key in it."""
    value = data.get("pretrained")
    return (value.get("file"), value.get("key")) if isinstance(value, Mapping) else (value, None)


def _counts(table: Mapping[str, Any], source: Source, at: TomlPath) -> Counts | None:
    return Counts(**table["expect"], location=source.at(at)) if "expect" in table else None


def _rest(keys: Mapping[str, Any]) -> Expected:
    if "rest" in keys:
        return Expected(keys["rest"])
    if "trainable" in keys and "frozen" not in keys:
        return Expected.FROZEN
    if "frozen" in keys and "trainable" not in keys:
        return Expected.TRAINABLE
    return Expected.UNCHECKED
