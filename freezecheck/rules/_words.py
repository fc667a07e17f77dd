"""How a message names things: tensors the way people read them, numbers, source lines, lines of code to change."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..records import Case, Expected, Facts, Location, Membership, Write

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

FEW = 3
"""Up to so many names are written out."""
MANY = 8
"""Up to so many parts are written out in a line to paste."""


@dataclass(frozen=True, slots=True)
class Named:
    """The subject of a sentence, and whether its verb is singular."""

    text: str
    one: bool

    def __str__(self) -> str:
        return self.text

    @property
    def are(self) -> str:
        """`is` or `are`."""
        return self.pick("is", "are")

    @property
    def it(self) -> str:
        """`it` or `them`."""
        return self.pick("it", "them")

    @property
    def its(self) -> str:
        """`its` or `their`."""
        return self.pick("its", "their")

    def pick(self, singular: str, plural: str) -> str:
        """The form of a word that agrees with this subject."""
        return singular if self.one else plural


def group(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Put equal items together; groups and items keep their order."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def names(facts: Iterable[Facts]) -> tuple[str, ...]:
    """The canonical names of these rows."""
    return tuple(fact.name for fact in facts)


def listing(words: Iterable[str], most: int = FEW) -> str:
    """`a`, `b` and `c`, quoted; beyond `most` the rest is counted."""
    every = [f"`{word}`" for word in words]
    shown = every if len(every) <= most else [*every[:most], f"{len(every) - most:,} more"]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1]


def tensors(names: Sequence[str], noun: str = "parameter") -> Named:
    """Few names in full, many as `8 parameters of `backbone` (backbone.conv1.weight … backbone.bn2.bias)`."""
    if len(names) <= FEW:
        return Named(listing(names), one=len(names) == 1)
    owners = [name.split(".")[:-1] for name in names]
    common = shared_prefix(owners)
    if common:
        where = f" of `{'.'.join(common)}`"
    else:
        tops = list(dict.fromkeys(owner[0] for owner in owners if owner))
        where = f" of {listing(tops)}" if all(owners) and len(tops) <= FEW else ""
    return Named(f"{len(names):,} {noun}s{where} ({names[0]} … {names[-1]})", one=False)


def shared_prefix(paths: Iterable[Sequence[str]]) -> list[str]:
    """The components that all paths begin with."""
    prefix: list[str] = []
    for components in zip(*paths, strict=False):
        if len(set(components)) > 1:
            break
        prefix.append(components[0])
    return prefix


def number(value: float) -> str:
    """Three significant digits: `0.1`, `1e-06`, `0.00391`; a learning rate that no group holds is `of its own`."""
    return f"{value:.3g}" if value == value else "of its own"


def span(values: Iterable[float]) -> str:
    """`0.1`, or `0.001 to 0.1` when they differ."""
    low, *_, high = sorted(set(values)) * 2
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def during(case: Case) -> str:
    """`in 3 steps`: how long was looked."""
    steps = case.conditions.steps
    return "while it trained" if steps < 1 else "in one step" if steps == 1 else f"in {steps} steps"


def throughout(case: Case) -> str:
    """`in all 3 steps`: for what held the whole time."""
    steps = case.conditions.steps
    return "in the only step" if steps == 1 else f"in all {steps} steps" if steps > 1 else during(case)


def place(location: Location) -> str:
    """`model.py:12` with the line quoted, when it could be read."""
    return f"{spot(location)} (`{location.text}`)" if location.text else spot(location)


def spot(location: Location) -> str:
    """`model.py:12`; of a library's file what comes after `site-packages`, which says whose it is."""
    return str(location).replace("\\", "/").split("site-packages/")[-1]


def at(location: Location | None) -> str:
    """` at model.py:12 (`the line`)`, or nothing when the place is unknown."""
    return f" at {place(location)}" if location else ""


def since(facts: Sequence[Facts]) -> str:
    """` since model.py:14 (`p.requires_grad = False`)`: what set the flags of all of these, where that was seen."""
    lines = [line for line in dict.fromkeys(fact.flag_line for fact in facts) if line is not None]
    if not lines or any(fact.flag_line is None for fact in facts):
        return ""
    more = f" and {len(lines) - FEW:,} more lines" if len(lines) > FEW else ""
    return f" since {', '.join(map(place, lines[:FEW]))}{more}"


def wrote(writes: Sequence[Write], what: str) -> str:
    """`` `mul_()` at model.py:12 (`w.mul_(2)`) writes to it ``: who wrote to a tensor beside the optimizer."""
    lines = group(writes, key=lambda write: write.location)
    told = " and ".join(f"{listing(write.operation for write in on)}{at(line)}" for line, on in lines.items())
    bound = ", by its max_norm," if len(writes) == 1 and renormalises(writes[0]) else ""
    return f"{told}{bound} {'writes' if len(writes) == 1 else 'write'} to {what}"


def when(write: Write) -> str:
    """`during the forward`: what the training did when this was written."""
    return "in the training loop, outside of forward and step" if write.phase == "loop" else f"during the {write.phase}"


NO_MAX_NORM = "max_norm=None for what is frozen; renormalise its rows once, before freezing, if they are to be bounded"
"""What to do about a lookup that `renormalises`."""


def renormalises(write: Write) -> bool:
    """Whether it is a lookup in an embedding with `max_norm`, which rescales the rows that it reads."""
    return write.operation in ("embedding()", "embedding_bag()")


def code(path: str) -> str:
    """The Python expression for a layer or tensor of `model`: `blocks.0.fc` is `model.blocks[0].fc`."""
    written = "model"
    for component in path.split(".") if path else ():
        if component.isdigit():
            written += f"[{component}]"
        else:
            written += f".{component}" if component.isidentifier() else f"[{json.dumps(component, ensure_ascii=False)}]"
    return written


def ancestors(name: str) -> Iterator[str]:
    """Every layer around a layer or tensor, the root (``) first and itself left out."""
    parts = name.split(".") if name else []
    yield from (".".join(parts[:end]) for end in range(len(parts)))


def cover(names: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    """The outermost layers (or single tensors) that hold all of `names` and none of `others`."""
    barred = {layer for other in others for layer in ancestors(other)}
    return tuple(dict.fromkeys(next((a for a in ancestors(n) if a not in barred), n) for n in names))


def expected_parts(case: Case, names: Iterable[str], wanted: Expected) -> tuple[str, ...]:
    """As `cover`, over layers of which the spec wants nothing but `wanted`."""
    buffers = {fact.name for fact in case.buffers}
    planned = (name for name, said in case.plan.expected.items() if said is not wanted and name not in buffers)
    rows = (fact.name for fact in case.parameters if fact.expected is not wanted)
    return cover(names, [*planned, *rows])


def exact_parts(case: Case, names: Iterable[str]) -> tuple[str, ...]:
    """As `cover`, over layers that have no parameters but these."""
    held = {*names}
    passed = {*held, *(fact.name for fact in case.buffers)}
    others = [name for name in (*case.plan.expected, *(fact.name for fact in case.parameters)) if name not in passed]
    return cover((fact.name for fact in case.parameters if fact.name in held), others)


def clear_gradients(case: Case, names: Sequence[str]) -> str:
    """The line that takes away what `.grad` still holds."""
    parts = expected_parts(case, names, Expected.FROZEN)
    if len(parts) > FEW or any(part in names for part in parts):
        return "model.zero_grad(set_to_none=True), right after freezing"
    return "; ".join(f"{code(part)}.zero_grad(set_to_none=True)" for part in parts) + ", right after freezing"


def set_flag(case: Case, names: Iterable[str], value: bool) -> str:
    """The line of code that gives these parameters the flag that the spec wants."""
    parts = expected_parts(case, names, Expected.TRAINABLE if value else Expected.FROZEN)
    if len(parts) > FEW:
        return "freezecheck.apply(model, spec)  # sets every flag as the spec says"
    return "; ".join(f"{code(part)}.requires_grad_({value})" for part in parts)


def spec_line(key: str, parts: Iterable[str]) -> str:
    """A line of the spec: `unchecked = ["teacher"]`."""
    return f"{key} = {json.dumps([part or '*' for part in parts], ensure_ascii=False)}"


def in_spec(key: str, parts: Sequence[str]) -> str:
    """A line of the spec, quoted: `eval = ["backbone"]`; of many parts, its key alone."""
    return f"`{spec_line(key, parts) if len(parts) <= MANY else key}`"


def optimizer_name(case: Case, index: int) -> str:
    """The class name of an optimizer, as far as it is known."""
    return case.optimizers[index] if index < len(case.optimizers) else "the optimizer"


def groups_in(case: Case, places: Iterable[tuple[int, int]]) -> str:
    """`groups 0, 1 and 2 of AdamW`, of places given as (optimizer, group); beyond a few the rest is counted."""
    said = []
    for optimizer, held in group(places, key=lambda place: place[0]).items():
        numbers = [str(index) for _, index in held]
        shown = numbers if len(numbers) <= FEW else [*numbers[:FEW], f"{len(numbers) - FEW:,} more"]
        numbered = f"group {shown[0]}" if len(shown) == 1 else f"groups {', '.join(shown[:-1])} and {shown[-1]}"
        said.append(f"{numbered} of {optimizer_name(case, optimizer)}")
    return " and ".join(said)


def optimizer_line(case: Case, indices: Iterable[int]) -> Location | None:
    """The line that made the first of these optimizers, where that is known."""
    lines = (case.optimizer_lines[i] for i in sorted(set(indices)) if i < len(case.optimizer_lines))
    return next((line for line in lines if line is not None), None)


def optimizer_variable(case: Case, indices: Iterable[int]) -> str:
    """What the user calls it: `opt` of `opt = torch.optim.SGD(…)`."""
    line = optimizer_line(case, indices)
    name = re.match(r"([A-Za-z_][\w.]*)\s*=\s*[\w.]+\(", line.text) if line else None
    return name[1] if name else "optimizer"


def memberships(case: Case, facts: Iterable[Facts]) -> str:
    """`SGD (lr 0.1, momentum 0.9, weight decay 0.01)`: the optimizers these rows sit in, with what moves them."""
    found = group((m for fact in facts for m in fact.memberships), key=lambda m: m.optimizer)
    return " and ".join(f"{optimizer_name(case, i)} ({numbers(members)})" for i, members in sorted(found.items()))


def numbers(members: Sequence[Membership]) -> str:
    """`lr 0.1, momentum 0.9, weight decay 0.01`, or `lr 0.001, beta1 0.9`; what is 0 is left out."""
    said = [f"lr {span(m.lr for m in members)}"]
    for word, attribute in (("momentum", "momentum"), ("beta1", "beta"), ("weight decay", "weight_decay")):
        values = [getattr(m, attribute) for m in members]
        if any(values):
            said.append(f"{word} {span(values)}")
    return ", ".join(said)


def remembered(key: str) -> str:
    """What an optimizer keeps of a tensor, in the field's words: Adam's `exp_avg` is a running average, no momentum."""
    return f"the optimizer's {'running average ' if 'avg' in key else ''}{key}"


def rebuild(case: Case, indices: Iterable[int]) -> str:
    """The line that makes an optimizer anew from what requires grad."""
    indices = tuple(indices)
    return f"{optimizer_variable(case, indices)} = {anew(case, indices)}"


def given(case: Case, held: Sequence[str]) -> str:
    """What to give an optimizer that is to step these tensors: a whole layer's parameters, or a list."""
    parts = exact_parts(case, held)
    if len(parts) == 1 and parts[0] not in held:
        return f"{code(parts[0])}.parameters()"
    return f"[{', '.join(code(part) if part in held else f'*{code(part)}.parameters()' for part in parts)}]"


def anew(case: Case, indices: Iterable[int], over: str = "[p for p in model.parameters() if p.requires_grad]") -> str:
    """The expression that makes the first of these optimizers anew, `...` for the arguments that it has now."""
    made = next((case.optimizers[i] for i in sorted(set(indices)) if i < len(case.optimizers)), "SGD")
    return f"{'torch.optim.' if made in _OF_TORCH else ''}{made}({over}, ...)"


_OF_TORCH = frozenset(
    {"ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "Muon", "NAdam", "RAdam"}
    | {"RMSprop", "Rprop", "SGD", "SparseAdam"}
)
"""Optimizers that torch itself has; where another one comes from, only its user knows."""


def largest(values: Iterable[float | None]) -> float | None:
    """The largest of the values that are known and finite."""
    known = [value for value in values if value is not None and abs(value) < float("inf")]
    return max(known, default=None)


def as_json(location: Location | None) -> dict[str, str | int] | None:
    """A place, for the evidence."""
    return {"file": location.file, "line": location.line, "text": location.text} if location else None
