"""From a watched session to a report: the table of facts of the model that is meant, and the judgement."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ..assemble import assemble
from ..judge import codes_run, judge, settled, told_of
from ..places import kind, shown
from ..records import Conditions, Observation, Report, Severity, Skipped
from ..spec.match import match
from .beside import drifted
from .several import beside, in_their_names, joined, joined_observations, meant
from .watched import tensors_of

if TYPE_CHECKING:
    from ..spec import Spec
    from .session import Session
    from .watched import Watched


def report_on(
    session: Session,
    spec: Spec | None,
    *,
    target: str,
    choose: str | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    fail_on: Severity = Severity.WARNING,
    left_out: Collection[str] = (),
) -> Report:
    """Judge what a session saw, but for the tensors that are `left_out`.

    Of several models `choose` takes one by the name of its variable or class; else the spec takes the one that all
    its selectors fit; else all are judged together, each tensor's name beginning with its model's. A spec with phases
    is judged by the phase that the session was begun with.
    Raises UsageError when `choose` names none of them, SpecError when the spec fits none.
    """
    stage = session.spec
    models = meant(session, stage, choose)
    descriptions = [one.description(session.put_in_eval) for one in models]
    observations = [_observation(session, one) for one in models]
    names = [one.name for one in models]
    description, observation = descriptions[0], observations[0]
    if len(models) > 1:
        description, observation = joined(names, descriptions), joined_observations(names, observations)
    files = _files()
    case = told_of(assemble(description, match(stage, description), observation, files).without(left_out), stage)
    out = (*ignore, *(stage.ignore if stage else ()))
    path = spec.path if spec else None
    if session.disagreements:
        why = "the training was stopped before its first step, in which the ranks would wait for one another for ever"
        skipped: tuple[Skipped, ...] = (Skipped("every rule but FZ109", why),)
        return Report(
            "run", target, path, case, session.disagreements, skipped, fail_on, ("FZ109",), tuple(map(shown, files))
        )
    to_judge = settled(case, stage, select=select, ignore=ignore)
    findings, skipped = judge(to_judge, select=select, ignore=out, phase=phase_of(spec, stage))
    called = names if len(models) > 1 else [models[0].variable]
    findings = in_their_names(findings, called, several=len(session.models) > 1 or len(models) > 1)
    skipped = (*to_judge.skipped, *skipped, *_left_out(session, models))
    ran = codes_run(case, select=select, ignore=out)
    return Report("run", target, path, case, findings, skipped, fail_on, ran, tuple(map(shown, files)))


def phase_of(spec: Spec | None, stage: Spec | None) -> str | None:
    """Return the name of the phase of a spec that `stage` is; None where it is none."""
    return next((phase.name for phase in (spec.phases if spec else ()) if phase.spec is stage), None)


def _left_out(session: Session, models: Sequence[Watched]) -> list[Skipped]:
    left_out = []
    others = [one.name for one in session.models if one not in models and session.trained(one)]
    if others:
        left_out.append(Skipped(f"the model {', '.join(others)}", "another one was judged; --model chooses"))
    following = [one.name for one in session.models if one not in models and one.name not in others and one.follows]
    if following:
        why = "no optimizer holds it, and the loop itself writes to its parameters, as to a moving average"
        left_out.append(Skipped(f"the model {', '.join(following)}", why))
    adrift = [one.name for one in beside(session) if one not in models and drifted(one)]
    if adrift:
        why = "it runs beside the training, and its statistics move: name it in the spec to have it judged"
        left_out.append(Skipped(f"the model {', '.join(adrift)}", why))
    if session.uncompiled.used:
        why = "the watched steps ran the model as it is written, to see where its gradients go"
        left_out.append(Skipped("what torch.compile makes of the model", why))
    idle = [type(one).__name__ for one in _idle(session)]
    if idle:
        left_out.append(Skipped(", ".join(idle), "this optimizer made no step while the training was watched"))
    return left_out


def _idle(session: Session) -> list[Any]:
    """The optimizers that made no step, though it was in this session that they should have."""
    mine = enumerate(session.optimizers[session.inherited :], session.inherited)
    made = [one for index, one in mine if index not in session.stepped]
    return [one for one in made if not any(one is other for other in session.passed_on)]


def _observation(session: Session, one: Watched) -> Observation:
    device = next((str(t.device) for t in one.parameters.values()), "cpu")
    conditions = Conditions(
        seed=None,
        device=device,
        torch=torch.__version__,
        optimizer=", ".join(_optimizers(session)),
        inputs="the training's own",
        loss="the training's own",
        steps=_steps(session, one),
    )
    idle = frozenset(range(len(session.optimizers))) - session.stepped
    return replace(one.observation(session.optimizers, session.flags, conditions), idle=idle)


def _steps(session: Session, one: Watched) -> int:
    """The steps of the optimizers that hold some of a model; of all, where none does."""
    own = [steps for index, steps in one.steps.items() if one.owns(tensors_of(session.optimizers[index]))]
    return max(own or one.steps.values(), default=0)


def _optimizers(session: Session) -> list[str]:
    """Their names, with the steps of each where one made more than another."""
    made = [max((one.steps.get(i, 0) for one in session.models), default=0) for i in range(len(session.optimizers))]
    names = [type(one).__name__ for one in session.optimizers]
    if len({made[index] for index in session.stepped}) > 1:
        names = [f"{name} ({steps} step{'' if steps == 1 else 's'})" for name, steps in zip(names, made, strict=True)]
    return [name for index, name in enumerate(names) if index >= session.inherited or index in session.stepped]


def _files() -> tuple[str, ...]:
    """The user's own sources that are loaded, the script first."""
    found = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    own = [file for file in (main, *found) if isinstance(file, str) and file.endswith(".py") and kind(file) == "user"]
    return tuple(dict.fromkeys(own))
