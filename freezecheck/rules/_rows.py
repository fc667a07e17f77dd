"""Partly trained parameters, row by row: what FZ301 and FZ302 say of them."""

from __future__ import annotations

from collections.abc import Iterator

from ..records import Case, Facts, Gradient, Hit, RowsSeen
from ._words import NO_MAX_NORM, during, listing, memberships, number, rebuild, renormalises, when, wrote


def moved_rows(case: Case) -> Iterator[Hit]:
    """One finding for each parameter of which rows moved that are expected frozen."""
    for fact in case.parameters:
        rows = fact.frozen_rows
        if rows is None or not rows.moved:
            continue
        cause = _cause(fact, rows)
        far = f" by up to {number(rows.max_abs_change)}" if rows.max_abs_change is not None else ""
        these = f"All {rows.count:,}" if rows.moved == rows.count else f"{rows.moved:,} of the {rows.count:,}"
        yield Hit(
            (fact.name,),
            f"{these} rows of `{fact.name}` that are expected frozen ({selectors(fact.name, rows)}) moved{far} "
            f"{during(case)}: {_told(case, fact, cause)}.",
            _fix(case, fact, cause),
            {
                "cause": cause,
                "rows": [list(span) for span in rows.moved_spans],
                "moved_rows": rows.moved,
                "frozen_rows": rows.count,
                "max_abs_change": rows.max_abs_change,
                "gradient": str(rows.gradient),
            },
            next((write.location for write in fact.writes if write.location), None),
            (),
        )


def still_rows(case: Case) -> Iterator[Hit]:
    """One finding for each parameter of which other rows moved, but none of those that are expected to train."""
    for fact in case.trainable:
        rows = fact.trainable_rows
        if rows is None or rows.moved or not fact.moved or not fact.lr or rows.gradient is not Gradient.NONZERO:
            continue
        yield Hit(
            (fact.name,),
            f"None of the {rows.count:,} rows of `{fact.name}` that are expected trainable "
            f"({selectors(fact.name, rows)}) moved {during(case)}, though they get a gradient and others of its rows "
            "moved.",
            "look for code that writes the old values back: it must do so in the frozen rows only",
            {"rows": [list(span) for span in rows.spans], "gradient": str(rows.gradient)},
        )


def selectors(name: str, rows: RowsSeen) -> str:
    """The rows as a spec would select them: `embed.weight[0:10]`, quoted."""
    return listing(f"{name}[{start}:{stop}]" for start, stop in rows.spans)


def _cause(fact: Facts, rows: RowsSeen) -> str:
    if fact.writes:
        return "write"
    if not fact.memberships:
        return "unknown"
    if rows.gradient in (Gradient.NONZERO, Gradient.NONFINITE):
        return "trained"
    if any(place.weight_decay for place in fact.memberships):
        return "weight decay"
    return "memory" if any(place.momentum or place.beta for place in fact.memberships) else "step without gradient"


def _told(case: Case, fact: Facts, cause: str) -> str:
    held_by = memberships(case, [fact])
    match cause:
        case "write":
            return f"{wrote(fact.writes, 'it')} in place {when(fact.writes[0])}"
        case "trained":
            return f"they get a gradient like the others, and {held_by} steps the whole tensor"
        case "weight decay":
            return f"their gradient is zero, but {held_by} applies its weight decay to every row"
        case "memory":
            return f"their gradient is zero, but {held_by} still carries them on by what it remembers"
        case "step without gradient":
            return f"their gradient is zero, but {held_by} moves them all the same"
        case _:
            return "no operation of torch was seen that wrote to them"


def _fix(case: Case, fact: Facts, cause: str) -> str:
    match cause:
        case "write" if renormalises(fact.writes[0]):
            return NO_MAX_NORM
        case "write":
            return "let the write touch the trainable rows only"
        case "trained":
            # A hook on the gradient is the usual way; the mask is the user's to make.
            return (
                "zero their gradient, as in `parameter.register_hook(lambda grad: grad * mask)`, with weight_decay=0; "
                "or keep the rows that train in a parameter of their own"
            )
        case "weight decay":
            return f"give `{fact.name}` a parameter group of its own with weight_decay=0"
        case "memory":
            return f"{rebuild(case, (m.optimizer for m in fact.memberships))}, after the rows were frozen"
        case _:
            return "keep the rows that train in a parameter of their own, and freeze the rest by its flag"
