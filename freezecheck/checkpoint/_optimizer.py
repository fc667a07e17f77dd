"""The optimizer state that a training saved beside its model, and whether it fits the parameters it is loaded onto.

`Optimizer.load_state_dict` compares the number of groups and of parameters in each, and nothing else: the state of one
layer is put on another without a word when the counts agree. Pure; no torch.
"""

from __future__ import annotations

from collections import Counter
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
    items: Any = (
        tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    )
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
    """The shape that the parameter's momentum has; None for counters, and for moments that are factored or packed."""
    if not isinstance(state, Mapping) or any("row" in str(key) or "col" in str(key) for key in state):
        return None
    shapes = {shape for value in state.values() if (shape := shape_of(value))}
    longest = {shape for shape in shapes if len(shape) == max(map(len, shapes))}
    return longest.pop() if len(longest) == 1 else None


def misfits(
    saved: Saved, every: Parameters, trainable: Parameters | None, moved: Parameters | None, *, ordered: bool
) -> list[str]:
    """Say how a saved optimizer does not fit the parameters that it will be loaded onto; empty when it does.

    `every` are the model's parameters, `trainable` those that the spec trains (None: no spec), `moved` those that
    changed while it ran (None: that is not known of this checkpoint). An optimizer may have been built over any of
    them. Positions are compared where the parameters are `ordered` as in the model and stand in one group; else it is
    compared which shapes there are.
    """
    what = f"the optimizer state `{saved.key}`"
    if saved.names:
        return _by_name(saved, what, every, trainable)
    compare = _first_misfit if ordered and len(saved.groups) == 1 else _odd_shape
    onto = [(trainable, "the spec trains")] if trainable is not None else []
    onto += [(every, "the model has")]
    counted = [(parameters, words) for parameters, words in onto if len(parameters) == saved.count]
    fits = [parameters for parameters, _ in counted if compare(saved, parameters) is None]
    if fits:
        return _wrong_layer(saved, what, fits[0], moved) if compare is _first_misfit else []
    if counted:
        parameters, words = counted[0]
        told = f"{what} holds {saved.count:,} parameters, as many as {words}, but not the same: "
        return [told + (compare(saved, parameters) or "") + ". load_state_dict compares only the counts"]
    if trainable is not None:
        return [
            f"{what} holds {saved.count:,} parameters, and the spec trains {len(trainable):,} of {len(every):,}: "
            "load_state_dict will refuse it for an optimizer over either"
        ]
    if moved is not None and len(moved) == saved.count and compare(saved, moved) is None:
        return []
    return [
        f"{what} holds {saved.count:,} parameters and the model {len(every):,}: it can only be loaded into an "
        "optimizer over as many"
    ]


def _by_name(saved: Saved, what: str, every: Parameters, trainable: Parameters | None) -> list[str]:
    shapes = dict(every)
    strange = [name for name in saved.names if name not in shapes]
    if len(strange) == saved.count:
        return []  # they are names of another form than the checkpoint's
    told = [f"{what} holds parameters that the model has not: {_some(strange)}"] if strange else []
    held = {name: shape for name, shape in zip(saved.names, saved.shapes, strict=True) if name in shapes}
    if wrong := [name for name, shape in held.items() if shape and shape != shapes[name]]:
        told.append(f"{what} holds state of another shape than the parameter's for {_some(wrong)}")
    if lacking := [name for name, _ in trainable or () if name not in held]:
        told.append(f"{what} holds nothing for {_some(lacking)}, which the spec trains")
    return told


def _first_misfit(saved: Saved, parameters: Parameters) -> str | None:
    """Where a state is of another shape than the parameter at its position, in words."""
    for at, (shape, (name, own)) in enumerate(zip(saved.shapes, parameters, strict=True)):
        if shape and shape != own:
            return (
                f"its state at position {at} has the shape {_size(shape)}, and the parameter there is {name}, "
                f"{_size(own)}"
            )
    return None


def _odd_shape(saved: Saved, parameters: Parameters) -> str | None:
    """Which shape its states have more often than the parameters do, in words."""
    spare = Counter(shape for _, shape in parameters)
    for shape in saved.shapes:
        if shape is None:
            continue
        if not spare[shape]:
            return f"more of its states have the shape {_size(shape)} than parameters"
        spare[shape] -= 1
    return None


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
