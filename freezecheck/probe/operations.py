"""What a torch function does to the flow of gradients: the vocabulary of the tracer."""

from __future__ import annotations

from enum import Enum, auto
from functools import cache
from typing import Any

import torch


class Effect(Enum):
    """What the tracer has to do about a call."""

    IGNORED = auto()
    """A question about a tensor (its shape, its flags): no data flows."""
    ORDINARY = auto()
    """Data flows from the tensor arguments to the results."""
    WRITES = auto()
    """As ordinary, and the first argument (or `out=`) is written in place."""
    CUTS = auto()
    """Data flows, the gradient never does: `detach()`, `.data`."""
    LEAVES = auto()
    """Data leaves torch for Python or numpy: `.item()`, `.numpy()`, `.tolist()`."""
    ENTERS = auto()
    """A tensor is made from Python or numpy data: `torch.tensor`, `torch.as_tensor`."""
    GRAD_MODE = auto()
    """Gradient recording is switched on or off."""
    FLAG = auto()
    """A tensor's `requires_grad` is set."""
    GRADIENT = auto()
    """A tensor's `.grad` is set: no data flows."""


_SET = {"data": Effect.WRITES, "requires_grad": Effect.FLAG, "grad": Effect.GRADIENT}
"""By property, what it is to set it."""
_DATA_PROPERTIES = frozenset({"T", "H", "mT", "mH", "real", "imag"})
_LEAVES = frozenset({"item", "tolist", "numpy", "__array__", "__float__", "__int__", "__index__", "__complex__"})
_ENTERS = frozenset(
    {"tensor", "as_tensor", "asarray", "scalar_tensor", "new_tensor", "from_numpy", "full", "full_like"}
)
_CUTS = frozenset({"detach", "detach_", "detach_copy"})
_QUESTIONS = frozenset(
    [
        "size",
        "dim",
        "numel",
        "stride",
        "is_contiguous",
        "is_floating_point",
        "is_complex",
        "element_size",
        "data_ptr",
        "untyped_storage",
        "storage",
        "storage_offset",
        "get_device",
        "requires_grad_",
        "register_hook",
        "retain_grad",
        "__len__",
        "__hash__",
        "__repr__",
        "__format__",
        "__bool__",
        "is_tensor",
        "is_same_size",
        "nelement",
        "ndimension",
        "__dlpack_device__",
        "is_nonzero",
        "is_inference",
        "backward",
    ]
)
_OPENS_MEMORY = frozenset({"data_ptr", "untyped_storage", "storage", "numpy", "__array__", "__dlpack__", "to_dlpack"})
_MAX_NORM = {"embedding": 3, "embedding_bag": 4}
"""Where the functions that look rows up take `max_norm`."""
_FLAT = frozenset(
    {"round", "rint", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside", "floor_divide"}
    | {"normal", "bernoulli", "poisson"}
)
_ONE_TO_ONE = frozenset({"broadcast_tensors", "meshgrid", "atleast_1d", "atleast_2d", "atleast_3d", "align_tensors"})
"""Functions of several tensors whose every result is made of one of them, in the same order."""


@cache
def name_of(func: Any) -> str:
    """Return the name a user knows the function by: `relu`, `data` for the property, `add_` for an aten overload."""
    name = getattr(func, "__name__", "") or str(func)
    if name in ("__get__", "__set__"):
        return str(func.__self__.__name__)
    return name.split(".")[0]


@cache
def effect_of(func: Any) -> Effect:
    """Return what a call of `func` does to the flow (decided once per function)."""
    raw, name = getattr(func, "__name__", ""), name_of(func)
    if raw == "__get__":
        if name == "data":
            return Effect.CUTS
        return Effect.ORDINARY if name in _DATA_PROPERTIES else Effect.IGNORED
    if raw == "__set__":
        return _SET.get(name, Effect.IGNORED)
    if name in ("_set_grad_enabled", "requires_grad_"):
        return Effect.FLAG if name == "requires_grad_" else Effect.GRAD_MODE
    for names, effect in ((_CUTS, Effect.CUTS), (_LEAVES, Effect.LEAVES), (_ENTERS, Effect.ENTERS)):
        if name in names:
            return effect
    if name in _QUESTIONS:
        return Effect.IGNORED
    if name == "__setitem__" or (name.startswith("__i") and name.endswith("__") and name != "__invert__"):
        return Effect.WRITES
    if name.endswith("_") and not name.endswith("__"):
        return Effect.WRITES
    return Effect.ORDINARY


@cache
def opens_memory(func: Any) -> bool:
    """Whether the call hands out the tensor's memory, so that it may be written behind torch's back."""
    return name_of(func) in _OPENS_MEMORY


@cache
def is_flat(func: Any) -> bool:
    """Whether the function's derivative is zero everywhere it exists (rounding, sign, drawing from a distribution)."""
    return name_of(func).rstrip("_") in _FLAT


@cache
def is_one_to_one(func: Any) -> bool:
    """Whether the function makes each of its results of one input alone (`broadcast_tensors`, `meshgrid`)."""
    return name_of(func) in _ONE_TO_ONE


def written_by(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """Return the tensors that a call writes in place."""
    written: list[torch.Tensor] = []
    if effect_of(func) is Effect.WRITES and args:
        first = args[0]
        written += [t for t in (first if isinstance(first, (list, tuple)) else (first,)) if isinstance(t, torch.Tensor)]
    out = kwargs.get("out")
    if out is not None:
        written += [t for t in (out if isinstance(out, (list, tuple)) else (out,)) if isinstance(t, torch.Tensor)]
    position = _MAX_NORM.get(name_of(func))
    if position is not None and len(args) > 1:
        # An embedding with max_norm rescales the rows it looks up in place, in the forward, frozen or not.
        bound = kwargs.get("max_norm", args[position] if len(args) > position else None)
        written += [args[1]] if bound is not None else []
    return written


def call_words(func: Any) -> str:
    """Return the operation as the user wrote it: `detach()`, `.data`, `argmax()`."""
    name = name_of(func)
    if getattr(func, "__name__", "") in ("__get__", "__set__"):
        return f".{name}" if getattr(func, "__name__", "") == "__get__" else f".{name} ="
    spoken = {
        "__float__": "float()", "__int__": "int()", "__index__": "int()", "__complex__": "complex()",
        "__array__": "numpy.asarray()", "__setitem__": "[...] =", "__getitem__": "[...]",
        "__rdiv__": "div()", "__rpow__": "pow()", "__rsub__": "sub()", "__rmatmul__": "matmul()",
    }  # fmt: skip
    return spoken.get(name, f"{name}()")


def reason_of(func: Any, output: torch.Tensor | None, *, inference: bool, grad_enabled: bool) -> tuple[str, str]:
    """Return (operation, reason) for a call that had a live input and gave a dead result."""
    words = call_words(func)
    effect = effect_of(func)
    if effect is Effect.CUTS:
        return words, f"{words} hands on the values without the graph"
    if effect is Effect.LEAVES:
        return words, f"{words} takes the values out of torch: whatever is made from them has no graph"
    if effect is Effect.ENTERS:
        return words, f"{words} copies the values into a new tensor without the graph"
    if inference:
        return "inference_mode", f"{words} runs under torch.inference_mode()"
    if not grad_enabled:
        return "no_grad", f"{words} runs under torch.no_grad()"
    if output is not None and not (output.is_floating_point() or output.is_complex()):
        dtype = str(output.dtype).removeprefix("torch.")
        return words, f"{words} gives {dtype}, and only floating-point tensors carry a gradient"
    return words, f"{words} gives a result that carries no gradient"
