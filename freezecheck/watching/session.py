"""A training under watch: torch's own global hooks around a user's unchanged loop, whoever drives it.

What is hooked, and undone on exit: every module's forward and every optimizer's step (torch's global hooks; a closure
given to a step, which does the forward and the backward, is followed), what `patches` adds, and the tracer's mode. Only
the thread that began the watch is looked at: DataParallel's and a DataLoader's threads train nothing of their own.

Cost, measured with `tests/benchmarks/watch.py`: a copy of what trains once, the tracer's few per cent per watched
step, one comparison at the end; nothing once the watch is over.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.parameter import is_lazy

from ..places import user_location
from ..probe.backward import inside_backward
from ..probe.flow import tensors_in
from ..probe.functions import NoneReturned, following_functions
from ..probe.graph import leaves_and_functions
from ..probe.trace import Trace
from ..records import Gradient
from .beside import Beside
from .flags import Flags
from .patches import Uncompiled, patched
from .ranks import Ranks
from .roots import meant_by, owner_of, root_of
from .steps import let_go, listen
from .watched import Watched, table_of, tensors_of

if TYPE_CHECKING:
    from ..records import Finding
    from ..spec import Spec

_PATIENCE = 10
"""So many times `steps` are waited for an optimizer that was made and has not stepped enough (a GAN's slow one)."""


Stage = Literal["set-up", "forward", "backward", "step"]
"""What the training is doing. The set-up ends with the first forward."""


class Session:
    """Watches until what trains made `steps` steps; then calls `enough` and stops looking."""

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
        self.beside = Beside()
        self.optimizers: list[Any] = []
        self.stepped: set[int] = set()
        """Optimizers, by index, that made a step."""
        self.put_in_eval: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self.flags = Flags()
        self.ranks = Ranks()
        self.uncompiled = Uncompiled()
        self.done = False
        self.total = 0
        """Optimizer steps, of all optimizers together."""
        self._stage: Stage = "set-up"
        self._resume: Stage = "set-up"
        """What goes on after a step: the backward, where the step is made by a hook inside of it."""
        self._depth = 0
        self._fresh = True
        self._traced = False
        self._compared = False
        self.disagreements: tuple[Finding, ...] = ()
        """What the ranks of a distributed training disagreed on before they began: reason to stop."""
        self._process, self._thread = os.getpid(), threading.get_ident()
        self._roots: dict[int, Watched] = {}
        self._stack = ExitStack()
        self.trace = Trace(None, ())
        self._enter_stage("set-up")
        self.trace.in_loop = True
        self.trace.on_flag = lambda tensor, value: self.flags.note(tensor, value, sys._getframe(2))
        self.trace.on_clear = self._cleared

    # ------------------------------------------------------------ on and off

    def __enter__(self) -> Session:
        if self._only is not None:
            self._add("model", self._only).waiting = True
        for handle in (
            register_module_forward_pre_hook(self._forward_begins),
            register_module_forward_hook(self._forward_ends, always_call=True),
        ):
            self._stack.callback(handle.remove)
        self._stack.callback(listen(self._step_begins, self._step_ends))
        self._stack.enter_context(patched(self))
        self._stack.enter_context(self.uncompiled)
        self._stack.enter_context(following_functions(self.trace))
        self.trace.start()
        if hasattr(os, "register_at_fork"):
            mine = weakref.ref(self)  # what is registered stays for ever, the session need not
            os.register_at_fork(after_in_child=lambda: _close(mine()))
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        let_go()

    def close(self) -> None:
        """Stop watching: the training goes on as if nobody had looked. What this leaves, `steps.let_go` takes away."""
        if not self.done:
            self.done = True
            self.trace.stop()
            self._stack.close()

    def _enter_stage(self, stage: Stage) -> None:
        """Tell the tracer too: in set-up it follows nothing, as in a step."""
        self._stage = stage
        self.trace.phase = "step" if stage == "set-up" else stage

    @property
    def _elsewhere(self) -> bool:
        """Whether this runs in another thread, or in a process forked from the watched one (a DataLoader's worker)."""
        return self.done or threading.get_ident() != self._thread or os.getpid() != self._process

    def evaluated(self, module: nn.Module) -> None:
        """Know that somebody put a module in eval mode."""
        self.put_in_eval.add(module)

    def compiled(self) -> None:
        """Know that something was compiled, and have it run as it was written while this watches."""
        if not self.done:
            self.uncompiled.used = True
            self.uncompiled.begin()

    # ------------------------------------------------------------ models

    def _forward_begins(self, module: nn.Module, args: Any) -> None:
        if self._elsewhere:
            return
        self._depth += 1
        self.trace.in_loop = False
        if self._depth > 1 or self._stage not in ("set-up", "forward"):
            return
        with torch._C.DisableTorchFunction():
            if not torch.is_grad_enabled():  # a validation, a teacher, or the frozen half of a step
                self._wake()
                known = next((one for one in self.models if one.holds(module)), None)
                if known is not None:
                    known.forward_without_gradients(module)
                elif self._only is None and self.total:
                    self.beside.forward_begins(module, sys._getframe(1), self.models)
                return
            watched = self._watched(module, sys._getframe(1))
            if watched is None:
                return
            self._wake()
            watched.forward_begins()
            self.trace.watch(p for p in watched.parameters.values() if not is_lazy(p))
            for tensor in tensors_in(args, {}):
                if not self.trace.flow.known(tensor) and tensor.grad_fn is None:
                    self.trace.flow.put(tensor, 0, 0)

    def _wake(self) -> None:
        """Begin to trace: what was done before a step's first forward made the model, and is no part of the step."""
        self._enter_stage("forward")
        if self._fresh:
            self._fresh, self._traced = False, True
            self.trace.made.clear()

    def _forward_ends(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        if not self._elsewhere:
            self._depth = max(0, self._depth - 1)
            self.trace.in_loop = self._depth == 0

    def _watched(self, module: nn.Module, frame: Any) -> Watched | None:
        if id(module) in self._roots:
            return self._roots[id(module)]
        found = next((one for one in self.models if one.holds(module)), None)
        if found is None and any(part is self._only for part in module.modules()):
            found = self.models[0]  # a wrapper around the one model that is meant
        if found is None and self._only is None and any(True for _ in module.parameters()):
            found = self._add(*root_of(module, frame))
        if found is not None:
            self._roots[id(module)] = found
        return found

    def _add(self, name: str, root: nn.Module) -> Watched:
        known = next((one for one in self.models if one.root is root), None)
        if known is not None:
            return known
        inner = [one for one in self.models if any(one.root is part for part in root.modules())]
        self.models = [one for one in self.models if one not in inner]
        taken = {one.name for one in self.models}
        unique = next(n for n in (name, *(f"{name}{i}" for i in range(2, 1000))) if n not in taken)
        watched = Watched(unique, root, meant_by(self.spec, root), self.spec)
        self.models.append(watched)
        self._roots.clear()
        return watched

    # ------------------------------------------------------------ backward

    def backward(self, backward: Callable[..., None], tensors: Any, args: Any, kwargs: Any) -> None:
        """Run a backward, and note what it reached."""
        if self._elsewhere or self._stage not in ("set-up", "forward"):
            backward(tensors, *args, **kwargs)
            return
        if self.total == 0 and not self._compared:
            self._compare_ranks()
        losses = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
        with torch._C.DisableTorchFunction():
            walked = [leaves_and_functions(loss.grad_fn) for loss in losses]
            watching = NoneReturned(self.trace, [node for _, functions in walked for node in functions])
            if not any(loss.requires_grad for loss in losses):
                self._note(losses, walked, watching)
        stage = self._stage
        self._enter_stage("backward")
        try:
            with inside_backward(self.trace):
                backward(tensors, *args, **kwargs)
        finally:
            self._enter_stage(stage)
        with torch._C.DisableTorchFunction():
            self._note(losses, walked, watching)
            for one in self.models:
                one.backward_ends()

    def _note(self, losses: Sequence[torch.Tensor], walked: Any, watching: NoneReturned) -> None:
        returned = watching.cuts()
        watching.close()
        known = {id(t) for t in self.trace.made} | {i for one in self.models for i in one.owned}
        taken = {id(t) for optimizer in self.optimizers for t in tensors_of(optimizer)}
        for loss, (leaves, _) in zip(losses, walked, strict=True):
            for one in self.models:
                one.traced = one.traced and self._traced
                one.evidence.note_leaves(leaves, known, taken)
                one.evidence.note_backward(self.trace, loss, returned, leaves, final=False)

    def _cleared(self, tensor: torch.Tensor) -> None:
        """Note a gradient that is taken away before a step has used it."""
        if self._stage != "forward" or self._elsewhere:
            return
        for one in self.models:
            if one.awaits(tensor):
                one.cleared(tensor, user_location(sys._getframe(2)))

    def _compare_ranks(self) -> None:
        """Ask the other ranks of a distributed training, before this backward waits for them for ever."""
        self._compared = True
        self.ranks.join()
        if not self.ranks.several or not self.models:
            return
        with torch._C.DisableTorchFunction():
            self.disagreements = self.ranks.compare(table_of(self.models, self.optimizers))
        if self.disagreements:
            self.close()
            self.enough()

    # ------------------------------------------------------------ steps

    def take(self, optimizer: Any) -> None:
        """Know an optimizer, and the flags of its tensors as they are now."""
        if self._elsewhere:
            return
        while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
            optimizer = inner  # inside a trainer's wrapper
        if not any(one is optimizer for one in self.optimizers):
            self.optimizers.append(optimizer)
        for group in optimizer.param_groups:
            for tensor in group["params"]:
                self.flags.taken(tensor)

    def _step_begins(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        """Note what a step is about to use; where a closure makes that first, after the closure."""
        if self._elsewhere:
            return None
        position = next((i for i, value in enumerate(args) if i and callable(value)), None)
        closure = kwargs.get("closure") if position is None else args[position]
        if closure is None:
            self._about_to_update(optimizer)
            return None
        followed = self._followed(optimizer, closure)
        if position is None:
            return args, {**kwargs, "closure": followed}
        return (*args[:position], followed, *args[position + 1 :]), kwargs

    def _followed(self, optimizer: Any, closure: Callable[[], Any]) -> Callable[[], Any]:
        def follow() -> Any:
            self._enter_stage("forward" if self._traced else "set-up")
            loss = closure()
            self._about_to_update(optimizer)
            return loss

        return follow

    def _about_to_update(self, optimizer: Any) -> None:
        if self._elsewhere or _overflowed(optimizer):
            return
        with torch._C.DisableTorchFunction():
            if not any(one is optimizer for one in self.optimizers):
                self.take(optimizer)
            tensors = tensors_of(optimizer)
            if self._only is None and not any(one.owns(tensors) for one in self.models):
                found = owner_of(tensors, sys._getframe(1))
                if found is not None:
                    self._add(*found).traced = False
            owned = {key for one in self.models for key in one.owned}
            for one in self.models:
                one.step_begins(self._index(optimizer), self.optimizers, owned)
        self._resume = "backward" if self._stage == "backward" else "forward" if self._traced else "set-up"
        self._enter_stage("step")

    def _step_ends(self, optimizer: Any) -> None:
        if self._elsewhere:
            return
        if self._stage == "step":
            self._enter_stage(self._resume)
        self._fresh = True
        if _overflowed(optimizer):
            return
        self.total += 1
        self.stepped.add(self._index(optimizer))
        with torch._C.DisableTorchFunction():
            for one in self.models:
                one.step_ends(self._index(optimizer))
            self.trace.forget()
            if self._finished():
                self.measure()
        if self.done:
            self.enough()

    def _index(self, optimizer: Any) -> int:
        return next(i for i, one in enumerate(self.optimizers) if one is optimizer)

    def _finished(self) -> bool:
        """Whether every optimizer that trains something of a model made the steps wanted, or was waited for enough."""
        if self.total >= _PATIENCE * self.wanted:
            return True
        counts: list[int] = []
        for index, optimizer in enumerate(self.optimizers):
            tensors = tensors_of(optimizer)
            if index in self.stepped or any(tensor.requires_grad for tensor in tensors):
                counts += [one.steps.get(index, 0) for one in self.models if one.owns(tensors)]
                counts += [0 for _ in self.beside.owners(tensors, self.models)]  # has yet to run with gradients
        if not counts:  # the optimizers hold nothing of any model
            return self.total >= self.wanted * max(1, len(self.stepped))
        return min(counts) >= self.wanted

    def trained(self, one: Watched) -> bool:
        """Whether a model is being trained: it got a gradient, or an optimizer that stepped holds some of it."""
        held = [t for i in self.stepped for t in tensors_of(self.optimizers[i])]
        return one.owns(held) or any(seen not in (None, Gradient.NONE) for seen in one.evidence.gradients.values())

    def measure(self) -> None:
        """Look no more, and compare every model with what it was."""
        self.close()
        for one in self.models:
            one.evidence.note_writes(self.trace)
            one.measure(self.optimizers, self.stepped)
        self.beside.measure(self.optimizers)


def _close(session: Session | None) -> None:
    """Look at nothing in a forked process (a DataLoader's worker), which has its own copy of everything."""
    if session is not None:
        session.close()


def _overflowed(optimizer: Any) -> bool:
    """Whether a fused optimizer was told by a GradScaler to leave everything as it is."""
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, torch.Tensor) and found.any().item() is True
