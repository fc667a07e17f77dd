"""Example inputs for a model whose user gave none."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..errors import ProbeError
from ..guard import users_code
from .found import Found
from .huggingface import transformers_inputs
from .libraries import known_inputs
from .search import search
from .trial import Trials

if TYPE_CHECKING:
    from torch import nn


def infer(model: nn.Module, known: Mapping[str, Any] = {}) -> Found:  # noqa: B006 - a Mapping is only read
    """Return random inputs, a batch of two, that the model's forward takes.

    What a library says of its own models comes first, then the configuration of a transformers model, then shapes
    that the first layers suggest. All are tried, on the meta device where the forward can run there; elsewhere the
    model itself runs, with its buffers replaced, so the caller protects it. `known` holds what the loader knows.
    Raises ProbeError that shows what was tried when nothing fits.
    """
    trials = Trials(model)
    with users_code("searching for example inputs, the model's forward", ProbeError):
        for found in chain(known_inputs(model, known), transformers_inputs(model)):
            if _is_detection(found) or trials.accepts(found.make):
                return found
        return search(model, trials)


def _is_detection(found: Found) -> bool:
    """Boxes are compared by value, which the meta device cannot, and a trial for real takes as long as the probe."""
    return "one box each" in found.said
