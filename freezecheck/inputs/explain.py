"""Which module of the model refused its input, and in which words."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..guard import said
from ..places import raised_at
from .declared import said_of
from .signature import parameters_of

_LONGEST_WORDS = 160
_NO_LIST = re.compile(r"not list\b|got \(list\b|'list' object has no attribute")


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

    @property
    def place(self) -> str:
        """The layer, and where the user's code called it: `fc (Linear(400, 120)) at model.py:14`."""
        layer = f"{self.layer} ({self.type})" if self.layer else f"the forward of {self.type}"
        return layer + (f" at {self.where}" if self.where else "")

    def __str__(self) -> str:
        return f"{self.place}: {self.words}"


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
    """Return a clause that says which module refused, and what the model was given; not the exception's own words."""
    refused = refusal(model, inputs, exception)
    return f"{refused.place}; the model was given {refused.given}"


def misfit(model: nn.Module, inputs: Any, exception: BaseException) -> str:
    """Say how a batch goes into a forward that has no such arguments, a tuple by position, a dict by name; else ``."""
    takes = f"it is forward({', '.join(parameters_of(model))})"
    if isinstance(inputs, list) and _NO_LIST.search(str(exception)):
        return f"a list is one argument, a tuple goes by position, and {takes}"
    try:
        signature = inspect.signature(model.forward)
        if isinstance(inputs, Mapping):
            signature.bind(**inputs)
        else:
            signature.bind(*(inputs if isinstance(inputs, tuple) else (inputs,)))
    except TypeError:
        if isinstance(inputs, Mapping):
            return f"a dict goes by name, here as {', '.join(f'{key}=' for key in inputs)}, and {takes}"
        if isinstance(inputs, tuple):
            return f"a tuple goes by position, here as {len(inputs)} arguments, and {takes}"
    except ValueError:
        pass  # a forward without a Python signature
    return ""


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
