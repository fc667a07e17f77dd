"""Which tensor sits where in which optimizer."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import CodeType, FunctionType
from typing import Any

import torch
from torch.optim import optimizer as _optim

from ..places import kind, location_in
from ..records import Foreign, Location, Membership

_DEFAULT_LR = 0.01


def default_optimizers(parameters: Mapping[str, torch.Tensor]) -> list[torch.optim.Optimizer]:
    """Return the optimizer of a user who gave none: SGD over all tensors that require grad (none, when none does)."""
    trainable = [p for p in parameters.values() if p.requires_grad]
    return [torch.optim.SGD(trainable, lr=_DEFAULT_LR)] if trainable else []


def groups_of(optimizers: Sequence[Any]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield (optimizer, group, the group itself), groups counted through all optimizers.

    An optimizer around another one (SAM, Lookahead) may have the very groups of that one: each is told once.
    """
    met: dict[int, Any] = {}
    for index, optimizer in enumerate(optimizers):
        for group in optimizer.param_groups:
            if id(group) not in met:
                yield index, len(met), group
                met[id(group)] = group


def memberships(
    optimizers: Sequence[Any], names: Mapping[int, str]
) -> tuple[dict[str, tuple[Membership, ...]], list[tuple[Foreign, torch.Tensor]]]:
    """Return each model tensor's places by name, and the tensors that the model does not have."""
    places: dict[str, list[Membership]] = {}
    foreign: list[tuple[Foreign, torch.Tensor]] = []
    for optimizer, index, group in groups_of(optimizers):
        betas = group.get("betas") or (0.0,)
        member = Membership(
            optimizer=optimizer,
            group=index,
            lr=_number(group["lr"]) if group.get("lr") is not None else math.nan,
            weight_decay=_number(group.get("weight_decay")),
            momentum=_number(group.get("momentum")),
            beta=_number(betas[0]),
        )
        for tensor in group["params"]:
            name = names.get(id(tensor))
            if name is not None:
                state = () if tensor.requires_grad else _remembered(optimizers[optimizer], tensor)
                places.setdefault(name, []).append(replace(member, state=state) if state else member)
            else:
                dtype = str(tensor.dtype).removeprefix("torch.")
                foreign.append((Foreign(optimizer, index, tuple(tensor.shape), dtype), tensor))
    return {name: tuple(found) for name, found in places.items()}, foreign


def empty_groups(optimizers: Sequence[Any]) -> tuple[tuple[int, int], ...]:
    """Return the groups that hold nothing, as (optimizer, group): torch takes one where another holds something."""
    return tuple((optimizer, index) for optimizer, index, group in groups_of(optimizers) if not group["params"])


def _remembered(optimizer: Any, tensor: torch.Tensor) -> tuple[str, ...]:
    """Names of the tensors of a tensor's shape that an optimizer keeps for it and that would still carry it on."""
    kept = getattr(optimizer, "state", {}).get(tensor, {})
    return tuple(
        str(key)
        for key, value in (kept.items() if isinstance(kept, Mapping) else ())
        if isinstance(value, torch.Tensor) and value.shape == tensor.shape and not value.is_meta and bool(value.any())
    )


def hooks_on(parameters: Mapping[str, torch.Tensor]) -> dict[str, Location | None]:
    """By name, the parameters on whose gradient a hook stands, and where the hook is defined if that is Python's."""
    found: dict[str, Location | None] = {}
    for name, parameter in parameters.items():
        for attribute in ("_backward_hooks", "_post_accumulate_grad_hooks"):
            for hook in (getattr(parameter, attribute, None) or {}).values():
                found[name] = _defined_at(hook) or found.get(name)
    return found


def _defined_at(function: Any) -> Location | None:
    code = getattr(function, "__code__", None)
    return location_in(code) if isinstance(code, CodeType) and kind(code.co_filename) == "user" else None


def _number(value: Any) -> float:
    if value is None:
        return 0.0
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def steps_as_torch_does(optimizer: Any) -> bool:
    """Whether `step` is torch's own and no hook stands on it: it writes to what the optimizer holds, nowhere else."""
    cls = type(optimizer)
    module = sys.modules.get(cls.__module__)
    if module is None or not cls.__module__.startswith("torch.optim.") or not _as_torch_wrote_it(optimizer.step):
        return False
    around = (vars(module), *map(vars, cls.__mro__), vars(optimizer))
    hooks = (
        optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks,
        _optim._global_optimizer_pre_hooks, _optim._global_optimizer_post_hooks,
    )  # fmt: skip
    functions = [value for names in around for value in list(names.values()) if isinstance(value, FunctionType)]
    return not any(hooks) and not needs_closure(optimizer) and all(map(_as_torch_wrote_it, functions))


def written_in_a_step(optimizer: Any) -> list[torch.Tensor]:
    """Return what a step of torch's own writes to: parameters that have a gradient, and what it remembers."""
    moved = [t for group in optimizer.param_groups for t in group["params"] if t.grad is not None]
    kept = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    return [*moved, *kept]


def _as_torch_wrote_it(function: Any) -> bool:
    """Whether a function and what it wraps is torch's or Python's own: nobody has put another in its place."""
    function = getattr(function, "__func__", function)
    while isinstance(function, FunctionType):
        file = function.__code__.co_filename
        # With typing_extensions torch marks methods as deprecated.
        if kind(file) not in ("torch", "python") and not file.endswith("typing_extensions.py"):
            return False
        if not hasattr(function, "__wrapped__"):
            return True
        function = function.__wrapped__
    return False


def needs_closure(optimizer: Any) -> bool:
    """Whether `step` cannot be called without a closure (LBFGS)."""
    closure = _closure_of(optimizer)
    return closure is not None and closure.default is inspect.Parameter.empty


def takes_closure(optimizer: Any) -> bool:
    """Whether `step` has a place for a closure."""
    return _closure_of(optimizer) is not None


def _closure_of(optimizer: Any) -> inspect.Parameter | None:
    try:
        return inspect.signature(optimizer.step).parameters.get("closure")
    except (TypeError, ValueError):
        return None


def warm_up(optimizers: Sequence[Any]) -> list[str]:
    """Lift learning rates that a scheduler's warm-up starts at 0, and say so.

    A scheduler leaves `initial_lr` in the groups it drives. A probe of a few steps cannot wait for the rise, and an
    lr of 0 would hide what the step would move; the caller puts the groups back.
    """
    said = []
    for _, index, group in groups_of(optimizers):
        initial = _number(group.get("initial_lr"))
        if initial > 0 and "lr" in group and _number(group["lr"]) == 0:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"] = torch.full_like(group["lr"], initial)
            else:
                group["lr"] = initial
            said.append(f"group {index} probed at its scheduler's lr {initial:g} instead of the warm-up's 0")
    return said
