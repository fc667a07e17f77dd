"""Freeze a model by the same spec that it is checked by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .arguments import given_spec
from .probe.describe import Anatomy, anatomy
from .records import Expected, Plan, Unmatched
from .spec.match import match
from .spec.mistakes import Mistake, spec_error

if TYPE_CHECKING:
    from torch import nn

    from .spec import Spec


class StaysInEval:
    """Stands in for `train` on a frozen normalisation layer, so that `model.train()` leaves it in eval mode.

    An object rather than a closure: models are copied and pickled whole.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:  # noqa: ARG002  # the signature of Module.train
        """Do as `Module.train(False)`, whatever is asked."""
        return type(self.module).train(self.module, False)


def apply(model: nn.Module, spec: Spec) -> nn.Module:
    """Set every flag as the spec says, and keep frozen statistics still; returns the model.

    Parameters that the spec expects trainable require grad from then on, those it expects frozen do not and lose
    their `.grad`; unchecked ones are left alone. A layer whose statistics are expected frozen, and may not move, goes
    into eval mode and stays there through later calls of `model.train()`; so do the modules under `eval`. Of a spec
    with phases the first one is applied; `apply(model, spec.phase("finetune"))` applies another. Call it before the
    optimizer is made.

    A parameter of which only some rows are expected to train requires grad whole: flags know no rows.
    Raises SpecError, before anything is changed, when a selector selects nothing or names an index out of range, or
    when a tied tensor is expected both frozen and trainable. TypeError when `spec` is none.
    """
    given = given_spec(spec)
    if given is None:
        raise TypeError("spec must be a freezecheck.Spec, not None: it says which flags to set")
    stage = given.phases[0].spec if given.phases else given
    body = anatomy(model)
    plan = match(stage, body.description)
    mistakes = list(_mistakes(plan))
    if mistakes:
        raise spec_error(mistakes, hint="Nothing was changed in the model; `freezecheck report` lists its layers.")
    for name, parameter in body.parameters.items():
        _set(parameter, plan.expected[name])
    kept = [body.modules[path] for path in (*plan.eval_layers, *_with_still_statistics(body, plan))]
    for module in body.modules.values():
        _release(module)
    for module in kept:
        _keep_in_eval(module)
    return model


def _set(parameter: nn.Parameter, expected: Expected) -> None:
    if expected is Expected.UNCHECKED or not (parameter.is_floating_point() or parameter.is_complex()):
        return
    parameter.requires_grad_(expected is Expected.TRAINABLE)
    if expected is Expected.FROZEN:
        parameter.grad = None


def _with_still_statistics(body: Anatomy, plan: Plan) -> Iterator[str]:
    """Yield the layers that would move a buffer which the spec wants still."""
    for layer in body.description.layers:
        buffers = [body.description.by_name[name].name for name in layer.statistics]
        if any(plan.expected.get(n) is Expected.FROZEN and n not in plan.buffers_may_move for n in buffers):
            yield layer.name


def _mistakes(plan: Plan) -> Iterator[Mistake]:
    for one in plan.unmatched:
        yield Mistake(_nothing(one), one.selector.location)
    for contradiction in plan.contradictions:
        what = f"`{contradiction.frozen_as}` and `{contradiction.trainable_as}` are one tensor, which cannot be both "
        yield Mistake(what + "frozen and trainable", contradiction.location)


def _nothing(one: Unmatched) -> str:
    said = f"`{one.selector.text}` in `{one.selector.list}` selects nothing of this model"
    if one.hint:
        return f"{said}. {one.hint}"
    return f"{said}; nearest: {', '.join(f'`{name}`' for name in one.nearest)}" if one.nearest else said


def _keep_in_eval(module: nn.Module) -> None:
    module.eval()
    module.train = StaysInEval(module)  # type: ignore[method-assign]  # that is the point


def _release(module: nn.Module) -> None:
    """Undo an earlier `apply` of another spec: the layer follows `model.train()` again."""
    if isinstance(vars(module).get("train"), StaysInEval):
        del module.train
