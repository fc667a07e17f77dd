"""What each layer keeps for the backward pass, in bytes: where freezing with `no_grad` saves memory, as a number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from ..errors import ProbeError
from ..guard import users_code
from .describe import Anatomy
from .flow import storage_of
from .loss import default_loss
from .switches import eager

if TYPE_CHECKING:
    from ..subject import Subject


def saved_bytes(subject: Subject, anatomy: Anatomy, seed: int) -> dict[str, int]:
    """Return, by layer path, the bytes of activations that one forward keeps for backward, the whole subtree's.

    Each storage counts once, for the layer that ran innermost when it was first saved; the weights themselves do not
    count, they are there anyway. Runs one more forward. (torch.autograd.graph.saved_tensors_hooks)
    """
    paths = {id(module): path for path, module in anatomy.modules.items()}
    own = {storage_of(t) for t in anatomy.tensors.values()}
    counted: set[int] = set()
    bytes_of: dict[str, int] = dict.fromkeys(anatomy.modules, 0)
    running: list[str] = [""]

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = storage_of(tensor)
        if storage not in own and storage not in counted:
            counted.add(storage)
            keep.append(tensor)
            _add(bytes_of, running[-1], tensor.untyped_storage().nbytes() if storage > 0 else tensor.nbytes)
        return tensor

    keep: list[torch.Tensor] = []
    make = subject.make_inputs
    assert make is not None, "the probe ran before"
    with users_code("the forward", ProbeError), torch.enable_grad(), eager(), _following(paths, running):
        inputs = make()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            if subject.compute_loss is not None:
                subject.run_loss(inputs)
            else:
                default_loss(subject.model, inputs, seed)
    return bytes_of


def _add(bytes_of: dict[str, int], path: str, size: int) -> None:
    bytes_of[""] += size
    while path:
        bytes_of[path] += size
        path = path.rpartition(".")[0]


@contextmanager
def _following(paths: dict[int, str], running: list[str]) -> Iterator[None]:
    """Keep the stack of the layers that are running, innermost last."""

    def enter(module: nn.Module, _args: Any) -> None:
        running.append(paths.get(id(module), running[-1]))

    def leave(_module: nn.Module, _args: Any, _output: Any) -> None:
        running.pop()

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
