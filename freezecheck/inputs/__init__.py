"""Example inputs: declared by the user, known of the model, or searched from its first layers' shapes."""

from .declared import Declared, declared, of_shape, said_of
from .explain import explain_shape_failure, misfit
from .found import Found
from .infer import infer
from .placed import on_device

__all__ = [
    "Declared",
    "Found",
    "declared",
    "explain_shape_failure",
    "infer",
    "misfit",
    "of_shape",
    "on_device",
    "said_of",
]
