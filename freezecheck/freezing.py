"""Freeze a model by the same spec that it is checked by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .match import match
from .probe.describe import Anatomy, anatomy
from .records import Expected

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
    into eval mode and stays there through later calls of `model.train()`. Call it before the optimizer is made.

    Raises SpecError when the spec names something out of range, and ValueError when a selector matches nothing or a
    tied tensor is expected both frozen and trainable, before anything is changed.
    """
    body = anatomy(model)
    plan = match(spec, body.description)
    if plan.unmatched:
        lost = ", ".join(f"{u.selector.list} = {u.selector.text!r}" for u in plan.unmatched)
        raise ValueError(f"the spec selects nothing in this model with {lost}; `freezecheck verify` names the nearest")
    if plan.contradictions:
        first = plan.contradictions[0]
        raise ValueError(f"{first.frozen_as} and {first.trainable_as} are one tensor, and cannot be frozen and trained")
    for name, parameter in body.parameters.items():
        expected = plan.expected[name]
        if expected is Expected.UNCHECKED or not body.description.by_name[name].differentiable:
            continue
        parameter.requires_grad_(expected is Expected.TRAINABLE)
        if expected is Expected.FROZEN:
            parameter.grad = None
    for layer in body.description.layers:
        moving = [n for n in layer.statistics if plan.expected.get(_canonical(body, n)) is Expected.FROZEN]
        if any(_canonical(body, n) not in plan.buffers_may_move for n in moving):
            _keep_in_eval(body.modules[layer.name])
        else:
            _release(body.modules[layer.name])
    return model


def _canonical(body: Anatomy, name: str) -> str:
    return body.description.by_name[name].name


def _keep_in_eval(module: nn.Module) -> None:
    module.eval()
    if not isinstance(vars(module).get("train"), StaysInEval):
        module.train = StaysInEval(module)  # type: ignore[method-assign]  # that is the point


def _release(module: nn.Module) -> None:
    """Undo an earlier `apply` of another spec: the layer follows `model.train()` again."""
    if isinstance(vars(module).get("train"), StaysInEval):
        del module.train
