"""The probe: train the model as its loop would, a step or a few, and note what reached which tensor."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ..errors import FreezecheckError, ProbeError
from ..guard import users_code
from ..places import library_location, user_location
from ..records import (
    Conditions,
    Expected,
    Foreign,
    Gradient,
    Location,
    Membership,
    Need,
    Observation,
    Update,
)
from ..subject import Subject
from .backward import gradients_on_arrival, inside_backward
from .chance import look_without_chance, skipped
from .describe import Anatomy, gradient_in, grown_from
from .evidence import Evidence
from .failure import failed
from .flow import tensors_in
from .functions import NoneReturned, following_functions
from .graph import leaves_and_functions
from .loss import default_loss, require_scalar
from .members import (
    default_optimizers,
    empty_groups,
    groups_of,
    hooks_on,
    memberships,
    needs_closure,
    steps_as_torch_does,
    takes_closure,
    warm_up,
    written_in_a_step,
)
from .nonfinite import first_nonfinite
from .rows import RowEvidence
from .switches import eager, generators, seed_everything
from .trace import Trace
from .undone import undone
from .unregistered import hidden_layers
from .update import lost_update

if TYPE_CHECKING:
    from ..records import Plan
    from .untouched import Ground


def observe(
    subject: Subject,
    anatomy: Anatomy,
    plan: Plan,
    ground: Ground,
    *,
    steps: int = 3,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Observation:
    """Train `subject` for at most `steps` steps and return what was seen; stops when nothing is left asleep.

    The caller has entered `untouched`, whose `ground` this asks what moved and tells what will be written; `progress`
    is called with what is about to be done.
    Raises ProbeError when forward, loss, backward or step cannot run.
    """
    probe = Probe(subject, anatomy, plan, ground, seed)
    probe.set_up()
    for number in range(1, steps + 1):
        progress(f"training step {number} of at most {steps}")
        probe.step()
        if not probe.asleep():
            break
    progress("comparing every tensor with what it was")
    probe.look_for_undone_steps()
    probe.look_without_chance()
    return probe.observation()


class Probe:
    """One probe under way. `observe` is its use; the methods stand in the order in which they are called."""

    def __init__(self, subject: Subject, anatomy: Anatomy, plan: Plan, ground: Ground, seed: int) -> None:
        self.subject, self.anatomy, self.plan, self.ground, self.seed = subject, anatomy, plan, ground, seed
        self.parameters: dict[str, Any] = anatomy.parameters
        self.names = {id(t): name for name, t in anatomy.tensors.items()}
        self.flags_before = {n: p.requires_grad for n, p in self.parameters.items()}
        self.turned: dict[str, Location] = {}
        """Where a flag was set while the model trained."""
        self.meta = any(t.is_meta for t in anatomy.tensors.values())
        self.taken = 0
        self.evidence = Evidence(self.parameters, self.names, anatomy.modules)
        self.rows = RowEvidence(plan, self.parameters, ground)
        self.moved: dict[str, tuple[bool, float | None]] = {}
        self.updates: dict[str, Update] = {}
        self.foreign: list[tuple[Foreign, torch.Tensor]] = []
        self.by_chance: frozenset[str] = frozenset()
        self.not_chosen: frozenset[str] = frozenset()
        self.undone: frozenset[str] = frozenset()
        self.said: list[str] = []
        self.loss_said: list[str] = []

    @property
    def trainable(self) -> dict[str, Any]:
        """The parameters that require grad now: `train()` or the forward may have set a flag."""
        return {n: p for n, p in self.parameters.items() if p.requires_grad}

    def trace(self, follow: Iterable[torch.Tensor] = ()) -> Trace:
        """Make a trace that tells the ground of writes, and this probe of flags that are set."""
        trace = Trace(follow, self.ground.tensors, self.ground.keep)
        trace.on_flag = self._turned
        return trace

    def _turned(self, tensor: torch.Tensor, value: bool) -> None:
        name, frame = self.names.get(id(tensor)), sys._getframe(2)
        location = user_location(frame) or library_location(frame)
        if name in self.flags_before and location is not None and value != self.flags_before[name]:
            self.turned[name] = location

    # ------------------------------------------------------------ before the first step

    def set_up(self) -> None:
        """Seed, put the model into train mode as a loop does, and look at the optimizers."""
        seed_everything(self.seed)
        model = self.subject.model
        with users_code("model.train()", ProbeError), self.trace():
            model.train()
            for path in self.plan.eval_layers:
                self.anatomy.modules[path].eval()
        given = self.subject.optimizers
        self.optimizers = default_optimizers(self.parameters) if given is None else given
        self.said += warm_up(self.optimizers)
        for optimizer in self.optimizers:
            own_mode = getattr(optimizer, "train", None)
            if callable(own_mode):
                own_mode()  # schedule-free optimizers have a mode of their own
        self.memberships: dict[str, tuple[Membership, ...]]
        self.memberships, self.foreign = memberships(self.optimizers, self.names)
        for name in self.memberships.keys() - self.trainable.keys():
            before = self.ground.gradient_before(self.anatomy.tensors[name])
            if before is not None and gradient_in(before) is Gradient.ZERO:
                # Somebody's loop clears gradients with set_to_none=False: do as that loop does.
                self.anatomy.tensors[name].grad = before.detach().clone()

    # ------------------------------------------------------------ a step

    def step(self) -> None:
        """Run one forward, loss, backward and optimizer step, and note the gradients."""
        self.taken += 1
        self._clear()
        drawn = [*generators()]
        loss = self._backward(self.trace(self.trainable.values()))
        # A forward may hold a part in eval mode itself: what counts is the mode that it leaves.
        self.modes = {path: module.training for path, module in self.anatomy.modules.items()}
        if loss.requires_grad:
            self.evidence.nonfinite = self.evidence.nonfinite or first_nonfinite(self, drawn)
            self._optimize()

    def _clear(self) -> None:
        for _, tensor in self.foreign:
            tensor.grad = None
        for parameter in self.trainable.values():
            parameter.grad = None

    def forward(self, trace: Trace) -> tuple[Any, torch.Tensor]:
        """Make inputs, run the forward and the loss on them, and return inputs and loss."""
        self.ground.doubt()
        make = self.subject.make_inputs
        assert make is not None, "the caller infers the inputs"
        with users_code("making the inputs", ProbeError):
            inputs = make()
        for tensor in tensors_in((inputs,), {}):
            trace.flow.put(tensor, 0, 0)
        with self._running("the forward and the loss", trace), following_functions(trace):
            return inputs, require_scalar(self._computed(inputs))

    def _backward(self, trace: Trace) -> torch.Tensor:
        inputs, loss = self.forward(trace)
        trace.phase = "backward"
        if not loss.requires_grad:
            self.evidence.note_backward(trace, loss, {}, [])
            return loss
        leaves, functions = leaves_and_functions(loss.grad_fn)
        watching = NoneReturned(trace, functions)
        arriving = gradients_on_arrival(self.trainable, self.evidence)
        with self._running("the backward", trace), inside_backward(trace), arriving:
            torch.autograd.backward(loss)
        known = {id(t) for t in (*tensors_in((inputs,), {}), *trace.made)}
        self.evidence.note_leaves(leaves, known, {id(t) for _, t in self.foreign})
        self.evidence.note_backward(trace, loss, watching.cuts(), leaves)
        self.rows.note_gradients()
        watching.close()
        return loss

    def _compute(self, inputs: Any) -> Any:
        compute = self.subject.compute_loss
        if compute is not None:
            return self.subject.run_loss(inputs)
        return default_loss(self.subject.model, inputs, self.seed + self.taken, self.loss_said)

    def _computed(self, inputs: Any) -> Any:
        try:
            return self._compute(inputs)
        except FreezecheckError:
            raise
        except Exception as error:
            raise failed(self.subject, inputs, "the forward and the loss", error) from error

    @contextmanager
    def _running(self, doing: str, trace: Trace | None = None) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(users_code(doing, ProbeError))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(eager())
            stack.enter_context(trace or nullcontext())
            yield

    def _optimize(self) -> None:
        self.ground.doubt()
        trace = self.trace()
        trace.phase = "step"
        for optimizer in self.optimizers:
            if steps_as_torch_does(optimizer):  # to watch it would cost more than many a step itself
                trace.before_writing(written_in_a_step(optimizer))
                with self._running("the optimizer's step"):
                    optimizer.step()
            else:
                with self._running("the optimizer's step", trace):
                    self._step_of(optimizer)
        self.evidence.note_writes(trace)

    def _step_of(self, optimizer: Any) -> None:
        if needs_closure(optimizer):
            optimizer.step(self._closure)
            return
        try:
            optimizer.step()
        except Exception:
            if not takes_closure(optimizer):
                raise
            optimizer.step(self._closure)  # SAM and its like ask for one only once they run

    def _closure(self) -> torch.Tensor:
        """Clear, run and backpropagate once more: what LBFGS asks of a training loop."""
        self._clear()
        make = self.subject.make_inputs
        assert make is not None, "the caller infers the inputs"
        with torch.enable_grad():
            loss = require_scalar(self._compute(make()))
            torch.autograd.backward(loss)
        return loss

    # ------------------------------------------------------------ when to stop

    def asleep(self) -> bool:
        """Whether something has yet to wake, to train or to be moved, so that another step may tell."""
        wanted = [n for n in self.trainable if self.plan.expected.get(n) is Expected.TRAINABLE]
        if any(self.evidence.asleep(n) for n in wanted) or self.rows.asleep():
            return True
        if self.meta:
            return False
        self.ground.look()
        self.moved = {n: self.ground.change(self.parameters[n]) for n in wanted if n in self.memberships}
        still = [n for n in self.moved if not self.moved[n][0] and any(member.lr for member in self.memberships[n])]
        return bool(still) or self._written_in_vain()

    def _written_in_vain(self) -> bool:
        """Whether a frozen parameter was written and is what it was, as a teacher is that has yet to follow."""
        writes = self.evidence.writes
        written = (n for n in writes if n in self.parameters and not all(write.opened for write in writes[n]))
        frozen = (n for n in written if self.plan.expected.get(n) is Expected.FROZEN)
        return any(not self.ground.change(self.parameters[n])[0] for n in frozen)

    def look_for_undone_steps(self) -> None:
        """Find the parameters that a step moves and whose new value the next forward writes over."""
        self.undone = undone(self)

    def look(self, trace: Trace) -> torch.Tensor:
        """Run forward and backward once more, let no optimizer step, and return the loss."""
        self._clear()
        return self._backward(trace)

    def look_without_chance(self) -> None:
        """Look once more where something is asleep for no reason that was seen."""
        self.by_chance, self.not_chosen = look_without_chance(self)
        if self.by_chance:
            self.said.append(f"{len(self.by_chance)} tensors got their gradient only in a further look without dropout")

    # ------------------------------------------------------------ what was seen

    def observation(self) -> Observation:
        """Compare every tensor with what it was, and return all that was seen."""
        if not self.meta:
            self.ground.look()
            for name, tensor in self.anatomy.tensors.items():
                if name not in self.moved:
                    self.moved[name] = self._change(name, tensor)
            self._explain_unmoved()
        self.rows.compare()
        unjudged = self.by_chance | self.not_chosen
        moved = {n: m for n, m in self.moved.items() if n not in unjudged or m[0]}
        foreign = tuple(
            replace(f, gradient=t.grad is not None or id(t) in self.evidence.reached) for f, t in self.foreign
        )
        hooks = hooks_on(self.trainable)
        missing = {}
        if self.subject.optimizers is None:
            ask = self.subject.asking.optimizer
            missing[Need.OPTIMIZER] = f"no optimizer was given: {ask}, or name one in the spec"
        if self.meta:
            missing[Need.VALUES] = "the meta device holds no values: what moved and what is zero cannot be seen"
        return Observation(
            gradients={n: g for n, g in self.evidence.gradients.items() if n not in self.not_chosen},
            gradient_max=self.evidence.gradient_max,
            moved=moved,
            used=frozenset(self.evidence.used),
            cuts=self.evidence.cuts,
            writes=self.evidence.writes,
            updates=self.updates,
            undone=self.undone,
            woken=frozenset(self.evidence.woken),
            hidden=() if self.meta else hidden_layers(self.anatomy.modules, lambda t: self.ground.change(t)[0]),
            gradient_hooks=frozenset(hooks),
            hooked_at={name: location for name, location in hooks.items() if location is not None},
            frozen_rows=self.rows.frozen,
            trainable_rows=self.rows.trainable,
            wasted=frozenset(self.evidence.wasted),
            flags=self._flags_now(),
            flipped=self._flipped(),
            modes=self.modes,
            memberships=self.memberships,
            optimizers=tuple(type(o).__name__ for o in self.optimizers),
            empty_groups=empty_groups(self.optimizers),
            foreign=foreign,
            leaves=tuple(self.evidence.leaves.values()),
            loss=self.evidence.loss,
            nonfinite=self.evidence.nonfinite,
            conditions=self._conditions(),
            skipped=(*self.subject.skipped, *self.rows.skipped, *skipped(self.not_chosen)),
            missing=missing,
        )

    def _change(self, name: str, tensor: torch.Tensor) -> tuple[bool, float | None]:
        """As `Ground.change`, with what stands in a tensor's place by now; a buffer that only grew has not moved."""
        now = self.anatomy.now(name)
        if now is tensor:
            return self.ground.change(tensor)
        grew = name not in self.parameters and now is not None and grown_from(tensor, now)
        if grew and not self.ground.change(tensor)[0]:
            return False, 0.0
        return self.ground.change(tensor, now)

    def _flags_now(self) -> dict[str, bool]:
        """The flags that are no longer what they were when the check began."""
        return {n: p.requires_grad for n, p in self.parameters.items() if p.requires_grad != self.flags_before[n]}

    def _flipped(self) -> dict[str, Location]:
        """Where flags were turned against what is expected, by `train()`, the forward or the loss."""
        meant = {Expected.TRAINABLE: True, Expected.FROZEN: False}
        now = self._flags_now()
        against = [
            n for n, flag in now.items() if meant.get(self.plan.expected.get(n, Expected.UNCHECKED)) == (not flag)
        ]
        return {n: self.turned[n] for n in against if n in self.turned}

    def _explain_unmoved(self) -> None:
        for index, _, group in groups_of(self.optimizers):
            for tensor in group["params"]:
                name = self.names.get(id(tensor), "")
                if self.evidence.gradients.get(name) is Gradient.NONZERO and not self.moved[name][0]:
                    self.ground.doubt()  # the user's own optimizer is made and runs once more
                    update = lost_update(self.optimizers[index], group, tensor)
                    if update is not None:
                        self.updates[name] = update

    def _conditions(self) -> Conditions:
        device = next((str(t.device) for t in self.parameters.values()), "cpu")
        default = "SGD over all tensors that require grad (freezecheck's own)"
        said = self.subject.optimizer_said or ", ".join(type(o).__name__ for o in self.optimizers)
        return Conditions(
            seed=self.seed,
            device=device,
            torch=torch.__version__,
            optimizer="; ".join([default if self.subject.optimizers is None else said, *self.said]),
            inputs=self.subject.inputs_said,
            loss=self.subject.loss_said or next(iter(self.loss_said), ""),
            steps=self.taken,
        )
