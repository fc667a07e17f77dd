"""Several models in one training: which are meant, and how they become one table with names that tell them apart."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import ProbeError, SpecError, UsageError
from ..places import kind
from ..records import Case, Description, Finding, Need, Observation
from ..spec.match import match
from .beside import drifted
from .finish import named

if TYPE_CHECKING:
    from ..spec import Spec
    from .session import Session
    from .watched import Watched


def beside(session: Session) -> list[Watched]:
    """The models that only ran without gradients and that no optimizer holds."""
    return session.beside.models(session.models, session.optimizers)


def meant(session: Session, spec: Spec | None, choose: str | None) -> list[Watched]:
    """Return the models to judge, as `report_on` says. Raises ProbeError where there is none at all."""
    models = session.models
    if not models:
        raise ProbeError(
            f"{', '.join(type(one).__name__ for one in session.optimizers)} stepped, but no module that owns what it "
            "steps was called or stands in a variable on the way",
            hint="freezecheck watches nn.Module; tensors outside of any module have no names to judge them by.",
        )
    if choose is not None:
        every = [*models, *beside(session)]
        chosen = [one for one in every if named(one, choose)]
        if not chosen:
            seen = ", ".join(one.said for one in every) or "none"
            raise UsageError(f"no model called {choose} was trained", hint=f"seen: {seen}")
        return chosen[:1]
    trained = [one for one in models if session.trained(one)] or models
    idle = [one for one in models if one not in trained]
    if spec is None:  # frozen teachers too: their statistics must not move
        still = [one for one in idle if not any(one.trained.values()) and not one.follows]
        judged = {id(one) for one in (*trained, *still)}
        return [one for one in models if id(one) in judged] + [one for one in beside(session) if drifted(one)]
    return _fitting(spec, trained, [*idle, *beside(session)])


def _fitting(spec: Spec, trained: list[Watched], others: list[Watched]) -> list[Watched]:
    """Of the trained models the one that all selectors fit, else all, with those beside them that the spec names."""
    lost = {id(one): _unmatched(spec, [one]) for one in trained}
    fitting = [one for one in trained if lost[id(one)] == 0]
    left = [one for one in fitting if one.homeless]
    if left and len(left) < len(fitting):  # the model of an earlier fold is stepped still, and this one trains
        return left[-1:]
    if len(fitting) == 1 or (len(trained) == 1 and not others):
        return fitting or trained
    without = _unmatched(spec, trained, apart=True)
    named = [one for one in others if without and _unmatched(spec, [*trained, one], apart=True) < without]
    if not _unmatched(spec, [*trained, *named], apart=True):
        return [*trained, *named]
    return [min(fitting or trained, key=lambda one: lost[id(one)])]


def another_is_meant(spec: Spec | None, case: Case, models: Sequence[Watched]) -> bool:
    """Whether what was judged is not what the spec is for: a selector selects nothing in it, nor anything like it.

    So it is as well where the spec's target names a class and no model is of it.
    """
    if spec is None or not models:
        return False
    lost = [one for one in case.plan.unmatched if not one.nearest and not one.hint]
    meant_class = _class_meant(spec)
    of_it = meant_class is None or any(isinstance(m, meant_class) for one in models for m in one.root.modules())
    return not of_it or (bool(lost) and not case.leaves)


def _class_meant(spec: Spec) -> type | None:
    """The class of the user's that the spec's target names, where it does."""
    file, _, name = (spec.target or "").rpartition(":")
    for module in list(sys.modules.values()) if file else ():
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and kind(path) == "user" and isinstance(found := vars(module).get(name), type):
            return found
    return None


def _unmatched(spec: Spec, models: Sequence[Watched], *, apart: bool = False) -> int:
    """How many selectors select nothing; with `apart`, in names that begin with the model's."""
    descriptions = [one.body.description for one in models]
    description = joined([one.name for one in models], descriptions) if apart else descriptions[0]
    try:
        return len(match(spec, description).unmatched)
    except SpecError:
        return sys.maxsize


def joined(names: Sequence[str], descriptions: Sequence[Description]) -> Description:
    """Several models as one, each name beginning with its model's."""
    tensors, layers, strays = [], [], []
    for model, description in zip(names, descriptions, strict=True):
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
    return Description(tuple(tensors), (root, *layers), tuple(strays))


def joined_observations(names: Sequence[str], seen: Sequence[Observation]) -> Observation:
    """What was seen of several models, in the names of `joined`."""

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
        pretrained={},
        missing={**seen[0].missing, **_not_compared(seen)},
        gradients=together("gradients"),
        gradient_max=together("gradient_max"),
        moved=together("moved"),
        cuts=together("cuts"),
        writes=together("writes"),
        updates=together("updates"),
        cleared=together("cleared"),
        flipped=together("flipped"),
        flag_lines=together("flag_lines"),
        modes=together("modes"),
        memberships=together("memberships"),
        used=every("used") if all(one.used is not None for one in seen) else None,
        gradient_hooks=every("gradient_hooks"),
        hooked_at=together("hooked_at"),
        wasted=every("wasted"),
        woken=every("woken"),
        foreign=tuple(dict.fromkeys(f for one in seen for f in one.foreign)),
        leaves=tuple(leaf for one in seen for leaf in one.leaves),
        loss=next((loss for loss in losses if loss.reaches), losses[0] if losses else None),
        conditions=replace(
            seen[0].conditions, steps=max(one.conditions.steps for one in seen), pretrained="", pretrained_notes=()
        ),
    )


def _not_compared(seen: Sequence[Observation]) -> dict[Need, str]:
    asked = any(Need.PRETRAINED in one.missing or one.conditions.pretrained for one in seen)
    return {Need.PRETRAINED: "several models are judged together, and the checkpoint is one model's"} if asked else {}


def in_their_names(findings: Iterable[Finding], names: Sequence[str], *, several: bool) -> tuple[Finding, ...]:
    """Say `student[0]` in a fix where a rule, which knows of one model, says `model.student[0]` or `model[0]`."""
    return tuple(replace(one, fix=_in_its_name(one, names)) if several else one for one in findings)


def _in_its_name(finding: Finding, names: Sequence[str]) -> str:
    fix = finding.fix
    line = finding.location.text if finding.location else ""
    if line and line in fix:
        return fix  # the user's own words
    if len(names) > 1:
        for name in names:
            fix = re.sub(rf"(?<![\w.])model\.{re.escape(name)}(?!\w)", name, fix)
    about = {name.partition(".")[0] for name in finding.tensors} if len(names) > 1 else {names[0]}
    return re.sub(r"(?<![\w.])model(?=[.\[])", about.pop(), fix) if len(about) == 1 else fix
