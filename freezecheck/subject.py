"""What is checked: the user's live objects, gathered by a loader or handed over by the caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from .records import Location, Skipped

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


class Asking(NamedTuple):
    """How other inputs, or an optimizer, are asked for: in the words of whoever has to give them."""

    shape: str
    """Where a tensor of another shape would do."""
    other: str
    """Where something other than tensors is wanted."""
    fewer: str
    """Where the batch holds more than the model takes, such as the targets."""
    optimizer: str


COMMAND_LINE = Asking(
    "give the shape: --input-shape 2,3,224,224, or inputs = { shape = [2, 3, 224, 224] } in the spec, "
    "or define example_inputs() beside the model",
    "define example_inputs() beside the model, which returns it",
    "let example_inputs() return what the model takes and no more, or define compute_loss(model, inputs) beside it, "
    "which is given all that example_inputs() returns",
    "define build_optimizer(model)",
)
PYTHON = Asking(
    "pass a batch, as in inputs=torch.randn(2, 3, 224, 224), or a function that makes one",
    "pass it as inputs=",
    "pass as inputs= what the model takes and no more, or pass loss=, a function of (model, inputs) that is given all",
    "pass optimizer=",
)


@dataclass
class Subject:
    """A model and what is needed to train it one step. Holds live torch objects; crosses no other border."""

    model: nn.Module
    target: str
    """How the user named it, for the report's head."""
    optimizers: list[Optimizer] | None = None
    """None when the user gave none: the probe then makes an SGD and the optimizer rules are skipped."""
    make_inputs: Callable[[], Any] | None = None
    """Called anew for every step: a Tensor, a tuple (positional) or a dict (keyword). None: to be inferred."""
    compute_loss: Callable[[nn.Module, Any], Tensor] | None = None
    """Does its own forward and returns a scalar. None: a seeded random projection of the outputs."""
    optimizer_said: str = ""
    """For the conditions: `SGD from train.py:optimizer`."""
    inputs_said: str = ""
    """For the conditions: `float32[2, 3, 224, 224], torchvision's own size for resnet18`."""
    loss_said: str = ""
    device: str | None = None
    """Where model and inputs are moved before the probe; None leaves them where they are."""
    files: tuple[str, ...] = ()
    """The user's source files, absolute, in which a stray assignment is looked for."""
    made_at: Location | None = None
    """The line of the user's that makes the model, or begins the function that does."""
    flag_lines: Mapping[int, tuple[bool, Location]] = field(default_factory=dict)
    """By identity of a parameter, what its flag was set to while the model was made, and where."""
    skipped: tuple[Skipped, ...] = ()
    asking: Asking = COMMAND_LINE
    extras: Mapping[str, Any] = field(default_factory=dict)
    """Whatever a loader wants to hand to the search for inputs (such as a known input size)."""

    def run_loss(self, inputs: Any) -> Any:
        """Call the user's own `compute_loss`. Frames outside of this call are none of theirs."""
        assert self.compute_loss is not None, "asked only where the user gave one"
        return self.compute_loss(self.model, inputs)


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Run the model on inputs as the contract reads them: a dict by keyword, a tuple by position, else one argument.

    A list is one argument: detection models take a list of images.
    """
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(inputs)
