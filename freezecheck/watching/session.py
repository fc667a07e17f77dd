"""A training under watch: torch's own global hooks around a user's unchanged loop, whoever drives it.

What is hooked, and undone on exit: every module's forward and every optimizer's step (torch's global hooks), the
start of every backward (`torch.autograd.backward`, through which `Tensor.backward` goes), `Module.eval` and
`Optimizer.add_param_group` (to know what was in eval mode, and what the flags were when an optimizer took the
tensors), and the tracer's mode.

Cost, measured with `tests/benchmarks/watch.py`: a copy of what trains once, the tracer's few per cent per watched
step, one comparison at the end; nothing once the watch is over.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from ..probe.functions import NoneReturned, following_functions
from ..probe.graph import leaves_and_functions
from ..probe.trace import Trace, tensors_in
from .flags import Flags
from .roots import root_of
from .watched import Watched

if TYPE_CHECKING:
    from ..spec import Spec

_PATIENCE = 20
"""So many times `steps` are waited for an optimizer that was made and has not stepped yet (a GAN's slow one)."""


class Session:
    """Watches until every optimizer made `steps` steps; then calls `enough` and stops looking."""

    def __init__(
        self,
        spec: Spec | None,
        *,
        steps: int,
        model: nn.Module | None = None,
        enough: Callable[[], None] = lambda: None,
    ) -> None:
        self.spec, self.wanted, self._only = spec, steps, model
        self.enough = enough
        """Called when everything was seen, after the last optimizer step; may raise."""
        self.models: list[Watched] = []
        self.optimizers: list[Any] = []
        self.put_in_eval: set[int] = set()
        self.flags = Flags()
        self.done = False
        self.total = 0
        self._depth = 0
        self._fresh = True
        self._process = os.getpid()
        self._roots: dict[int, Watched] = {}
        self._stack = ExitStack()
        self.trace = Trace(None, ())
        self.trace.on_flag = lambda tensor, value: self.flags.note(tensor, value, sys._getframe(2))

    # ------------------------------------------------------------ on and off

    def __enter__(self) -> Session:
        if self._only is not None:
            self._add("model", self._only)
        for handle in (
            register_module_forward_pre_hook(self._forward_begins),
            register_module_forward_hook(self._forward_ends, always_call=True),
            register_optimizer_step_pre_hook(self._step_begins),
            register_optimizer_step_post_hook(self._step_ends),
        ):
            self._stack.callback(handle.remove)
        self._stack.enter_context(self._patched())
        self._stack.enter_context(following_functions(self.trace))
        self.trace.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching: the training goes on as if nobody had looked."""
        if not self.done:
            self.done = True
            self.trace.stop()
            self._stack.close()

    @contextmanager
    def _patched(self) -> Iterator[None]:
        backward, evaluate, add = torch.autograd.backward, nn.Module.eval, Optimizer.add_param_group

        def watched_backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            self._backward(backward, tensors, args, kwargs)

        def watched_eval(module: nn.Module) -> nn.Module:
            self.put_in_eval.add(id(module))
            return evaluate(module)

        def watched_add(optimizer: Optimizer, group: Any) -> None:
            add(optimizer, group)
            self.take(optimizer)

        torch.autograd.backward = watched_backward
        nn.Module.eval = watched_eval  # type: ignore[method-assign, assignment]  # put back below
        Optimizer.add_param_group = watched_add  # type: ignore[method-assign, assignment]  # put back below
        try:
            yield
        finally:
            torch.autograd.backward = backward
            nn.Module.eval = evaluate  # type: ignore[method-assign]  # as it was
            Optimizer.add_param_group = add  # type: ignore[method-assign]  # as it was

    @property
    def _elsewhere(self) -> bool:
        """Whether this runs in a process forked from the one that is watched (a DataLoader's worker)."""
        return self.done or os.getpid() != self._process

    # ------------------------------------------------------------ models

    def _forward_begins(self, module: nn.Module, args: Any) -> None:
        self._depth += 1
        if self._depth > 1 or self._elsewhere or not torch.is_grad_enabled() or self.trace.phase != "forward":
            return
        with torch._C.DisableTorchFunction():
            if self._fresh:  # what was made before a step's forward is the model, not the step
                self._fresh = False
                self.trace.made.clear()
            watched = self._watched(module, sys._getframe(1))
            if watched is not None:
                watched.forward_begins()
                self.trace.watch(watched.parameters.values())
                for tensor in tensors_in(args, {}):
                    if not self.trace.flow.known(tensor) and tensor.grad_fn is None:
                        self.trace.flow.put(tensor, 0, 0)

    def _forward_ends(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        self._depth = max(0, self._depth - 1)

    def _watched(self, module: nn.Module, frame: Any) -> Watched | None:
        if id(module) in self._roots:
            return self._roots[id(module)]
        found = next((one for one in self.models if one.holds(module)), None)
        if found is None and self._only is None and any(True for _ in module.parameters()):
            found = self._add(*root_of(module, frame))
        if found is not None:
            self._roots[id(module)] = found
        return found

    def _add(self, name: str, model: nn.Module) -> Watched:
        known = next((one for one in self.models if one.model is model), None)
        if known is not None:
            return known
        inner = [one for one in self.models if any(one.model is part for part in model.modules())]
        self.models = [one for one in self.models if one not in inner]
        taken = {one.name for one in self.models}
        unique = next(n for n in (name, *(f"{name}{i}" for i in range(2, 1000))) if n not in taken)
        watched = Watched(unique, model, self.spec)
        self.models.append(watched)
        self._roots.clear()
        return watched

    # ------------------------------------------------------------ backward

    def _backward(self, backward: Callable[..., None], tensors: Any, args: Any, kwargs: Any) -> None:
        if self._elsewhere or self.trace.phase != "forward":
            backward(tensors, *args, **kwargs)
            return
        losses = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
        with torch._C.DisableTorchFunction():
            walked = [leaves_and_functions(loss.grad_fn) for loss in losses]
            watching = NoneReturned(self.trace, [node for _, functions in walked for node in functions])
            if not any(loss.requires_grad for loss in losses):
                self._note(losses, walked, watching)
        phase, self.trace.phase = self.trace.phase, "backward"
        try:
            backward(tensors, *args, **kwargs)
        finally:
            self.trace.phase = phase
        with torch._C.DisableTorchFunction():
            self._note(losses, walked, watching)

    def _note(self, losses: Sequence[torch.Tensor], walked: Any, watching: NoneReturned) -> None:
        returned = watching.cuts()
        watching.close()
        known = {id(t) for t in self.trace.made} | {i for one in self.models for i in one.names}
        taken = {id(t) for o in self.optimizers for g in o.param_groups for t in g["params"]}
        for loss, (leaves, _) in zip(losses, walked, strict=True):
            for one in self.models:
                one.evidence.note_leaves(leaves, known, taken)
                one.evidence.note_backward(self.trace, loss, returned, leaves)

    # ------------------------------------------------------------ steps

    def take(self, optimizer: Any) -> None:
        """Know an optimizer, and the flags of its tensors as they are now."""
        if not any(one is optimizer for one in self.optimizers):
            self.optimizers.append(optimizer)
        for group in optimizer.param_groups:
            for tensor in group["params"]:
                self.flags.taken(tensor)

    def _step_begins(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        if self._elsewhere:
            return
        with torch._C.DisableTorchFunction():
            if not any(one is optimizer for one in self.optimizers):
                self.take(optimizer)
            tensors = [t for group in optimizer.param_groups for t in group["params"]]
            if not any(one.owns(tensors) for one in self.models):
                self._look_for_owner(tensors, sys._getframe(1))
            owned = {key for one in self.models for key in one.names}
            for one in self.models:
                one.step_begins(self._index(optimizer), self.optimizers, owned)
        self.trace.phase = "step"

    def _look_for_owner(self, tensors: Sequence[torch.Tensor], frame: Any) -> None:
        """Find the model of tensors whose forward nobody saw (it ran under no_grad, or inside a compiled graph)."""
        owned = {id(t) for t in tensors}
        while frame is not None:
            for name, value in list(frame.f_locals.items()):
                if isinstance(value, nn.Module) and any(id(p) in owned for p in value.parameters()):
                    self._add(name, value)
                    return
            frame = frame.f_back

    def _step_ends(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        if self._elsewhere:
            return
        self.trace.phase = "forward"
        self.total += 1
        with torch._C.DisableTorchFunction():
            for one in self.models:
                one.step_ends(self._index(optimizer))
            self.trace.forget()
            self._fresh = True
            if self._finished():
                self.measure()
                self.close()
        if self.done:
            self.enough()

    def _index(self, optimizer: Any) -> int:
        return next(i for i, one in enumerate(self.optimizers) if one is optimizer)

    def _finished(self) -> bool:
        """Whether every optimizer of a watched model has made the steps wanted, or was waited for long enough."""
        if self.total >= _PATIENCE * self.wanted:
            return True
        counts = []
        for index, optimizer in enumerate(self.optimizers):
            tensors = [t for group in optimizer.param_groups for t in group["params"]]
            counts += [one.steps.get(index, 0) for one in self.models if one.owns(tensors)]
        return bool(counts) and min(counts) >= self.wanted

    def measure(self) -> None:
        """Compare every model with what it was."""
        for one in self.models:
            one.measure(self.optimizers)
