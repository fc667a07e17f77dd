"""Move a model to a device and keep what belongs together: tied tensors, and the optimizers' hold on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ..errors import TargetError
from ..guard import users_code

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.optim import Optimizer


def move(model: nn.Module, device: str, optimizers: Iterable[Optimizer] = ()) -> None:
    """Move the model in place. Raises TargetError where there is no such device, or not enough memory on it.

    `Module.to` cannot move to the meta device in place: it makes new parameters, which would untie tied ones and
    leave an optimizer with the old ones. Here both are kept.
    """
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise TargetError(f"torch knows no device {device!r}", hint="--device cpu, cuda, cuda:1, mps …") from error
    if wanted.type != "meta":
        with users_code(f"moving the model to {device}", TargetError):
            model.to(wanted)
        return
    moved: dict[int, torch.Tensor] = {}
    kept: list[torch.Tensor] = []
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and not tensor.is_meta:
                    kept.append(tensor)  # keeps its id from being given to another
                    tensors[name] = moved.setdefault(id(tensor), _on_meta(tensor))  # type: ignore[assignment]  # a parameter's twin is a parameter
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [moved.get(id(tensor), tensor) for tensor in group["params"]]


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    """Its twin on the meta device, with its flag and whatever attributes somebody set on it."""
    twin = tensor.detach().to("meta")
    if isinstance(tensor, nn.Parameter):
        twin = nn.Parameter(twin, requires_grad=tensor.requires_grad)
    twin.__dict__.update(tensor.__dict__)
    return twin
