"""Example inputs for a model whose user gave none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import ProbeError
from ..guard import users_code
from ..subject import COMMAND_LINE, Asking
from .found import Found
from .huggingface import transformers_inputs
from .libraries import known_inputs
from .search import search
from .trial import Trials

if TYPE_CHECKING:
    from torch import nn

_SURELY = 2
"""Of inputs that a library promises, so many are tried for real when the meta device refused them."""


def infer(model: nn.Module, known: Mapping[str, Any] = {}, asking: Asking = COMMAND_LINE) -> Found:
    """Return random inputs, a batch of two, that the model's forward takes.

    What a library says of its own models comes first, then the configuration of a transformers model, then shapes
    that the first layers suggest. All are tried, on the meta device where the forward can run there; elsewhere the
    model itself runs, with its buffers replaced, so the caller protects it. `known` holds what the loader knows.
    `asking` has the words that ask for inputs where none are found.
    Raises ProbeError that shows what was tried when nothing fits.
    """
    trials = Trials(model)
    with users_code("searching for example inputs, the model's forward", ProbeError):
        said_to_fit = [*known_inputs(model, known), *transformers_inputs(model)]
        for found in said_to_fit:
            if found.sure or trials.accepts(found.make):
                return found
        for found in said_to_fit[:_SURELY]:
            if trials.accepts(found.make, for_real=True):
                return found
        return search(model, trials, asking)
