"""Where the gradient is lost: follow, while the forward runs, which trainable parameters are upstream of each tensor.

Every torch function that Python calls passes through one `TorchFunctionMode`. Per tensor it keeps a bit set of the
parameters upstream and a bit set of the cuts upstream; an operation with a live input (one that requires grad) and a
dead result is a cut. Only the cuts in the loss's own set were on the way to the loss: a metric computed under
`no_grad` or a teacher's branch never appears there. What the mode cannot see (scripted functions, custom kernels) is
filled in from the autograd graph of their results.

The same mode sees every write in place before it happens. That is how a frozen weight can be put back without a copy
of all frozen weights being held, and how the line that wrote is known.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode

from ..places import from_checkpoint, library_location, switched_off_at, user_location
from ..records import Cut, Location, Phase, Write
from .flow import Flow, alive, tensors_in
from .operations import Effect, call_words, effect_of, is_flat, is_one_to_one, opens_memory, reason_of, written_by
from .writes import Writes


@dataclass
class FoundCut:
    """A cut, and the parameters (bits) that were upstream of it."""

    cut: Cut
    upstream: int
    flat: bool = False
    """Its derivative is zero: the gradient arrives, and is zero."""
    region: int = -1
    """The stretch without gradient recording that it belongs to; cuts of one stretch are one."""


class Trace(TorchFunctionMode):
    """The mode itself. Enter it around forward and loss; then ask `cuts_of` and `writes`."""

    def __init__(
        self,
        trainable: Iterable[torch.Tensor] | None,
        watched: Iterable[torch.Tensor],
        before_write: Callable[[torch.Tensor], None] | None = None,
    ) -> None:
        """Follow `trainable` (None: every parameter that turns up).

        Writes to `watched` are noted, after `before_write` (where given) was called with the tensor.
        """
        super().__init__()
        self.flow = Flow(trainable)
        self.cuts: list[FoundCut] = []
        self._numbers: dict[Any, int] = {}
        """By place and what is upstream, the index of a cut."""
        self._writes = Writes(before_write)
        self._writes.watch(watched)
        self.wasted: set[int] = set()
        """Identities of frozen weights through which a backward runs in vain."""
        self.functions: list[tuple[Any, Location | None]] = []
        """The graph node of each custom function's result, and the line that called it."""
        self.made: list[torch.Tensor] = []
        """Leaves that are there on purpose: the forward made them of what it computed, or differentiates by them."""
        self.phase: Phase = "forward"
        """Data is followed in `forward`, which is all but the backward and the step."""
        self.in_loop = False
        """Whether what is called `forward` is the training loop's own doing now, around its models' forwards."""
        self._stopped = False
        self._region, self._mode = 0, (True, False)
        self._entered: list[Location | None] = []
        self._escaped: dict[int, tuple[Any, int, int]] = {}
        self._pending = (0, 0)
        self.settled = False
        """A backward or a step is over: what leaves torch from now on, as the loss does for a log, leads to no loss."""
        self.on_flag: Callable[[torch.Tensor, bool], None] | None = None
        """Called with a tensor and the `requires_grad` that it is being given."""
        self.on_clear: Callable[[torch.Tensor], None] | None = None
        """Called with a tensor whose `.grad` is being set to None."""
        self.simulated: bool | None = None
        """Inside a custom Function torch records nothing: there, whether the user's own switches would record."""

    def watch(self, tensors: Iterable[torch.Tensor]) -> None:
        """Note writes to these tensors too, from now on."""
        self._writes.watch(tensors)

    def watch_for_now(self, tensors: Iterable[torch.Tensor]) -> None:
        """The same, until `forget`."""
        self._writes.watch_for_now(tensors)

    def before_writing(self, tensors: Iterable[torch.Tensor]) -> None:
        """Tell of writes that the mode will not see: to these tensors, and so to all that share their memory."""
        self._writes.keep(tensors)

    def forget(self) -> None:
        """Begin a new step: let go of what the last one left."""
        self.flow.forget()
        self.functions.clear()
        self._escaped.clear()
        self._pending = (0, 0)
        self.settled = True
        self._writes.settle()

    def forward_begins(self) -> None:
        """Begin a forward: of what left torch after the backward before it, only the very values may come back."""
        if self.settled:
            self.settled, self._pending = False, (0, 0)

    def start(self) -> None:
        """Enter the mode without a `with`."""
        leave_stopped()
        self.__enter__()  # type: ignore[no-untyped-call]  # torch's own

    def stop(self) -> None:
        """Look no more: leave the stack of modes, or pass calls through where torch holds the mode for a while."""
        self._stopped = True
        leave_stopped()

    def __exit__(self, *exception: object) -> None:
        """Leave the stack, unless the trace was stopped meanwhile and is no longer there."""
        if _get_current_function_mode_stack()[-1:] == [self]:  # type: ignore[no-untyped-call]  # torch's own
            super().__exit__(*exception)  # type: ignore[no-untyped-call]  # as above

    @property
    def _now(self) -> Phase:
        return "loop" if self.in_loop and self.phase == "forward" else self.phase

    # ------------------------------------------------------------ the mode

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one torch function of the user's and note what it did to the flow."""
        kwargs = kwargs or {}
        if self._stopped:
            return func(*args, **kwargs)
        effect = effect_of(func)
        if effect is Effect.IGNORED:
            if opens_memory(func):
                self._writes.note_opening(func, tensors_in(args[:1], {}), self._now)
            return func(*args, **kwargs)
        if effect in (Effect.FLAG, Effect.GRADIENT):
            self._note_set(effect, args[0], args[1] if len(args) > 1 else kwargs.get("requires_grad", True))
            return func(*args, **kwargs)
        if self.phase != "forward":
            if opens_memory(func):
                self._writes.note_opening(func, tensors_in(args[:1], {}), self.phase)
            self._writes.note(func, written_by(func, args, kwargs), self.phase)
            return func(*args, **kwargs)
        if effect is Effect.GRAD_MODE:
            self._switch(bool(args[0]))
            return func(*args, **kwargs)
        return self._run(func, effect, args, kwargs)

    def _note_set(self, effect: Effect, tensor: torch.Tensor, value: Any) -> None:
        if effect is Effect.GRADIENT:
            if self.on_clear is not None and value is None:
                self.on_clear(tensor)
            return
        if value and self.phase == "forward":
            self.made.append(tensor)
        if self.on_flag is not None:
            self.on_flag(tensor, bool(value))

    def _run(self, func: Any, effect: Effect, args: Any, kwargs: Any) -> Any:
        inputs = tensors_in(args, kwargs)
        upstream, cuts, live = 0, 0, False
        of = self._of if self._pending[0] else self.flow.of
        for tensor in inputs:
            above, lost = of(tensor)
            upstream, cuts = upstream | above, cuts | lost
            live = live or (above != 0 and (self.simulated is not None or alive(tensor)))
        if self._escaped:
            above, lost = self._returning(effect, args, kwargs)
            upstream, cuts = upstream | above, cuts | lost
        written = written_by(func, args, kwargs)
        if written:
            self._writes.note(func, written, self._now)
        elif opens_memory(func):
            self._writes.note_opening(func, inputs[:1], self._now)
        result = func(*args, **kwargs)
        self._note_made(func, args, kwargs, result)
        if not upstream:
            self._note_waste(inputs, result)
            if self._pending[0]:
                self._note_clean(result)
            return result
        if effect is Effect.LEAVES:
            self._leave(func, result, upstream, cuts, live)
            return result
        outputs = tensors_in((result,), {})
        if len(outputs) > 1 and self.simulated is None and any(alive(output) for output in outputs):
            outputs = self._note_dead_beside_living(func, inputs, outputs, upstream, cuts)
        for output in (*outputs, *written):
            self._note_output(func, effect, output, upstream, cuts, live)
        return result

    def _note_made(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        if kwargs.get("requires_grad") and isinstance(result, torch.Tensor):
            self.made.append(result)
        elif func is torch.autograd.grad:
            self.made += tensors_in(args[1:2], {"inputs": kwargs.get("inputs")})

    def _note_dead_beside_living(
        self, func: Any, inputs: list[torch.Tensor], outputs: list[torch.Tensor], upstream: int, cuts: int
    ) -> list[torch.Tensor]:
        """Note the results that carry no gradient where others of the same call do: no cut. Return the rest."""
        paired = is_one_to_one(func) and len(inputs) == len(outputs)
        rest = []
        for i, output in enumerate(outputs):
            if alive(output) or not _can_carry(output):
                rest.append(output)
            else:
                self.flow.put(output, *(self._of(inputs[i]) if paired else (upstream, cuts)))
        return rest

    def _of(self, tensor: torch.Tensor) -> tuple[int, int]:
        upstream, cuts = self.flow.of(tensor)
        if self._pending[0] and not upstream and not tensor.requires_grad and id(tensor) not in self._writes.ids:
            # Made outside the mode's sight (`from_numpy`, `torch.Tensor(list)`) after data had left torch.
            return (upstream, cuts) if self.flow.known(tensor) else self._pending
        return upstream, cuts

    def _note_clean(self, result: Any) -> None:
        """Know what torch makes of other things, so that it is not taken for what comes back after leaving torch."""
        for output in tensors_in((result,), {}):
            if not output.requires_grad:
                self.flow.put(output, 0, 0)

    # ------------------------------------------------------------ cuts

    def _note_output(
        self, func: Any, effect: Effect, output: torch.Tensor, upstream: int, cuts: int, live: bool
    ) -> None:
        recording, inference = self._modes()
        carries = alive(output) if self.simulated is None else recording and _can_carry(output)
        if effect is Effect.CUTS:
            carries = False
        if carries:
            if live and is_flat(func):
                cuts |= self._cut(func, output, upstream, flat=True)
        elif live or self._would_cut(effect, recording and not inference, cuts):
            cuts |= self._cut(func, output, upstream)
        if effect is Effect.WRITES and output._base is not None:
            base_upstream, base_cuts = self.flow.of(output._base)
            self.flow.put(output._base, base_upstream | upstream, base_cuts | cuts)
        self.flow.put(output, upstream, cuts)

    def _would_cut(self, effect: Effect, recording: bool, cuts: int) -> bool:
        """Whether this operation would have cut had its input not been dead already: the next cut to mend."""
        if effect is Effect.CUTS:
            return True
        return not recording and not any(c.region == self._region for c in self._in(cuts))

    def _cut(self, func: Any, output: torch.Tensor | None, upstream: int, *, flat: bool = False) -> int:
        recording, inference = self._modes()
        if flat:
            words = call_words(func)
            operation, reason = words, f"the derivative of {words} is zero everywhere"
        else:
            operation, reason = reason_of(func, output, inference=inference, grad_enabled=recording)
        region = self._region if operation in ("no_grad", "inference_mode") else -1
        entered = self._entered[-1] if self._entered and operation == "no_grad" else None
        if entered and "set_grad_enabled(" in entered.text:
            operation, reason = "set_grad_enabled", reason.replace("torch.no_grad()", "set_grad_enabled(False)")
        frame = sys._getframe(1)
        cut = Cut(operation, reason, user_location(frame), library_location(frame), entered)
        return self.add_cut(cut, upstream, flat=flat, region=region)

    def add_cut(self, cut: Cut, upstream: int, *, flat: bool = False, region: int = -1) -> int:
        """Note a cut and return its bit. The same place counts once for the same parameters upstream."""
        place: Any = cut if region < 0 else (region, cut.location)
        number = self._numbers.setdefault((place, upstream, flat), len(self.cuts))
        if number == len(self.cuts):
            self.cuts.append(FoundCut(cut, upstream, flat, region))
        return 1 << number

    def _in(self, bits: int) -> Iterator[FoundCut]:
        return (found for i, found in enumerate(self.cuts) if bits >> i & 1)

    def _modes(self) -> tuple[bool, bool]:
        """Return (records gradients, is in inference mode) as the user's own code has set them."""
        recording = torch.is_grad_enabled() if self.simulated is None else self.simulated
        inference = torch.is_inference_mode_enabled()
        if (recording, inference) != self._mode:
            self._mode = (recording, inference)
            self._region += 1
        return recording, inference

    def _switch(self, enabled: bool) -> None:
        if self.simulated is not None:
            if from_checkpoint(sys._getframe(2)):
                return  # its own no_grad: the backward runs the block again with gradients on
            self.simulated = enabled
        if enabled:
            self._entered.clear()
        elif torch.is_grad_enabled() or not self._entered:
            self._entered.append(switched_off_at(sys._getframe(2)))
        self._region += 1

    def cuts_of(self, parameter: torch.Tensor, loss: torch.Tensor, *, flat: bool = False) -> tuple[Cut, ...]:
        """Return the cuts between a parameter and the loss, in the order of the flow."""
        bit, (upstream, lost) = self.flow.bit(parameter), self.flow.of(loss)
        on_the_way = [f for f in self._in(lost) if f.flat == flat and f.upstream & bit]
        if not on_the_way and not flat and not upstream & bit:
            # Data left torch and its trail was lost in Python arithmetic: name the places where it left.
            on_the_way = [f for f in self._in(self._pending[1]) if f.upstream & bit]
        return self._told_once(on_the_way, loss)

    def _told_once(self, cuts: list[FoundCut], loss: torch.Tensor) -> tuple[Cut, ...]:
        """Tell a stretch without gradient recording once, by the first of its cuts that the user's line made.

        A line that calls a whole layer under no_grad cuts in each of the layer's own lines; it is one mistake.
        """
        first: dict[tuple[int, Location | None], Cut] = {}
        for found in self._in(self.flow.of(loss)[1]):
            first.setdefault((found.region, found.cut.location), found.cut)
        told: dict[int, Cut] = {}
        for number, found in enumerate(cuts):
            if found.region < 0:
                told[-1 - number] = found.cut
            else:
                told.setdefault(found.region, first.get((found.region, found.cut.location), found.cut))
        return tuple(dict.fromkeys(told.values()))

    def cuts_on(self, loss: torch.Tensor, parameters: Iterable[torch.Tensor] | None = None) -> tuple[Cut, ...]:
        """Return every cut on the way from these parameters (None: any) to the loss, in the order of the flow."""
        bits = self.flow.of(loss)[1] or (0 if loss.grad_fn is not None else self._pending[1])
        ours = -1 if parameters is None else sum({self.flow.bit(parameter) for parameter in parameters})
        return tuple(dict.fromkeys(found.cut for found in self._in(bits) if not found.flat and found.upstream & ours))

    # ------------------------------------------------------------ through Python and numpy

    def _leave(self, func: Any, result: Any, upstream: int, cuts: int, live: bool) -> None:
        cuts |= self._cut(func, None, upstream) if live or cuts else 0
        self._escaped[id(result)] = (result, upstream, cuts)
        self._pending = (self._pending[0] | upstream, self._pending[1] | cuts)

    def _returning(self, effect: Effect, args: Any, kwargs: Any) -> tuple[int, int]:
        upstream, cuts = 0, 0
        for value in (*args, *kwargs.values()):
            for item in value if isinstance(value, (list, tuple)) else (value,):
                entry = self._escaped.get(id(item))
                if entry is not None and entry[0] is item:
                    upstream, cuts = upstream | entry[1], cuts | entry[2]
            entry = self._escaped.get(id(value))
            if entry is not None and entry[0] is value:
                upstream, cuts = upstream | entry[1], cuts | entry[2]
        if effect is Effect.ENTERS and not upstream and not tensors_in(args, kwargs):
            return self._pending
        return upstream, cuts

    # ------------------------------------------------------------ writes and waste

    @property
    def writes(self) -> dict[int, list[Write]]:
        """What was written in place, by identity of the tensor written."""
        return self._writes.seen

    @property
    def written_since(self) -> set[int]:
        """Identities of the tensors that the training's loop wrote to since the last step, and not before."""
        return self._writes.since("loop")

    def _note_waste(self, inputs: list[torch.Tensor], result: Any) -> None:
        """Note frozen weights through which a backward will run although nothing trainable lies below them."""
        if any(t.requires_grad for t in inputs) and any(t.requires_grad for t in tensors_in((result,), {})):
            self.wasted.update(id(t) for t in inputs if id(t) in self._writes.ids and not t.requires_grad)


def leave_stopped() -> None:
    """Take stopped traces off torch's stack of modes, wherever they lie in it.

    One that a function of torch runs under is off the stack, and comes back when that function ends.
    """
    stack = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]  # torch's own
    kept = [mode for mode in stack if not (isinstance(mode, Trace) and mode._stopped)]
    if len(kept) < len(stack):
        for _ in stack:
            _pop_mode()  # type: ignore[no-untyped-call]  # as above
        for mode in kept:
            _push_mode(mode)  # type: ignore[no-untyped-call]  # as above


def _can_carry(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
