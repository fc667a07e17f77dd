"""The loss of a model that brings none: the one it returns, else a seeded random projection of its outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ..errors import ProbeError
from ..subject import call_model

_MOST_DEPTH = 8


def default_loss(model: torch.nn.Module, inputs: Any, seed: int, said: list[str] | None = None) -> torch.Tensor:
    """Run the model and make one scalar of what it returns.

    A `loss` that the model returns, or a dict of scalar losses as detection models give in training, is used as it
    is. Otherwise every floating output is multiplied by its own seeded normal noise and summed, over the root of its
    size: a plain sum would give zero gradients below a softmax or a LayerNorm, whose outputs sum to a constant.

    `said`, where given, gets the words for which of the two it was.
    Raises ProbeError when the model returns no floating-point tensor.
    """
    output = call_model(model, inputs)
    own = _own_loss(output)
    if own is not None:
        if said is not None:
            said.append("the model's own")
        return own
    if said is not None:
        said.append("a seeded random projection of the outputs")
    generators: dict[torch.device, torch.Generator] = {}
    total: torch.Tensor | None = None
    for part in _floating(output):
        noise = _noise_like(part, generators, seed)
        term = torch.sum(part.to(noise.dtype) * noise) / max(1, part.numel()) ** 0.5
        term = term.real if term.is_complex() else term
        total = term if total is None else total + term.to(total.device)
    if total is None:
        raise ProbeError(
            f"the model returns {_kind(output)}, in which there is no floating-point tensor to make a loss of",
            hint="define compute_loss(model, inputs) beside the model, or name one in the spec: "
            'loss = "train.py:compute_loss"',
        )
    return total


def _own_loss(output: Any) -> torch.Tensor | None:
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if isinstance(loss, torch.Tensor) and loss.numel() == 1:
        return loss.reshape(())
    if isinstance(output, Mapping) and output:
        values = list(output.values())
        scalars = all(isinstance(v, torch.Tensor) and v.dim() == 0 and v.is_floating_point() for v in values)
        if scalars:
            return torch.stack([v.to(values[0].device) for v in values]).sum()
    if isinstance(output, torch.Tensor) and output.dim() == 0 and output.is_floating_point():
        return output
    return None


def _floating(output: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    """Yield every floating or complex tensor of a nested output, in a fixed order."""
    if isinstance(output, torch.Tensor):
        if (output.is_floating_point() or output.is_complex()) and output.numel():
            yield output
    elif depth < _MOST_DEPTH:
        if isinstance(output, Mapping):
            parts = list(output.values())
        elif isinstance(output, (list, tuple)):
            parts = list(output)
        elif dataclasses.is_dataclass(output) and not isinstance(output, type):
            parts = [getattr(output, f.name) for f in dataclasses.fields(output)]
        else:
            parts = []
        for part in parts:
            yield from _floating(part, depth + 1)


def _noise_like(part: torch.Tensor, generators: dict[torch.device, torch.Generator], seed: int) -> torch.Tensor:
    dtype = part.dtype if part.dtype in (torch.float64, torch.complex64, torch.complex128) else torch.float32
    if part.is_meta:
        return torch.empty(part.shape, dtype=dtype, device="meta")
    if part.device not in generators:
        generators[part.device] = torch.Generator(part.device).manual_seed(seed)
    return torch.randn(part.shape, dtype=dtype, device=part.device, generator=generators[part.device])


def _kind(output: Any) -> str:
    return "None" if output is None else f"a {type(output).__name__}"


def require_scalar(loss: Any) -> torch.Tensor:
    """Return the loss if backward can start from it.

    Raises ProbeError when it is no tensor, or holds more than one element.
    """
    hint = "return one number, such as loss_fn(model(inputs), targets).mean()"
    if not isinstance(loss, torch.Tensor):
        raise ProbeError(f"the loss is {_kind(loss)}, not a tensor", hint=hint)
    if loss.numel() != 1:
        raise ProbeError(f"the loss is a tensor of shape {tuple(loss.shape)}, not a scalar", hint=hint)
    return loss
