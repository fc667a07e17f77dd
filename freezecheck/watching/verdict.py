"""From a watched session to a report: which model is meant, its table of facts, and the judgement."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ..assemble import assemble
from ..errors import ProbeError, SpecError, UsageError
from ..judge import codes_run, judge
from ..match import match
from ..places import kind, shown
from ..records import Conditions, Description, Observation, Report, Severity, Skipped

if TYPE_CHECKING:
    from ..spec import Spec
    from .session import Session
    from .watched import Watched


def report_on(
    session: Session,
    spec: Spec | None,
    *,
    target: str,
    command: str = "run",
    choose: str | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    fail_on: Severity = Severity.WARNING,
) -> Report:
    """Judge what a session saw.

    Of several models `choose` takes one by the name of its variable or class; else the spec takes the one that all
    its selectors fit; else all are judged together, each tensor's name beginning with its model's. A spec with phases
    is judged by the phase that the session was begun with.
    Raises UsageError when `choose` names none of them, SpecError when the spec fits none.
    """
    stage = session.spec
    models = _meant(session, stage, choose)
    parts = [_part(session, one) for one in models]
    description, observation = parts[0] if len(parts) == 1 else _joined([one.name for one in models], parts)
    files = _files()
    case = assemble(description, match(stage, description), observation, files)
    out = (*ignore, *(stage.ignore if stage else ()))
    path = spec.path if spec else None
    if session.disagreements:
        why = "the training was stopped before its first step, in which the ranks would wait for one another for ever"
        skipped: tuple[Skipped, ...] = (Skipped("every rule but FZ109", why),)
        return Report(
            command, target, path, case, session.disagreements, skipped, fail_on, ("FZ109",), tuple(map(shown, files))
        )
    findings, skipped = judge(case, select=select, ignore=out, phase=_phase(spec, stage))
    skipped = (*case.skipped, *skipped, *_left_out(session, models), *_other_phases(spec, stage))
    ran = codes_run(case, select=select, ignore=out)
    return Report(command, target, path, case, findings, skipped, fail_on, ran, tuple(map(shown, files)))


def _other_phases(spec: Spec | None, stage: Spec | None) -> tuple[Skipped, ...]:
    now = _phase(spec, stage)
    others = [phase.name for phase in (spec.phases if spec else ()) if phase.name != now]
    if now is None or not others:
        return ()
    why = f"the steps watched were in phase {now}; --continue K goes on into later ones"
    return (Skipped(f"phase {', '.join(others)}", why),)


def _phase(spec: Spec | None, stage: Spec | None) -> str | None:
    return next((phase.name for phase in (spec.phases if spec else ()) if phase.spec is stage), None)


def _left_out(session: Session, models: Sequence[Watched]) -> list[Skipped]:
    left_out = []
    others = [one.name for one in session.models if one not in models and session.trained(one)]
    if others:
        left_out.append(Skipped(f"the model {', '.join(others)}", "another one was judged; --model chooses"))
    if session.uncompiled.used:
        why = "the watched steps ran the model as it is written, to see where its gradients go"
        left_out.append(Skipped("what torch.compile makes of the model", why))
    idle = [type(one).__name__ for index, one in enumerate(session.optimizers) if index not in session.stepped]
    if idle:
        left_out.append(Skipped(", ".join(idle), "this optimizer made no step while the training was watched"))
    return left_out


def _meant(session: Session, spec: Spec | None, choose: str | None) -> list[Watched]:
    models = session.models
    if not models:
        raise ProbeError(
            f"{', '.join(type(one).__name__ for one in session.optimizers)} stepped, but no module that owns what it "
            "steps was called or stands in a variable on the way",
            hint="freezecheck watches nn.Module; tensors outside of any module have no names to judge them by.",
        )
    if choose is not None:
        named = [one for one in models if choose in (one.name, type(one.model).__name__)]
        if not named:
            seen = ", ".join(f"{one.name} ({type(one.model).__name__})" for one in models) or "none"
            raise UsageError(f"no model called {choose} was trained", hint=f"seen: {seen}")
        return named[:1]
    trained = [one for one in models if session.trained(one)] or models
    if spec is None:  # a frozen teacher too: its statistics must not move
        return [one for one in models if one in trained or not any(one.trained.values())]
    if len(trained) == 1:
        return trained
    lost = {id(one): _unmatched(spec, one) for one in trained}
    fitting = [one for one in trained if lost[id(one)] == 0]
    if len(fitting) == 1:
        return fitting
    joined = _joined([one.name for one in trained], [_part(session, one) for one in trained])[0]
    if not match(spec, joined).unmatched:
        return trained
    return [min(fitting or trained, key=lambda one: lost[id(one)])]


def _unmatched(spec: Spec, one: Watched) -> int:
    try:
        return len(match(spec, one.body.description).unmatched)
    except SpecError:
        return sys.maxsize


def _part(session: Session, one: Watched) -> tuple[Description, Observation]:
    device = next((str(t.device) for t in one.parameters.values()), "cpu")
    conditions = Conditions(
        seed=None,
        device=device,
        torch=torch.__version__,
        optimizer=", ".join(type(o).__name__ for o in session.optimizers),
        inputs="the training's own",
        loss="the training's own",
        steps=max(one.steps.values(), default=0),
    )
    return one.description(session.put_in_eval), one.observation(session.optimizers, session.flags, conditions)


def _files() -> tuple[str, ...]:
    """The user's own sources that are loaded, the script first."""
    found = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    own = [file for file in (main, *found) if isinstance(file, str) and file.endswith(".py") and kind(file) == "user"]
    return tuple(dict.fromkeys(own))


def _joined(names: Sequence[str], parts: Sequence[tuple[Description, Observation]]) -> tuple[Description, Observation]:
    """Several models as one, each name beginning with its model's."""
    tensors, layers, strays = [], [], []
    for model, (description, _) in zip(names, parts, strict=True):
        tensors += [
            replace(t, name=f"{model}.{t.name}", aliases=tuple(f"{model}.{a}" for a in t.aliases))
            for t in description.tensors
        ]
        layers += [
            replace(
                layer,
                name=f"{model}.{layer.name}" if layer.name else model,
                tensors=tuple(f"{model}.{t}" for t in layer.tensors),
                statistics=tuple(f"{model}.{t}" for t in layer.statistics),
            )
            for layer in description.layers
        ]
        strays += [
            replace(s, owner=f"{model}.{s.owner}", tensors=tuple(f"{model}.{t}" for t in s.tensors))
            for s in description.strays
        ]
    root = replace(layers[0], name="", type="all models", bases=("Module",), tensors=(), items=None, statistics=())
    return Description(tuple(tensors), (root, *layers), tuple(strays)), _joined_seen(names, [seen for _, seen in parts])


def _joined_seen(names: Sequence[str], seen: Sequence[Observation]) -> Observation:
    def together(field: str) -> Any:
        found: dict[str, Any] = {}
        for model, one in zip(names, seen, strict=True):
            found |= {f"{model}.{key}" if key else model: value for key, value in getattr(one, field).items()}
        return found

    def every(field: str) -> frozenset[str]:
        pairs = zip(names, seen, strict=True)
        return frozenset(f"{model}.{name}" for model, one in pairs for name in getattr(one, field) or ())

    losses = [one.loss for one in seen if one.loss is not None]
    return replace(
        seen[0],
        gradients=together("gradients"),
        gradient_max=together("gradient_max"),
        moved=together("moved"),
        cuts=together("cuts"),
        writes=together("writes"),
        updates=together("updates"),
        flipped=together("flipped"),
        modes=together("modes"),
        memberships=together("memberships"),
        used=every("used") if all(one.used is not None for one in seen) else None,
        gradient_hooks=every("gradient_hooks"),
        wasted=every("wasted"),
        foreign=tuple(dict.fromkeys(f for one in seen for f in one.foreign)),
        leaves=tuple(leaf for one in seen for leaf in one.leaves),
        loss=next((loss for loss in losses if loss.reaches), losses[0] if losses else None),
    )
