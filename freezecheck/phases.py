"""Training in stages: one model goes through the spec's phases, each beginning with what the one before it left.

A spec without phases is one stage without a name. Between two stages the user's own `setup` runs, and it is watched:
which flags it turns, what it writes, and what becomes of the optimizer's memory.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from .errors import ProbeError, UsageError
from .guard import users_code
from .judge import codes_run, judge
from .loaders._reference import user_function
from .places import location_in, user_location
from .pretrained import against_pretrained
from .probe.flag_lines import standing
from .probe.made_at import lines_of
from .probe.switches import seed_everything
from .probe.trace import Trace
from .records import Case, Change, Expected, Finding, Location, Need, Observation, Plan, Skipped
from .spec.mistakes import nearest

if TYPE_CHECKING:
    from .probe.describe import Anatomy
    from .probe.untouched import Ground
    from .spec import Spec
    from .subject import Subject

_OF_THE_SPEC = "FZ00"
"""Findings that have to do with the spec alone are the same in every phase that shares its lists."""


@dataclass(frozen=True)
class Stage:
    """One stage of the training."""

    spec: Spec | None
    name: str | None = None
    """None where the spec has no phases."""
    setup: str | None = None
    judged: bool = True
    """False for a phase that is only passed through on the way to the one asked for."""


def stages_of(spec: Spec | None, only: str | None = None) -> tuple[Stage, ...]:
    """The stages to run: the spec's phases (up to `only`, which is then the one that is judged), or the spec itself.

    Raises UsageError when the spec has no phase of that name.
    """
    phases = spec.phases if spec else ()
    names = [phase.name for phase in phases]
    if only is not None and only not in names:
        if spec is None:
            raise UsageError(f"there is no phase `{only}` without a freeze spec", hint="Its [[phase]] tables are.")
        known = f"It has {', '.join(names)}." if names else "Phases are [[phase]] tables in a freeze spec."
        raise UsageError(f"{spec.path or 'the spec'} has no phase `{only}`{nearest(only, names)}", hint=known)
    if not phases:
        return (Stage(spec),)
    last = len(names) if only is None else names.index(only) + 1
    return tuple(
        Stage(phase.spec, phase.name, phase.setup, judged=only in (None, phase.name)) for phase in phases[:last]
    )


class Course:
    """A subject on its way through the stages. Lives inside `untouched`, whose ground puts everything back."""

    def __init__(self, subject: Subject, ground: Ground, stages: Sequence[Stage], seed: int) -> None:
        """Look up every setup function before anything trains. Raises SpecError and TargetError."""
        self.subject, self.ground, self._seed = subject, ground, seed
        self._functions = {stage.name: _function(stage) for stage in stages if stage.setup}
        for _, files in self._functions.values():
            self.subject = replace(self.subject, files=tuple(dict.fromkeys((*self.subject.files, *files))))
        self._passed: list[str] = []
        self._flags: dict[int, tuple[torch.Tensor, bool]] = {}
        self._turned: dict[int, Location] = {}
        self._began_at: Location | None = None
        self._forgotten: list[torch.Tensor] = []
        self._trained: dict[int, torch.Tensor] = {}
        self._pretrained: tuple[dict[str, Change], str, tuple[str, ...]] = ({}, "", ())
        self._without_values = False

    def enter(self, stage: Stage) -> None:
        """Begin a stage: run its setup on what the stage before left, and measure change from there on.

        Raises ProbeError when the setup raises or returns what is no optimizer.
        """
        first = not self._passed
        model = self.subject.model
        if not first:
            self.ground.doubt()
            for parameter in model.parameters():
                parameter.grad = None  # as the next zero_grad() of a loop would
        remembered = _remembering(self.subject.optimizers or ())
        self._flags = {} if first else {id(p): (p, p.requires_grad) for p in model.parameters()}
        self._turned, self._began_at = {}, None
        if stage.name in self._functions:
            self._set_up(stage)
        kept = _remembering(self.subject.optimizers or ())
        held = {id(t) for o in self.subject.optimizers or () for group in o.param_groups for t in group["params"]}
        self._forgotten = [t for key, t in remembered.items() if key in held and key not in kept and t.requires_grad]
        if not first or stage.setup:
            self.ground.settle(model)
        if stage.name is not None:
            self._passed.append(stage.name)

    def look(self, stage: Stage, body: Anatomy, plan: Plan) -> None:
        """Compare what is frozen, and was from the start, with the spec's pretrained checkpoint, before any step.

        Raises UsageError when the checkpoint cannot be read.
        """
        if stage.spec is not None and stage.spec.pretrained is not None:
            self._without_values = any(tensor.is_meta for tensor in body.tensors.values())
            if not self._without_values:
                self._pretrained = against_pretrained(stage.spec, body, plan, self._trained)
        moving = (t for name, t in body.tensors.items() if plan.expected[name] is not Expected.FROZEN)
        self._trained.update({id(tensor): tensor for tensor in moving})

    def gradient_before(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The gradient that lay on a tensor as the stage began."""
        return self.ground.gradient_before(tensor) if len(self._passed) < 2 else tensor.grad

    def _set_up(self, stage: Stage) -> None:
        function, _ = self._functions[stage.name]
        self._began_at = location_in(function.__code__) if inspect.isfunction(function) else None
        optimizers = self.subject.optimizers
        given = optimizers[0] if optimizers and len(optimizers) == 1 else optimizers
        model = self.subject.model
        watch = Trace((), self.ground.tensors, self.ground.keep)
        watch.phase = "step"
        watch.on_flag = self._note_flag
        none = f"it was called with None: no optimizer was given; {self.subject.asking.optimizer}"
        hint = "" if optimizers else none
        seed_everything(self._seed)
        try:
            with users_code(f"{stage.setup}(model, optimizer)", ProbeError, hint=hint), torch.enable_grad(), watch:
                made = function(model, given)
        except ProbeError as error:
            if "more than one parameter group" in error.message:
                error.hint = "the optimizer steps some of them already: give add_param_group only those that it lacks"
            raise
        if made is not None:
            new = _optimizers(made, str(stage.setup))
            if [id(one) for one in new] != [id(one) for one in optimizers or ()]:
                said = f"{', '.join(type(one).__name__ for one in new)} from {stage.setup}"
                self.subject = replace(self.subject, optimizers=new, optimizer_said=said)

    def _note_flag(self, tensor: torch.Tensor, value: bool) -> None:
        place = user_location(sys._getframe(2))
        if value != tensor.requires_grad and place is not None:
            self._turned[id(tensor)] = place

    def completed(self, body: Anatomy, plan: Plan, seen: Observation) -> Observation:
        """Add to what was seen in a stage what only its history tells."""
        changes, pretrained, notes = self._pretrained
        conditions = replace(
            seen.conditions,
            phases=tuple(self._passed),
            optimizer=self._optimizer(body, seen),
            pretrained=pretrained,
            pretrained_notes=notes,
        )
        flipped = {**seen.flipped, **self._flipped(body, plan)}
        missing = dict(seen.missing)
        if self._without_values:
            missing[Need.PRETRAINED] = "the meta device holds no values to compare with the pretrained checkpoint"
        return replace(
            seen,
            conditions=conditions,
            flipped=flipped,
            flag_lines=standing(self.subject.flag_lines, body.parameters),
            optimizer_lines=lines_of(self.subject.optimizers or ()),
            pretrained=changes,
            missing=missing,
        )

    def table(self, case: Case) -> Case:
        """The stage's case: one that follows another has a history of flags, as a training under watch has."""
        if len(self._passed) < 2:
            return case
        return replace(case, missing={need: why for need, why in case.missing.items() if need is not Need.TRAINING})

    def _flipped(self, body: Anatomy, plan: Plan) -> dict[str, Location]:
        """Parameters that had the flag that is expected now, and lost it as this stage began."""
        flipped = {}
        for name, parameter in body.parameters.items():
            _, before = self._flags.get(id(parameter), (None, parameter.requires_grad))
            wanted = plan.expected.get(name) is (Expected.TRAINABLE if before else Expected.FROZEN)
            place = self._turned.get(id(parameter), self._began_at)
            if wanted and before != body.description.by_name[name].requires_grad and place is not None:
                flipped[name] = place
        return flipped

    def _optimizer(self, body: Anatomy, seen: Observation) -> str:
        """What the conditions say of the optimizer, and of what it no longer remembers."""
        names = {id(t): name for name, t in body.parameters.items()}
        lost = [names[id(t)] for t in self._forgotten if id(t) in names]
        if not lost:
            return seen.conditions.optimizer
        listed = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        return f"{seen.conditions.optimizer}; its state of {listed} from phase {self._passed[-2]} was not carried over"


def _function(stage: Stage) -> tuple[Callable[..., Any], tuple[str, ...]]:
    assert stage.spec is not None, "only a phase has a setup"
    assert stage.setup is not None, "asked only where there is one"
    return user_function(stage.setup, str(stage.spec.folder), "setup", stage.spec.locations.get("setup"))


def _remembering(optimizers: Iterable[Any]) -> dict[int, torch.Tensor]:
    """The tensors of which an optimizer remembers something: momentum, a count of steps."""
    return {
        id(tensor): tensor
        for optimizer in optimizers
        for tensor, state in optimizer.state.items()
        if isinstance(state, Mapping) and any(isinstance(value, torch.Tensor) for value in state.values())
    }


def _optimizers(made: Any, setup: str) -> list[Any]:
    several = list(made) if isinstance(made, (list, tuple)) else [made]
    if several and all(isinstance(one, torch.optim.Optimizer) for one in several):
        return several
    raise ProbeError(
        f"{setup}(model, optimizer) returned {type(made).__name__}, which is no optimizer",
        hint="return None when the optimizer stays the same, else the new one (or a list of them)",
    )


@contextmanager
def said_of(stage: Stage) -> Iterator[None]:
    """Name the phase in the error when the training cannot run in it."""
    try:
        yield
    except ProbeError as error:
        if stage.name is not None:
            error.message = f"in phase {stage.name}: {error.message}"
            error.args = (error.message,)
        raise


@dataclass(frozen=True)
class Verdict:
    """What the rules say of all stages together."""

    findings: tuple[Finding, ...]
    skipped: tuple[Skipped, ...]
    ran: tuple[str, ...]


def judged(stages: Sequence[tuple[Stage, Case]], *, select: Sequence[str], ignore: Sequence[str]) -> Verdict:
    """Judge every stage that is to be judged. A finding carries its phase; one about the spec alone is said once."""
    findings: dict[Any, Finding] = {}
    skipped: dict[Skipped, None] = {}
    ran: dict[str, None] = {}
    for stage, case in stages:
        if not stage.judged:
            continue
        out = (*ignore, *(stage.spec.ignore if stage.spec else ()))
        found, left_out = judge(case, select=select, ignore=out, phase=stage.name)
        for finding in found:
            of_the_spec = finding.code.startswith(_OF_THE_SPEC)
            key = (finding.code, finding.message, finding.location, None if of_the_spec else finding.phase)
            findings.setdefault((*key, finding.tensors), finding)
        skipped.update(dict.fromkeys((*case.skipped, *left_out)))
        ran.update(dict.fromkeys(codes_run(case, select=select, ignore=out)))
    ordered = sorted(findings.values(), key=lambda finding: -finding.severity.rank)
    return Verdict(tuple(ordered), tuple(skipped), tuple(ran))
