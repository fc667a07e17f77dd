"""The state of an optimizer that a training saved beside its model, and whether it fits the parameters it is loaded onto.

`Optimizer.load_state_dict` compares the number of groups and of parameters in each, and nothing else: the state of one
layer is put on another without a word when the counts agree. Pure; no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ._choose import is_optimizer

Shape = tuple[int, ...]
Parameters = Sequence[tuple[str, Shape]]
"""Names and shapes in the order of `model.parameters()`."""


@dataclass(frozen=True, slots=True)
class Saved:
    """An optimizer's saved state, without its values."""

    key: str
    """Where it stood in the file."""
    groups: tuple[int, ...]
    """Number of parameters in each group."""
    shapes: tuple[Shape | None, ...]
    """Of every parameter, in the groups' order, the shape of its state; None where it has none or only counters."""
    names: tuple[str, ...] = ()
    """The parameters' names, where the optimizer knew them (`named_parameters`), else empty."""

    @property
    def count(self) -> int:
        """Number of parameters in all groups."""
        return sum(self.groups)


def saved_optimizers(tree: Any, shape_of: Callable[[Any], Shape | None], path: str = "") -> Iterator[Saved]:
    """Give every optimizer state in a tree; `shape_of` gives a tensor's shape, and None for anything else."""
    if is_optimizer(tree):
        if (found := _saved(tree, shape_of, path)) is not None:
            yield found
        return
    items: Any = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    for key, value in items:
        yield from saved_optimizers(value, shape_of, f"{path}.{key}" if path else str(key))


def _saved(tree: Mapping[str, Any], shape_of: Callable[[Any], Shape | None], path: str) -> Saved | None:
    groups, states = tree["param_groups"], tree["state"]
    try:
        ids = [identity for group in groups for identity in group["params"]]
        counts = tuple(len(group["params"]) for group in groups)
        names = [name for group in groups for name in group.get("param_names") or ()]
        shapes = tuple(_state_shape(states.get(identity), shape_of) for identity in ids)
    except (TypeError, KeyError, AttributeError):
        return None  # an optimizer of the user's own, which keeps its state in a form of its own
    if not names and all(isinstance(identity, str) for identity in ids):
        names = ids
    return Saved(path, counts, shapes, tuple(names) if len(names) == len(ids) else ())


def _state_shape(state: Any, shape_of: Callable[[Any], Shape | None]) -> Shape | None:
    """The shape that the parameter's momentum has; counters have none."""
    if not isinstance(state, Mapping):
        return None
    shapes = [shape for value in state.values() if (shape := shape_of(value))]
    return max(shapes, key=len, default=None)


def misfits(saved: Saved, every: Parameters, trainable: Parameters | None, moved: Parameters | None) -> list[str]:
    """Say how a saved optimizer does not fit the parameters that it will be loaded onto; empty when it does.

    `every` are the model's parameters, `trainable` those that the spec trains (None: no spec), `moved` those that
    changed while it ran (None: that is not known of this checkpoint). An optimizer may have been built over either.
    """
    what = f"the optimizer state `{saved.key}`"
    if saved.names:
        return _by_name(saved, what, every, trainable)
    onto = [(trainable, "the spec trains")] if trainable is not None else []
    onto += [(every, "the model has")]
    counted = [(parameters, words) for parameters, words in onto if len(parameters) == saved.count]
    if not counted:
        sizes = " and ".join(f"{words} {len(parameters):,}" for parameters, words in onto)
        return [
            f"{what} holds {saved.count:,} parameters, and {sizes}: load_state_dict will refuse it for an optimizer "
            "over these"
        ]
    fits = [pair for pair in counted if _first_misfit(saved, pair[0]) is None]
    if not fits:
        return [_misfit(saved, what, *counted[0])]
    return _wrong_layer(saved, what, fits[0][0], moved)


def _by_name(saved: Saved, what: str, every: Parameters, trainable: Parameters | None) -> list[str]:
    shapes = dict(every)
    told = []
    if strange := [name for name in saved.names if name not in shapes]:
        told.append(f"{what} holds parameters that the model has not: {_some(strange)}")
    wrong = [n for n, s in zip(saved.names, saved.shapes, strict=True) if s and n in shapes and not _alike(s, shapes[n])]
    if wrong:
        told.append(f"{what} holds state of another shape than the parameter's for {_some(wrong)}")
    lacking = [name for name, _ in trainable or () if name not in saved.names]
    if lacking:
        told.append(f"{what} holds nothing for {_some(lacking)}, which the spec trains")
    return told


def _first_misfit(saved: Saved, parameters: Parameters) -> int | None:
    pairs = zip(saved.shapes, parameters, strict=True)
    return next((n for n, (shape, (_, own)) in enumerate(pairs) if shape and not _alike(shape, own)), None)


def _alike(state: Shape, parameter: Shape) -> bool:
    """Whether a state of this shape can belong to the parameter: a factored second moment has fewer dimensions."""
    return state == parameter or len(state) < len(parameter)


def _misfit(saved: Saved, what: str, parameters: Parameters, words: str) -> str:
    at = _first_misfit(saved, parameters)
    assert at is not None, "asked only where there is one"
    name, shape = parameters[at]
    return (
        f"{what} holds {saved.count:,} parameters, as many as {words}, but not the same: its state at position {at} has "
        f"the shape {_size(saved.shapes[at] or ())}, and the parameter there is {name}, {_size(shape)}. load_state_dict "
        "compares only the counts and will put it there without a word"
    )


def _wrong_layer(saved: Saved, what: str, onto: Parameters, moved: Parameters | None) -> list[str]:
    """The trap: as many parameters of the same shapes, and yet others than those that the optimizer moved."""
    if not moved or len(moved) != saved.count or _first_misfit(saved, moved) is not None:
        return []
    pairs = [(was, will) for (was, _), (will, _) in zip(moved, onto, strict=True) if was != will]
    if not pairs:
        return []
    was, will = pairs[0]
    return [
        f"{what} moved {was} and will be loaded onto {will}"
        + (f" (and {len(pairs) - 1} more like it)" if len(pairs) > 1 else "")
        + ": the shapes are the same, so load_state_dict will do it without a word"
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _size(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "scalar"
