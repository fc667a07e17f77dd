"""A training under watch: torch's own global hooks around a user's unchanged loop, whoever drives it.

What is hooked, and undone on exit: every module's forward and every optimizer's step (torch's global hooks; a closure
given to a step, which does the forward and the backward, is followed), what `patches` adds, and the tracer's mode. Only
the thread that began the watch is looked at: DataParallel's and a DataLoader's threads train nothing of their own.

Cost, measured with `tests/benchmarks/watch.py`: a fingerprint of every tensor as the watch begins (of small ones a
copy), the tracer's few per cent per watched step, one comparison at the end; nothing once the watch is over.
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
from ..probe.replaced import hand_on
from ..probe.trace import Trace
from ..records import Gradient, Loss
from .beside import Beside
from .finish import finished
from .flags import Flags
from .patches import Uncompiled, patched
from .pretrained import look
from .ranks import Ranks
from .roots import meant_by, owner_of, root_of, stands_in
from .steps import close_in_forks, let_go, listen, overflowed, with_closure
from .watched import Watched, among, table_of, tensors_of

if TYPE_CHECKING:
    from ..records import Finding
    from ..spec import Spec

Stage = Literal["set-up", "forward", "backward", "step"]
"""What the training is doing. The set-up ends with the first forward."""


class Session:
    """Watches until what trains made `steps` steps; then calls `enough` and stops looking."""

    stepwise = False
    """Compare after every step: what comes between the last and the end is no part of it."""
    pretrained = True
    """Whether to read the checkpoint that the spec names."""
    graphless: tuple[BaseException, Loss] | None = None
    """The error of a backward from a loss that does not require grad, and that loss."""
    inherited = 0
    """So many of the optimizers, the first ones, are an earlier session's, and need not step again."""

    def __init__(
        self,
        spec: Spec | None,
        *,
        steps: int,
        model: nn.Module | None = None,
        choose: str | None = None,
        enough: Callable[[], None] = lambda: None,
    ) -> None:
        self.spec, self.wanted, self._only = spec, steps, model
        self.choose = choose
        """The variable or class of the one model whose steps count; None: all that trains."""
        self.enough = enough
        """Called when everything was seen, after the last optimizer step; may raise."""
        self.step_begins: Callable[[nn.Module, Any], bool] = lambda *_: False
        """Called as the first forward of each step begins; returns whether this session has ended with that."""
        self.trained_before: dict[int, torch.Tensor] = {}
        """What an earlier phase may have moved."""
        self.models: list[Watched] = []
        self.beside = Beside(statistics_only=spec is None and choose is None)
        self.optimizers: list[Any] = []
        self.passed_on: list[Any] = []
        """Those that were made for a phase to come."""
        self.stepped: set[int] = set()
        """Optimizers, by index, that made a step."""
        self.put_in_eval: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self.flags, self.ranks, self.uncompiled = Flags(), Ranks(), Uncompiled()
        self.done = False
        self.total = 0
        """Optimizer steps, of all optimizers together."""
        self._stage: Stage = "set-up"
        self._resume: Stage = "set-up"
        """What goes on after a step: the backward, where the step is made by a hook inside of it."""
        self._depth = 0
        self._fresh = self._first = True
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
            register_module_forward_pre_hook(self.forward_begins),
            register_module_forward_hook(self._forward_ends, always_call=True),
        ):
            self._stack.callback(handle.remove)
        self._stack.callback(listen(self._step_begins, self._step_ends))
        self._stack.enter_context(patched(self))
        self._stack.enter_context(self.uncompiled)
        self._stack.enter_context(following_functions(self.trace))
        self.trace.start()
        close_in_forks(self)
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

    def forward_begins(self, module: nn.Module, args: Any) -> None:
        """Note a forward; also for the caller whose own hook on it began this session."""
        if self._elsewhere:
            return
        self._depth += 1
        self.trace.in_loop = False
        if self._depth > 1 or self._stage not in ("set-up", "forward"):
            return
        with torch._C.DisableTorchFunction():
            if not torch.is_grad_enabled():
                self._runs_beside(module, sys._getframe(1))
                return
            watched = self._watched(module, sys._getframe(1))
            first, self._first = self._first, self._first and watched is None
            if watched is None or (first and self.step_begins(module, args)):
                return
            self._wake()
            watched.forward_begins()
            self.trace.watch(p for p in watched.parameters.values() if not is_lazy(p))
            for tensor in tensors_in(args, {}):
                if not self.trace.flow.known(tensor) and tensor.grad_fn is None:
                    self.trace.flow.put(tensor, 0, 0)

    def _runs_beside(self, module: nn.Module, frame: Any) -> None:
        """Note a forward without gradients: a validation, a teacher, or the frozen half of a step."""
        self._wake()
        known = next((one for one in self.models if one.holds(module)), None)
        if known is not None:
            known.forward_without_gradients(module)
        elif self._only is None and self.total:
            self.beside.forward_begins(module, frame, self.models)

    def _wake(self) -> None:
        """Begin to trace: what was done before a step's first forward made the model, and is no part of the step."""
        self._enter_stage("forward")
        self.trace.forward_begins()
        if self._fresh:
            self._fresh, self._traced = False, True
            self.trace.made.clear()

    def _forward_ends(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        if not self._elsewhere:
            self._depth = max(0, self._depth - 1)
            self.trace.in_loop = self._depth == 0

    def lent(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Run a `functional_call`: the model is looked at before other tensors stand in its parameters' places."""
        self.forward_begins(module, args[1:2])
        try:
            return hand_on(call, module, *args, **kwargs)
        finally:
            self._forward_ends(module, (), None)

    def _watched(self, module: nn.Module, frame: Any) -> Watched | None:
        if id(module) in self._roots:
            return self._roots[id(module)]
        found = next((one for one in self.models if one.holds(module)), None)
        if found is None and any(part is self._only for part in module.modules()):
            found = self.models[0]  # a wrapper around the one model that is meant
        if found is None and self._only is None and any(True for _ in module.parameters()):
            name, root = root_of(module, frame)
            found = self._add(self.choose if self.choose and stands_in(self.choose, root, frame) else name, root)
        if found is not None:
            self._roots[id(module)] = found
        return found

    def _add(self, name: str, root: nn.Module) -> Watched:
        known = next((one for one in self.models if one.root is root), None)
        if known is not None:
            return known
        self.models = among(self.models, name, root, meant_by(self.spec, root), self.spec)
        self._roots.clear()
        return self.models[-1]

    # ------------------------------------------------------------ backward

    def backward(self, backward: Callable[..., None], tensors: Any, args: Any, kwargs: Any) -> None:
        """Run a backward, and note what it reached."""
        if self._elsewhere or self._stage not in ("set-up", "forward"):
            hand_on(backward, tensors, *args, **kwargs)
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
                hand_on(backward, tensors, *args, **kwargs)
        except RuntimeError as error:
            if losses and not any(loss.requires_grad for loss in losses):
                self.graphless = error, Loss(False, False, False, self.trace.cuts_on(losses[0]))
            raise
        finally:
            self._enter_stage(stage)
        with torch._C.DisableTorchFunction():
            self._note(losses, walked, watching)
            self.trace.watch_for_now([given for one in self.models for given in one.taken.backward_ends()])

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
        changed = with_closure(args, kwargs, lambda closure: self._followed(optimizer, closure))
        if changed is None:
            self._about_to_update(optimizer)
        return changed

    def _followed(self, optimizer: Any, closure: Callable[[], Any]) -> Callable[[], Any]:
        def follow() -> Any:
            self._enter_stage("forward" if self._traced else "set-up")
            loss = closure()
            self._about_to_update(optimizer)
            return loss

        return follow

    def _about_to_update(self, optimizer: Any) -> None:
        if self._elsewhere or overflowed(optimizer):
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
            if not any(tensor.grad is not None for tensor in tensors):  # whoever owns them is not what trains here
                owned -= {id(tensor) for tensor in tensors}
            for one in self.models:
                one.step_begins(self._index(optimizer), self.optimizers, owned, self.trace.writes)
                if self.pretrained and not one.steps:
                    look(one, self.trained_before)
        self._resume = "backward" if self._stage == "backward" else "forward" if self._traced else "set-up"
        self._enter_stage("step")

    def _step_ends(self, optimizer: Any) -> None:
        if self._elsewhere:
            return
        if self._stage == "step":
            self._enter_stage(self._resume)
        self._fresh = self._first = True
        if overflowed(optimizer):
            return
        self.total += 1
        self.stepped.add(self._index(optimizer))
        with torch._C.DisableTorchFunction():
            for one in self.models:
                one.step_ends(self._index(optimizer))
            self.trace.forget()
            if finished(self):
                self.measure()
            elif self.stepwise:
                self._compare()
        if self.done:
            self.enough()

    def _index(self, optimizer: Any) -> int:
        return next(i for i, one in enumerate(self.optimizers) if one is optimizer)

    def trained(self, one: Watched) -> bool:
        """Whether a model is being trained: it got a gradient, or an optimizer that stepped holds some of it."""
        held = [t for i in self.stepped for t in tensors_of(self.optimizers[i])]
        return one.owns(held) or any(seen not in (None, Gradient.NONE) for seen in one.evidence.gradients.values())

    def measure(self) -> None:
        """Look no more, and compare every model with what it was."""
        self.close()
        self._compare()

    def _compare(self) -> None:
        for one in self.models:
            one.evidence.note_writes(self.trace)
            one.measure(self.optimizers, self.stepped, self.inherited, self.trace.written_since)
        self.beside.measure(self.optimizers)

    def follow(self, before: Session, made: Sequence[Any] = ()) -> None:
        """Know what an earlier session of the same training knew, and the optimizers that were made since."""
        self.ranks, self.put_in_eval = before.ranks, before.put_in_eval
        self.uncompiled.used |= before.uncompiled.used
        self.trained_before = before.trained_before | {id(t): t for one in before.models for t in one.moving()}
        old = [one for one in before.optimizers if not any(one is other for other in made)]
        self.inherited = len(old)
        for optimizer in (*old, *made):
            self.take(optimizer)
