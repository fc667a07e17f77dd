"""The model before anything runs: its tensors under all their names, its layers, and stray look-alikes of the flag."""

from __future__ import annotations

import difflib
import dis
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import CodeType
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from ..places import class_location
from ..records import Description, Gradient, Layer, StrayFlag, Tensor

_TRANSPARENT = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Names under which torch's wrappers keep the module they wrap; users never write them."""
_DATA_PARALLEL = frozenset({"DataParallel", "DistributedDataParallel"})
_LIKENESS = 0.78
"""How alike to `requiresgrad` (difflib) an attribute must be: require_grad, required_grads, requires_gradient are."""
_GRAD = ("grad", "gard", "rgad", "grda")
"""The word with two letters exchanged as well."""
_TURNED = frozenset({"gradrequire", "gradrequires", "gradrequired"})
_FLAGS = frozenset({"requires_grad", "requires_grad_", "trainable"})
"""Attributes of a module that are read as a flag whatever they are like."""
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""The attributes that torch gives to each module: its mode and its registries, most of what it has."""


@dataclass(frozen=True)
class Anatomy:
    """A description together with the live objects it was made from."""

    description: Description
    tensors: dict[str, torch.Tensor]
    """By canonical name."""
    modules: dict[str, nn.Module]
    """By path; a wrapper and what it wraps share a path, which then means the wrapped one."""

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters by canonical name."""
        kinds = self.description.by_name
        return {n: t for n, t in self.tensors.items() if kinds[n].kind == "parameter"}  # type: ignore[misc]  # DTensor parameters are nn.Parameter by name only

    def now(self, name: str) -> torch.Tensor | None:
        """Return the tensor that stands under a name by now: a forward may put a new buffer in an old one's place."""
        path, _, key = name.rpartition(".")
        module = self.modules.get(path)
        if module is None:
            return None
        owner = module._parameters if key in module._parameters else module._buffers
        return owner[key] if key in owner else None  # noqa: SIM401  # a scripted module's has no `get`


def describe(model: nn.Module) -> Description:
    """Describe a model's tensors and layers. Runs nothing of the model and changes nothing."""
    return anatomy(model).description


def anatomy(
    model: nn.Module, gradient_of: Callable[[torch.Tensor], torch.Tensor | None] = lambda tensor: tensor.grad
) -> Anatomy:
    """Describe a model and keep hold of its live tensors and modules.

    `gradient_of` tells a tensor's gradient where somebody has set it aside.
    """
    modules = dict(walk(model))
    kinds: dict[int, Literal["parameter", "buffer"]] = {}
    names: dict[int, list[str]] = {}
    live: dict[int, torch.Tensor] = {}
    layers = []
    for path, module in modules.items():
        owned = []
        for kind, held in (("parameter", module._parameters), ("buffer", module._buffers)):
            for key, tensor in held.items():
                if tensor is None:
                    continue
                name = f"{path}.{key}" if path else key
                owned.append(name)
                live[id(tensor)] = tensor
                kinds.setdefault(id(tensor), kind)  # type: ignore[arg-type]  # the two literals above
                names.setdefault(id(tensor), []).append(name)
        layers.append(_layer(path, module, tuple(owned)))
    tensors = tuple(_tensor(names[key], kinds[key], tensor, gradient_of) for key, tensor in live.items())
    by_name = {names[key][0]: tensor for key, tensor in live.items()}
    return Anatomy(Description(tensors, tuple(layers), strays_on(modules, by_name)), by_name, modules)


def strays_on(modules: Mapping[str, nn.Module], tensors: Mapping[str, torch.Tensor]) -> tuple[StrayFlag, ...]:
    """Return the attributes that look like the flag and set nothing, on modules by path and tensors by name."""
    return (*_on_tensors(tensors), *_on_modules(modules, {id(tensor): name for name, tensor in tensors.items()}))


def walk(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield (path, module) in definition order, a shared module under each of its paths, wrappers' own names left out.

    A module that contains itself is entered once per path.
    """
    stack: list[tuple[str, nn.Module, frozenset[int]]] = [("", model, frozenset())]
    while stack:
        path, module, above = stack.pop()
        inner = above | {id(module)}
        yield path, module
        children = []
        for key, child in module._modules.items():
            if child is not None and id(child) not in inner:
                children.append((_join(module, path, key), child, inner))
        stack.extend(reversed(children))


def _join(parent: nn.Module, path: str, key: str) -> str:
    wrapped = key in _TRANSPARENT or (key == "module" and type(parent).__name__ in _DATA_PARALLEL)
    if wrapped:
        return path
    return f"{path}.{key}" if path else key


def _tensor(
    names: list[str],
    kind: Literal["parameter", "buffer"],
    tensor: torch.Tensor,
    gradient_of: Callable[[torch.Tensor], torch.Tensor | None],
) -> Tensor:
    lazy, dtype = is_lazy(tensor), tensor.dtype
    return Tensor(
        name=names[0],
        kind=kind,
        shape=() if lazy else tuple(tensor.shape),
        dtype=_dtype(dtype),
        numel=0 if lazy else tensor.numel(),
        requires_grad=tensor.requires_grad,
        differentiable=dtype.is_floating_point or dtype.is_complex,
        aliases=tuple(names[1:]),
        had_gradient=not lazy and tensor.is_leaf and gradient_of(tensor) is not None,
        device=_device(tensor.device),
    )


@cache
def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@cache
def _device(device: torch.device) -> str:
    return str(device)


def gradient_in(gradient: torch.Tensor | None) -> Gradient:
    """Say what a `.grad` holds."""
    return Gradient.NONE if gradient is None else strength_of(gradient)[0]


def strength_of(gradient: torch.Tensor) -> tuple[Gradient, float | None]:
    """Return what a gradient holds and its largest absolute element.

    On the meta device, which has no values, a gradient counts as nonzero, and its largest element is None.
    """
    if gradient.is_meta:
        return Gradient.NONZERO, None
    largest = largest_in(gradient)
    if largest != largest or largest == float("inf"):
        return Gradient.NONFINITE, largest
    return (Gradient.NONZERO if largest else Gradient.ZERO), largest


def largest_in(tensor: torch.Tensor) -> float:
    """Return the largest absolute element: NaN or infinity when there is one, 0.0 for no elements."""
    values = tensor.detach()
    if values.is_sparse:
        values = values.coalesce().values()
    values = getattr(values, "_local_tensor", values)  # each rank judges the shard it holds
    if values.numel() == 0:
        return 0.0
    if values.is_floating_point() and values.itemsize >= 2:
        low, high = values.aminmax()  # a norm over infinity is forty times slower; both pass NaN on
        return max(-float(low), float(high))
    return float(torch.linalg.vector_norm(values.float() if values.itemsize < 2 else values, float("inf")))


def grown_from(before: torch.Tensor, now: torch.Tensor) -> bool:
    """Whether `now` is larger than `before` and begins with it, as a cache of positions that a longer input needs."""
    if (now.dim(), now.dtype, now.device) != (before.dim(), before.dtype, before.device):
        return False
    if now.shape == before.shape or any(map(int.__lt__, now.shape, before.shape)):
        return False
    return torch.equal(now[tuple(map(slice, before.shape))], before)


def _layer(path: str, module: nn.Module, owned: tuple[str, ...]) -> Layer:
    indexed = isinstance(module, (nn.ModuleList, nn.Sequential))
    return Layer(
        name=path,
        type=type(module).__name__,
        bases=tuple(c.__name__ for c in type(module).__mro__ if issubclass(c, nn.Module)),
        training=module.training,
        tensors=owned,
        items=tuple(module._modules) if indexed else None,
        dropout=_dropout(module),
        statistics=tuple(statistics_of(path, module)),
        defined_at=class_location(type(module)),
    )


def _dropout(module: nn.Module) -> float | None:
    """Return the probability with which a layer itself drops what it computes, where it is a layer that does."""
    kind = type(module).__name__
    if isinstance(module, nn.modules.dropout._DropoutNd) or kind == "StochasticDepth":
        probability = getattr(module, "p", None)
    elif isinstance(module, nn.RNNBase):
        probability = module.dropout if module.num_layers > 1 else None  # between the layers of one alone there is none
    elif isinstance(module, nn.MultiheadAttention):
        probability = module.dropout or None
    else:
        probability = (getattr(module, "drop_prob", None) or None) if kind.endswith("DropPath") else None
    return float(probability) if isinstance(probability, (int, float)) else None


def statistics_of(path: str, module: nn.Module) -> Iterator[str]:
    """Yield the names of the buffers that a forward in training mode moves by design."""
    if not module._buffers:
        return
    prefix = f"{path}." if path else ""
    buffers = [key for key, value in module._buffers.items() if value is not None]
    by_name = {"running_mean", "running_var", "num_batches_tracked"} & set(buffers)
    if isinstance(module, _NormBase):
        if module.track_running_stats:
            yield from (prefix + key for key in buffers if key in by_name)
    elif "Frozen" not in type(module).__name__ and {"running_mean", "running_var"} <= by_name:
        yield from (prefix + key for key in buffers if key in by_name)
    if type(module).__name__ == "_SpectralNorm":
        yield from (prefix + key for key in buffers if key in ("_u", "_v"))
    for hook in module._forward_pre_hooks.values():
        if type(hook).__name__ == "SpectralNorm":
            yield from (prefix + key for key in buffers if key.endswith(("_u", "_v")))


def _on_tensors(tensors: Mapping[str, torch.Tensor]) -> Iterator[StrayFlag]:
    for name, tensor in tensors.items():
        for attribute, value in list(getattr(tensor, "__dict__", {}).items()):
            likely = _looks_like_the_flag(attribute, value) or _says_so_of_a_tensor(attribute, value)
            if likely and _missed(tensor, value):
                yield StrayFlag(name, "parameter", attribute, repr(value), (name,))


def _on_modules(modules: Mapping[str, nn.Module], names: Mapping[int, str]) -> Iterator[StrayFlag]:
    others = set(_OF_EVERY_MODULE)
    for path, module in modules.items():
        for attribute in [name for name in vars(module) if name not in others]:
            if attribute not in _FLAGS and not _reads_like_the_flag(attribute):
                others.add(attribute)  # most layers have the same
                continue
            value = vars(module)[attribute]
            likely = attribute == "requires_grad" or _looks_like_the_flag(attribute, value)
            keras = attribute == "trainable" and value is False
            if likely or (keras and not _means_something(modules.values(), module, attribute)):
                missed = tuple(names[id(p)] for p in module.parameters() if id(p) in names and _missed(p, value))
                if missed and isinstance(value, (bool, int)):
                    yield StrayFlag(path, "module", attribute, repr(value), missed)


def _looks_like_the_flag(attribute: str, value: Any) -> bool:
    if attribute == "requires_grad_":  # the method, overwritten by an assignment
        return not callable(value)
    return _reads_like_the_flag(attribute) and isinstance(value, (bool, int))


@lru_cache(maxsize=1024)
def _reads_like_the_flag(attribute: str) -> bool:
    bare = attribute.lower().replace("_", "")
    if not bare.startswith("req") or not any(word in bare for word in _GRAD):
        return False
    return difflib.SequenceMatcher(None, bare, "requiresgrad").ratio() >= _LIKENESS


def _says_so_of_a_tensor(attribute: str, value: Any) -> bool:
    """Whether an attribute says of a tensor what a module may well call an option of its own."""
    return isinstance(value, bool) and attribute.lower().replace("_", "") in _TURNED


def _means_something(modules: Iterable[nn.Module], module: nn.Module, attribute: str) -> bool:
    """Whether a module's own class has or names an attribute, or a class of the model reads it off another's module.

    Keras' `trainable` does nothing where neither is so.
    """
    if any(attribute in vars(cls) or attribute in _names(cls) for cls in _classes([module])):
        return True
    return any(attribute in _read(cls) for cls in _classes(modules))


def _classes(modules: Iterable[nn.Module]) -> set[type]:
    return {cls for module in modules for cls in type(module).__mro__} - {nn.Module, object}


def _codes(cls: type) -> Iterator[CodeType]:
    codes = (getattr(inspect.unwrap(method), "__code__", None) for method in vars(cls).values())
    yield from (code for code in codes if isinstance(code, CodeType))


def _names(cls: type) -> set[str]:
    return {name for code in _codes(cls) for name in (*code.co_names, *code.co_varnames)}


def _read(cls: type) -> set[str]:
    steps = (step for code in _codes(cls) for step in dis.get_instructions(code))
    return {str(step.argval) for step in steps if step.opname == "LOAD_ATTR"}


def _missed(tensor: torch.Tensor, value: Any) -> bool:
    differentiable = tensor.dtype.is_floating_point or tensor.dtype.is_complex
    return differentiable and tensor.requires_grad != bool(value)
