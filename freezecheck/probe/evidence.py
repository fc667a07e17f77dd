"""What backward passes showed of a model's parameters. The probe and the watched training fill the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..records import Cut, Gradient, Leaf, Loss, NonFinite, Write
from .describe import strength_of
from .trace import Trace
from .unregistered import unregistered

_ASLEEP = (Gradient.NONE, Gradient.ZERO)


class Evidence:
    """Gradients, cuts, writes and strange leaves, by canonical tensor name, gathered over all backward passes."""

    def __init__(
        self, parameters: Mapping[str, Any], names: Mapping[int, str], modules: Mapping[str, nn.Module]
    ) -> None:
        self.parameters, self.names, self.modules = parameters, names, modules
        self.gradients: dict[str, Gradient] = {}
        self.gradient_max: dict[str, float] = {}
        self.cuts: dict[str, tuple[Cut, ...]] = {}
        self.writes: dict[str, tuple[Write, ...]] = {}
        self.leaves: dict[str, Leaf] = {}
        self.used: set[str] = set()
        self.wasted: set[str] = set()
        self.woken: set[str] = set()
        """Parameters whose first gradient was nothing but zeros."""
        self.reached: set[int] = set()
        self.loss: Loss | None = None
        self.nonfinite: NonFinite | None = None
        """What made the first NaN or infinity, where a step was looked at once more for it."""
        self.sharded = any(hasattr(p, "_local_tensor") for p in parameters.values())
        """Forward and backward see whole tensors that stand in for the shards, and are no parameters of the model."""

    def asleep(self, name: str) -> bool:
        """Whether a parameter has yet to get a gradient that is not zero."""
        return self.gradients.get(name, Gradient.NONE) in _ASLEEP

    def note_gradients(self, *, final: bool = True) -> None:
        """Look at every `.grad` as it is now, and keep the strongest seen.

        Before it is `final` (it is still scaled, and may be dropped with its infinities) only whether one arrived
        counts.
        """
        for name, parameter in self.parameters.items():
            if parameter.requires_grad and (final or self.asleep(name)):
                self.note_gradient(name, parameter.grad, final=final)

    def note_gradient(self, name: str, gradient: torch.Tensor | None, *, final: bool = True) -> Gradient:
        """Look at one gradient, keep it if it is the strongest seen of its parameter, and return what it holds."""
        seen = Gradient.NONE
        if gradient is not None:
            seen, largest = strength_of(gradient)
            if not final and seen is Gradient.NONFINITE:
                seen, largest = Gradient.NONZERO, None
            if largest is not None:
                self.gradient_max[name] = max(self.gradient_max.get(name, 0.0), largest)
        before = self.gradients.get(name, Gradient.NONE)
        if before is Gradient.NONE and seen is Gradient.ZERO:
            self.woken.add(name)
        self.gradients[name] = before.or_stronger(seen)
        return seen

    def note_backward(
        self,
        trace: Trace,
        loss: torch.Tensor,
        returned: Mapping[int, list[Cut]],
        leaves: Sequence[torch.Tensor],
        *,
        final: bool = True,
    ) -> None:
        """Note what one backward pass from `loss` did; `leaves` are those of its graph, `final` as above."""
        self.note_gradients(final=final)
        for name, parameter in self.parameters.items():
            if parameter.requires_grad and self.gradients[name] in _ASLEEP:
                flat = self.gradients[name] is Gradient.ZERO
                cuts = trace.cuts_of(parameter, loss, flat=flat) or tuple(returned.get(id(parameter), ()))
                if cuts:
                    self.cuts[name] = cuts
        self.reached |= {id(leaf) for leaf in leaves}
        here = [p for p in self.parameters.values() if p.requires_grad]
        reaches = any(p.grad is not None or id(p) in self.reached for p in here)
        if self.loss is None or reaches:
            cuts = trace.cuts_on(loss, None if self.sharded else self.parameters.values())
            self.loss = Loss(reaches, loss.requires_grad, loss.is_leaf and loss.requires_grad, cuts)
        self.note_flow(trace)

    def note_flow(self, trace: Trace) -> None:
        """Note which parameters the forward used, and what was written in place."""
        self.used |= {self.names[id(p)] for p in trace.flow.decode(trace.flow.used) if id(p) in self.names}
        self.wasted |= {self.names[key] for key in trace.wasted if key in self.names}
        self.note_writes(trace)

    def note_writes(self, trace: Trace) -> None:
        """Note what was written in place."""
        for key, writes in trace.writes.items():
            name = self.names.get(key)
            if name is not None:
                fresh = [w for w in writes if w not in self.writes.get(name, ())]
                self.writes[name] = (*self.writes.get(name, ()), *fresh)

    def note_leaves(self, leaves: Sequence[torch.Tensor], known: set[int], in_optimizers: set[int]) -> None:
        """Note leaves of the graph that are no parameters of the model, `known` ones (inputs and the like) aside."""
        for leaf in unregistered(leaves, self.modules, known | set(self.names), in_optimizers):
            if leaf.name or not self.sharded:
                self.leaves.setdefault(f"{leaf.name}{leaf.shape}", leaf)
