"""Try inputs on a model without touching it: on the meta device where that is possible, else for real."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves, tree_map

from ..errors import ProbeError
from ..guard import said
from ..loaders._nearest import perhaps
from ..places import frames_of, raised_at
from ._attributes import attributes_kept
from .explain import Refusal, refusal

_REAL_TRIALS = 24
"""A forward for real may take seconds; on the meta device it takes milliseconds."""


class Trials:
    """Runs the forward of one model on many inputs and keeps what was refused."""

    def __init__(self, model: nn.Module) -> None:
        inner = getattr(model, "_orig_mod", model)
        self._model: nn.Module = inner if isinstance(inner, nn.Module) else model
        lazy = any(is_lazy(t) for t in (*self._model.parameters(), *self._model.buffers()))
        self._on_a_copy = lazy or isinstance(self._model, torch.jit.ScriptModule)
        """A lazy layer would take the trial's shape for good; a script cannot be given other tensors."""
        self._on_meta = not self._on_a_copy
        self._real_left = _REAL_TRIALS
        self.refused: list[Refusal] = []
        self.output: Any = None
        """What the last accepted forward returned."""

    def accepts(self, make: Callable[[], Any], *, for_real: bool = False) -> bool:
        """Whether the forward runs on what `make` makes; a refusal is kept, with the layer and its words.

        Raises ProbeError when the forward is broken whatever its input: it is missing, or misspells a name.
        """
        if self._on_meta and not for_real:
            with torch.device("meta"):
                inputs = _to_meta(make())
            error = self._forward(inputs, self._meta_forward)
            if error is None:
                return True
            if "meta" not in str(error).lower():
                return self._refuse(inputs, error)
        if not self._real_left:
            return False
        self._on_meta = self._on_meta and for_real
        self._real_left -= 1
        inputs = make()
        error = self._forward(inputs, self._real_forward)
        return error is None or self._refuse(inputs, error)

    def _forward(self, inputs: Any, run: Callable[[Any], Any]) -> Exception | None:
        try:
            kept = nullcontext() if self._on_a_copy else attributes_kept(self._model)
            with torch.no_grad(), _silent(), kept:
                self.output = run(inputs)
        except Exception as error:
            return error
        return None

    def _meta_forward(self, inputs: Any) -> Any:
        tensors = {name: _to_meta(tensor) for name, tensor in _named_tensors(self._model)}
        with torch.device("meta"):
            return _call(self._model, tensors, inputs)

    def _real_forward(self, inputs: Any) -> Any:
        device = next((t.device for _, t in _named_tensors(self._model)), torch.device("cpu"))
        inputs = tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, inputs)
        if self._on_a_copy:
            return _call(copy.deepcopy(self._model), {}, inputs)
        return _call(self._model, {name: buffer.clone() for name, buffer in self._model.named_buffers()}, inputs)

    def _refuse(self, inputs: Any, error: Exception) -> bool:
        if _broken_anyway(error):
            name = type(self._model).__name__
            if isinstance(error, NotImplementedError):
                alike = perhaps("forward", vars(type(self._model)))
                raise ProbeError(f"{name} defines no forward", hint=alike) from error
            what = f"the forward of {name} {said(error)}"
            raise ProbeError(what, location=raised_at(error), frames=frames_of(error)) from error
        self.refused.append(refusal(self._model, inputs, error))
        return False


def _call(model: nn.Module, tensors: Mapping[str, Tensor], inputs: Any) -> Any:
    arguments, keywords = (inputs if isinstance(inputs, tuple) else (inputs,)), {}
    if isinstance(inputs, Mapping):
        arguments, keywords = (), dict(inputs)
    if not tensors:
        return model(*arguments, **keywords)
    return functional_call(model, dict(tensors), arguments, keywords, tie_weights=False)


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under each of its names."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _to_meta(value: Any) -> Any:
    return tree_map(lambda x: x.detach().to("meta") if isinstance(x, Tensor) else x, value)


def _broken_anyway(error: Exception) -> bool:
    """Whether no input could have helped. An attribute that a Tensor lacks means that no tensor was wanted."""
    if isinstance(error, AttributeError):
        return not str(error).startswith(("'Tensor'", "'tuple'", "'list'", "'NoneType'"))
    missing = isinstance(error, NotImplementedError) and 'missing the required "forward"' in str(error)
    return missing or isinstance(error, NameError | ImportError)


@contextmanager
def _silent() -> Iterator[None]:
    """What a forward prints or warns is said once, by the probe, and not for every trial."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def keeps_batch(output: Any, batch: int) -> bool:
    """Whether the first tensor of an output still has the batch among its first two dimensions, or is a scalar.

    A `view(-1, 400)` that takes the wrong image size makes other rows of it, and would pass unseen.
    """
    tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    return not tensors or tensors[0].ndim == 0 or batch in tensors[0].shape[:2]
