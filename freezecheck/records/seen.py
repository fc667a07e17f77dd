"""What was seen of the model while it trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .comparison import Change
from .words import Gradient, Location, Need

Phase = Literal["forward", "backward", "step", "loop"]
"""What a training does at a moment."""


@dataclass(frozen=True, slots=True)
class Membership:
    """A place that a tensor has in an optimizer."""

    optimizer: int
    """Index of the optimizer."""
    group: int
    """Index of the parameter group, counted through all optimizers."""
    lr: float = 0.1
    """The largest learning rate seen over the steps; NaN where the optimizer keeps none (it finds its own)."""
    weight_decay: float = 0.0
    momentum: float = 0.0
    beta: float = 0.0
    """Of an optimizer that keeps running averages of the gradients (Adam), its first beta."""
    state: tuple[str, ...] = ()
    """What the optimizer remembers of a frozen tensor that is not all zero, such as `momentum_buffer`, `exp_avg`."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A tensor that an optimizer holds and the model does not."""

    optimizer: int
    group: int
    shape: tuple[int, ...]
    dtype: str = "float32"
    gradient: bool = False
    """Whether the loss reached it: then it is trained on purpose (a loss with weights of its own), not stale."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf of the loss's graph that requires grad and is no parameter of the model."""

    name: str
    """Where it lies in the model's attributes, such as `blocks.0.fc1.weight`; empty when it was not found there."""
    container: str = ""
    """What hides it from torch, such as `Net.blocks, a list`; empty when it was not found in the model."""
    shape: tuple[int, ...] = ()
    in_optimizer: bool = False


@dataclass(frozen=True, slots=True)
class Hidden:
    """A layer that is in use and that torch does not know: it lies where torch does not look, such as in a list."""

    name: str
    """Where it lies in the model's attributes, such as `encoder.0`."""
    type: str
    """Its class's name."""
    container: str
    """What hides it from torch, such as `Net.encoder, a list`."""
    moved: tuple[str, ...] = ()
    """Names of the statistics of its own that changed while the model trained."""


@dataclass(frozen=True, slots=True)
class Cut:
    """An operation on the way to the loss that stopped the gradient."""

    operation: str
    """As the user wrote it: `detach()`, `no_grad`, `.data`, `argmax` …"""
    reason: str
    """One clause that says why no gradient passes, such as `runs under torch.no_grad()`."""
    location: Location | None = None
    """The user's line that made the cut."""
    library: Location | None = None
    """The library's line, when the user's line calls into a library that made the cut."""
    entered: Location | None = None
    """Where the no_grad or inference_mode block around it begins."""


@dataclass(frozen=True, slots=True)
class NonFinite:
    """What made the first NaN or infinity of a step."""

    operation: str
    """As the user wrote it: `log()`. Of what was there before any operation, the tensor's name; empty for inputs."""
    phase: Literal["given", "forward", "backward"]
    """`given`: it was there before. `backward`: it was given a finite gradient, and handed on another."""
    location: Location | None = None
    """The line that calls it, or that first reads what was given."""
    fed: NonFinite | None = None
    """Of an operation that made NaN of infinities that somebody asked for, as of a mask's, what put them there."""


@dataclass(frozen=True, slots=True)
class Write:
    """An operation that wrote to a tensor in place outside the optimizer."""

    operation: str
    """Such as `mul_`."""
    location: Location | None = None
    phase: Phase = "forward"
    """`loop`: by the training loop itself, around its forwards and steps; only a watched training has one."""
    opened: bool = False
    """It handed out the tensor's memory, as `numpy()` does: whoever has that may have written, or have only read."""


@dataclass(frozen=True, slots=True)
class Update:
    """The step that a tensor should have made, computed in float64, against what its dtype can resolve.

    Both numbers are of the element whose update is largest in proportion to its own resolution.
    """

    size: float
    """Absolute update of that element."""
    resolution: float
    """Distance from that element to the next number of its dtype; below half of it an update rounds to nothing."""


@dataclass(frozen=True, slots=True)
class RowsSeen:
    """What was seen of those rows of a partly trained parameter of which the same is expected."""

    count: int
    """How many rows these are."""
    spans: tuple[tuple[int, int], ...]
    """Where they are: half-open ranges of rows."""
    moved: int = 0
    """How many of them changed in any byte."""
    moved_spans: tuple[tuple[int, int], ...] = ()
    """Where those are, the first few ranges."""
    max_abs_change: float | None = None
    gradient: Gradient = Gradient.NONE
    """The strongest that was seen in these rows of its `.grad`."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What was seen of the loss."""

    reaches: bool = True
    """Whether its graph reaches at least one parameter of the model that requires grad."""
    requires_grad: bool = True
    is_leaf: bool = False
    """It was re-wrapped (`torch.tensor(loss, requires_grad=True)`): backward succeeds and reaches nothing."""
    cuts: tuple[Cut, ...] = ()
    """All cuts on the way to it, in the order of the flow."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was not checked, and why."""

    what: str
    why: str
    codes: tuple[str, ...] = field(default=(), compare=False)
    """The rules that it is, where it is rules."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the check ran under."""

    seed: int | None = 0
    """None where the training seeded itself."""
    device: str = "cpu"
    torch: str = ""
    optimizer: str = ""
    inputs: str = ""
    loss: str = ""
    steps: int = 0
    """Of the last phase, where there are several."""
    phases: tuple[str, ...] = ()
    """Names of the phases that ran, in order; empty where the spec has none."""
    pretrained: str = ""
    """The checkpoint that frozen tensors were compared with, as the user would type it; empty when there was none."""
    pretrained_notes: tuple[str, ...] = ()
    """How it was read: which of several state dicts was taken."""


@dataclass(frozen=True)
class Observation:
    """What a probe, or a watched training, saw, keyed by the canonical tensor name or the layer's path."""

    gradients: Mapping[str, Gradient] = field(default_factory=dict)
    gradient_max: Mapping[str, float] = field(default_factory=dict)
    moved: Mapping[str, tuple[bool, float | None]] = field(default_factory=dict)
    """Whether any byte changed, and by how much at most."""
    used: frozenset[str] | None = None
    """Parameters that the forward read; None where it was not traced."""
    cuts: Mapping[str, tuple[Cut, ...]] = field(default_factory=dict)
    writes: Mapping[str, tuple[Write, ...]] = field(default_factory=dict)
    updates: Mapping[str, Update] = field(default_factory=dict)
    undone: frozenset[str] = frozenset()
    """Parameters that a step moves and the next forward writes over, whatever the step made of them."""
    woken: frozenset[str] = frozenset()
    """Parameters whose first gradient was nothing but zeros."""
    hidden: tuple[Hidden, ...] = ()
    flags: Mapping[str, bool] = field(default_factory=dict)
    """`requires_grad` while training, where it was no longer what the description says."""
    flipped: Mapping[str, Location] = field(default_factory=dict)
    flag_lines: Mapping[str, Location] = field(default_factory=dict)
    """The lines that gave parameters the flags that they have, as far as they were seen."""
    cleared: Mapping[str, Location | None] = field(default_factory=dict)
    """Parameters whose gradient was always gone, or all zeros, when their optimizer stepped, and the line that took it
    away where it is known."""
    gradient_hooks: frozenset[str] = frozenset()
    hooked_at: Mapping[str, Location] = field(default_factory=dict)
    """Where the functions of those hooks are defined, as far as they are the user's."""
    frozen_rows: Mapping[str, RowsSeen] = field(default_factory=dict)
    """Of each parameter in `Plan.rows`, the rows that are expected frozen."""
    trainable_rows: Mapping[str, RowsSeen] = field(default_factory=dict)
    pretrained: Mapping[str, Change] = field(default_factory=dict)
    """Of each tensor that is expected frozen, and was from the start, what the spec's pretrained checkpoint says."""
    wasted: frozenset[str] = frozenset()
    modes: Mapping[str, bool] = field(default_factory=dict)
    """Each layer's mode while training."""
    watched: bool = False
    """Whether a real training was watched, and the history of its flags with it."""
    saved_bytes: Mapping[str, int] = field(default_factory=dict)
    """By layer, the bytes of activations kept for the backward pass; empty where that was not measured."""
    memberships: Mapping[str, tuple[Membership, ...]] = field(default_factory=dict)
    optimizers: tuple[str, ...] = ()
    optimizer_lines: tuple[Location | None, ...] = ()
    """The line that made each, as far as that was seen."""
    empty_groups: tuple[tuple[int, int], ...] = ()
    """The groups that hold nothing, each as (optimizer, group)."""
    idle: frozenset[int] = frozenset()
    """The optimizers whose step() was not called."""
    foreign: tuple[Foreign, ...] = ()
    leaves: tuple[Leaf, ...] = ()
    loss: Loss | None = None
    nonfinite: NonFinite | None = None
    """What made the first NaN or infinity, where a gradient held one and it was found out."""
    conditions: Conditions = field(default_factory=Conditions)
    skipped: tuple[Skipped, ...] = ()
    missing: Mapping[Need, str] = field(default_factory=dict)
