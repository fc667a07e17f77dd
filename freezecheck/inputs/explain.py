"""Which module of the model refused its input, and in which words."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..guard import said
from ..places import raised_at
from .declared import said_of

_LONGEST_WORDS = 160


@dataclass(frozen=True, slots=True)
class Refusal:
    """Where a forward failed."""

    given: str
    """The model's inputs, as `said_of` says them."""
    layer: str
    """Path of the innermost module whose forward raised; empty for the root, and where no module was on the way."""
    type: str
    """That module with its own sizes, such as `Linear(400, 120)`."""
    words: str
    """The exception in one line."""
    where: str = ""
    """The user's line that called, such as `model.py:14`."""

    def __str__(self) -> str:
        layer = f"{self.layer} ({self.type})" if self.layer else f"the forward of {self.type}"
        return f"{layer}{f' at {self.where}' if self.where else ''}: {self.words}"


def refusal(model: nn.Module, inputs: Any, exception: BaseException) -> Refusal:
    """Say which module of the model refused, from the traceback of a failed forward: no second run is needed."""
    paths = {id(module): path for path, module in model.named_modules()}
    innermost: nn.Module = model
    for frame, _ in traceback.walk_tb(exception.__traceback__):
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and id(owner) in paths:
            innermost = owner
    where = raised_at(exception)
    return Refusal(
        said_of(inputs), paths[id(innermost)], _with_sizes(innermost), _one_line(exception), str(where or "")
    )


def explain_shape_failure(model: nn.Module, inputs: Any, exception: BaseException) -> str:
    """Return a sentence that says which module refused which inputs, with the exception's own words."""
    refused = refusal(model, inputs, exception)
    return f"{refused}; the model was given {refused.given}"


def _with_sizes(module: nn.Module) -> str:
    """The class's name, and for a leaf its positional sizes: `Linear(400, 120)`, without torch's `in_features=`."""
    if next(module.children(), None) is not None:
        return type(module).__name__
    sizes = re.findall(r"(?:^|, |=)(\d+|\(\d+(?:, \d+)*,?\))(?=,|$)", module.extra_repr())
    return f"{type(module).__name__}({', '.join(sizes[:2])})" if sizes else type(module).__name__


def _one_line(exception: BaseException) -> str:
    words = " ".join(said(exception).removeprefix("raised ").split())
    words = words.removeprefix("RuntimeError: ")
    return words if len(words) <= _LONGEST_WORDS else words[:_LONGEST_WORDS].rstrip() + " …"
