"""The table of facts that the rules read: one row per tensor, one per layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from .comparison import Change, Comparison
from .model import Layer, StrayFlag, Tensor
from .plan import Plan
from .seen import (
    Conditions,
    Cut,
    Foreign,
    Hidden,
    Leaf,
    Loss,
    Membership,
    NonFinite,
    RowsSeen,
    Skipped,
    Update,
    Write,
)
from .words import Expected, Gradient, Location, Need


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one tensor: a row of the table that the rules read."""

    tensor: Tensor
    expected: Expected = Expected.UNCHECKED
    may_move: bool = False
    """A buffer that the spec lets move although it is expected frozen."""
    memberships: tuple[Membership, ...] = ()
    """Its places in optimizers; more than one is a mistake."""
    gradient: Gradient | None = None
    """None where no probe ran or the tensor can have no gradient."""
    gradient_max: float | None = None
    """Largest absolute element of any gradient seen."""
    moved: bool | None = None
    """Whether any byte changed over the steps; None where that was not seen."""
    max_abs_change: float | None = None
    used: bool | None = None
    """Whether any operation of the forward read it; None where the forward was not traced."""
    cuts: tuple[Cut, ...] = ()
    """Where its gradient was lost on the way to the loss, in the order of the flow."""
    writes: tuple[Write, ...] = ()
    update: Update | None = None
    """Only for a tensor with a gradient that did not move."""
    undone: bool = False
    """A step moves it, and the next forward writes over whatever the step made of it."""
    woken: bool = False
    """Its first gradient was nothing but zeros: it had to wait for another tensor to move, as LoRA's A does for B."""
    cleared: bool = False
    """A backward gave it a gradient, and the loop took that away before the optimizer stepped, each time."""
    cleared_at: Location | None = None
    """The line that did."""
    flipped: Location | None = None
    """Where its requires_grad was changed between set-up and step."""
    flag_line: Location | None = None
    """The line that gave it the flag that it has; None where none was seen to, as it is born with one."""
    gradient_hook: bool = False
    """A hook of the user's stands on its gradient."""
    hooked_at: Location | None = None
    """Where that hook is defined."""
    frozen_rows: RowsSeen | None = None
    """Of a partly trained parameter, the rows that are expected frozen."""
    trainable_rows: RowsSeen | None = None
    pretrained: Change | None = None
    """Whether it was, before training, what the spec's pretrained checkpoint holds; None where that was not asked."""
    wasted: bool = False
    """A backward ran through it although it is frozen and nothing trainable lies below it."""
    change: Change | None = None
    """How it differs between two checkpoints; None where no checkpoints were compared."""

    @property
    def name(self) -> str:
        """The tensor's canonical name."""
        return self.tensor.name

    @property
    def is_buffer(self) -> bool:
        """Whether it is a buffer."""
        return self.tensor.kind == "buffer"

    @property
    def lr(self) -> float | None:
        """The largest learning rate of its groups; None when it is in no optimizer."""
        return max((m.lr for m in self.memberships), default=None)


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """All that is known of one layer."""

    layer: Layer
    expected: Literal["frozen", "trainable", "mixed", "unchecked", "none"] = "none"
    """Over the parameters of its subtree; `none` when there are none."""
    actual: Literal["frozen", "trainable", "mixed", "none"] = "none"
    """Over the `requires_grad` flags of its subtree's parameters."""
    trainable: int = 0
    """Parameters of its subtree that require grad, each tied tensor once."""
    frozen: int = 0
    held_by: str | None = None
    """What holds its frozen tensors: requires_grad, no_grad, detach, lr 0, no optimizer …; None: nothing is held."""
    training: bool | None = None
    """Its mode while the probe trained; None where no probe ran."""
    movable_buffers: tuple[str, ...] = ()
    """Buffers of its own that its present mode still lets move (BatchNorm statistics and the like)."""
    saved_bytes: int | None = None
    """Bytes of activations that its subtree keeps for the backward pass; None where that was not measured."""

    @property
    def name(self) -> str:
        """The layer's path."""
        return self.layer.name


@dataclass(frozen=True)
class Case:
    """The whole table, before judgement: what the rules read."""

    facts: tuple[Facts, ...]
    layers: tuple[LayerFacts, ...] = ()
    plan: Plan = field(default_factory=lambda: Plan({}))
    strays: tuple[StrayFlag, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    leaves: tuple[Leaf, ...] = ()
    hidden: tuple[Hidden, ...] = ()
    loss: Loss | None = None
    nonfinite: NonFinite | None = None
    optimizers: tuple[str, ...] = ()
    """Class names of the optimizers, by index."""
    optimizer_lines: tuple[Location | None, ...] = ()
    """The line that made each, as far as that was seen."""
    empty_groups: tuple[tuple[int, int], ...] = ()
    """Their groups that hold nothing, each as (optimizer, group)."""
    idle: frozenset[int] = frozenset()
    """The optimizers whose step() was not called while the training was watched."""
    missing: Mapping[Need, str] = field(default_factory=dict)
    """What this check does not have, each with the reason: rules that need it are skipped.

    With an empty reason they are out of place (a flag's history, where no training is watched) and not mentioned.
    """
    conditions: Conditions = field(default_factory=Conditions)
    skipped: tuple[Skipped, ...] = ()
    comparison: Comparison | None = None
    """The two checkpoints, where two were compared."""

    @cached_property
    def layer_of(self) -> dict[str, LayerFacts]:
        """Every layer under its path."""
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def parameters(self) -> tuple[Facts, ...]:
        """The rows of the parameters."""
        return tuple(f for f in self.facts if not f.is_buffer)

    @cached_property
    def buffers(self) -> tuple[Facts, ...]:
        """The rows of the buffers."""
        return tuple(f for f in self.facts if f.is_buffer)

    @cached_property
    def frozen(self) -> tuple[Facts, ...]:
        """The rows of the parameters that are expected frozen."""
        return tuple(f for f in self.parameters if f.expected is Expected.FROZEN)

    @cached_property
    def trainable(self) -> tuple[Facts, ...]:
        """The rows of the parameters that are expected trainable and could be (floating or complex)."""
        return tuple(f for f in self.parameters if f.expected is Expected.TRAINABLE and f.tensor.differentiable)

    def without(self, names: Iterable[str]) -> Case:
        """The same case with these tensors' rows taken out: how a cause swallows its effects."""
        gone = frozenset(names)
        return replace(self, facts=tuple(f for f in self.facts if f.name not in gone)) if gone else self
