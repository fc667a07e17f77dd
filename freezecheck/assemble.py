"""The table of facts: description, plan and observation joined, one row per tensor and one per layer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

from .records import (
    Case,
    Description,
    Expected,
    Facts,
    Gradient,
    Layer,
    LayerFacts,
    Need,
    Observation,
    Plan,
    Skipped,
    StrayFlag,
    Tensor,
)
from .source.assignments import first_assignment

_NO_SPEC = "no freeze spec was given: the requires_grad flags were taken as the intent"
_NO_PROBE = "no training step was run"


def assemble(
    description: Description, plan: Plan, observation: Observation | None = None, files: Iterable[str] = ()
) -> Case:
    """Return the case that the rules read; without an observation, the case before any training.

    `files` are the user's sources, in which the assignment of a stray flag is looked for.
    """
    seen = observation or Observation()
    facts = tuple(_facts(tensor, plan, seen) for tensor in description.tensors)
    missing = dict(seen.missing)
    if not plan.from_spec and plan.counts is None and not plan.unmatched:
        missing[Need.SPEC] = _NO_SPEC
    if observation is None:
        missing |= {Need.PROBE: _NO_PROBE, Need.VALUES: _NO_PROBE, Need.OPTIMIZER: _NO_PROBE}
    if not seen.watched and not seen.flipped:
        missing[Need.TRAINING] = ""
    missing.setdefault(Need.COMPARISON, "")
    if not seen.conditions.pretrained:
        missing.setdefault(Need.PRETRAINED, "")
    return Case(
        facts=facts,
        layers=tuple(_layers(description, plan, facts, seen)),
        plan=plan,
        strays=tuple(_strays(description, plan, tuple(files))),
        foreign=seen.foreign,
        leaves=seen.leaves,
        hidden=seen.hidden,
        loss=seen.loss,
        nonfinite=seen.nonfinite,
        optimizers=seen.optimizers,
        optimizer_lines=seen.optimizer_lines,
        empty_groups=seen.empty_groups,
        idle=seen.idle,
        missing=missing,
        conditions=seen.conditions,
        skipped=(*seen.skipped, *_rows_left_out(plan, seen)) if observation else (),
    )


def _rows_left_out(plan: Plan, seen: Observation) -> Iterator[Skipped]:
    """Partly trained parameters that nobody compared row by row, and did not say so."""
    said = {item.what for item in seen.skipped}
    for name in plan.rows:
        left_out = Skipped(f"the single rows of {name}", "rows are compared by verify and diff")
        if name not in seen.frozen_rows and name not in seen.trainable_rows and left_out.what not in said:
            yield left_out


def _facts(tensor: Tensor, plan: Plan, seen: Observation) -> Facts:
    name = tensor.name
    if name in seen.flags:
        tensor = replace(tensor, requires_grad=seen.flags[name])
    moved, change = seen.moved.get(name, (None, None))
    return Facts(
        tensor=tensor,
        expected=plan.expected.get(name, Expected.UNCHECKED),
        may_move=name in plan.buffers_may_move,
        memberships=seen.memberships.get(name, ()),
        gradient=seen.gradients.get(name),
        gradient_max=seen.gradient_max.get(name),
        moved=moved,
        max_abs_change=change,
        used=None if seen.used is None or not tensor.requires_grad else name in seen.used,
        cuts=seen.cuts.get(name, ()),
        writes=seen.writes.get(name, ()),
        update=seen.updates.get(name),
        undone=name in seen.undone,
        woken=name in seen.woken,
        cleared=name in seen.cleared,
        cleared_at=seen.cleared.get(name),
        flipped=seen.flipped.get(name),
        flag_line=seen.flag_lines.get(name),
        gradient_hook=name in seen.gradient_hooks,
        hooked_at=seen.hooked_at.get(name),
        frozen_rows=seen.frozen_rows.get(name),
        trainable_rows=seen.trainable_rows.get(name),
        pretrained=seen.pretrained.get(name),
        wasted=name in seen.wasted,
    )


def _strays(description: Description, plan: Plan, files: tuple[str, ...]) -> Iterator[StrayFlag]:
    """Keep the stray flags that missed something somebody meant.

    A module may well carry a `requires_grad` of its own as an option of its constructor: where the spec says that the
    tensors are as they should be, it is none of our business.
    """
    for stray in description.strays:
        wanted = Expected.TRAINABLE if stray.value in ("True", "1") else Expected.FROZEN
        if plan.from_spec:
            missed = tuple(t for t in stray.tensors if plan.expected.get(t) in (wanted, Expected.UNCHECKED))
        else:
            missed = stray.tensors if wanted is Expected.FROZEN or stray.on == "parameter" else ()
        if missed:
            yield replace(stray, tensors=missed, location=first_assignment(files, stray.attribute))


def held_by(facts: Facts) -> str | None:
    """Return what keeps a parameter from training, as far as it was seen; None when nothing does."""
    if not facts.tensor.requires_grad:
        return "requires_grad"
    if facts.gradient is None or facts.moved:
        return None
    if facts.cuts:
        return facts.cuts[0].operation.removesuffix("()")
    if facts.lr == 0:
        return "lr 0"
    if facts.gradient is Gradient.NONE:
        return "no gradient" if facts.used else "not used"
    if facts.gradient is Gradient.ZERO:
        return "gradient hook" if facts.gradient_hook else "zero gradient"
    if facts.moved is False:
        return "step" if facts.memberships else "no optimizer"
    return None


def _layers(description: Description, plan: Plan, facts: tuple[Facts, ...], seen: Observation) -> Iterator[LayerFacts]:
    below: dict[str, dict[str, Facts]] = {layer.name: {} for layer in description.layers}
    for row in facts:
        if row.is_buffer:
            continue
        for name in row.tensor.names:
            path = name
            while path:
                path = path.rpartition(".")[0]
                if path in below:
                    below[path][row.name] = row
    holders = {row.name: held_by(row) for row in facts}
    for layer in description.layers:
        rows = below[layer.name].values()
        held = [holders[row.name] for row in rows]
        trainable = sum([row.tensor.numel for row in rows if row.tensor.requires_grad])
        training = seen.modes.get(layer.name)
        yield LayerFacts(
            layer=layer,
            expected=_joined({row.expected for row in rows}),
            actual=_joined({Expected.FROZEN if holder else Expected.TRAINABLE for holder in held}),  # type: ignore[arg-type]  # two of its words
            trainable=trainable,
            frozen=sum([row.tensor.numel for row in rows]) - trainable,
            held_by=", ".join(dict.fromkeys(filter(None, held))) or None,
            training=training,
            movable_buffers=layer.statistics if _trains(layer, training, plan) else (),
            saved_bytes=seen.saved_bytes.get(layer.name),
        )


def _trains(layer: Layer, training: bool | None, plan: Plan) -> bool:
    """Whether it trains: as it was seen to, else as it stands, the spec's word for what the loop does included."""
    if training is not None:
        return training
    return layer.training and not any(f"{layer.name}.".startswith(f"{path}.") or not path for path in plan.eval_layers)


def _joined(states: set[Expected]) -> Literal["frozen", "trainable", "mixed", "unchecked", "none"]:
    if len(states) > 1:
        return "mixed"
    return states.pop().value if states else "none"
