"""Shapes that a model's first layers suggest, those with the fewest assumptions first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from .declared import Declared, name_of

BATCH = 2
"""BatchNorm needs more than one sample."""
_SIDES = (64, 32, 224, 28, 96, 128, 256, 299, 227, 48, 112, 160, 192, 384, 512, 84, 40, 36, 16, 8, 4, 1)
_GREY_SIDES = (28, 32, *(side for side in _SIDES if side not in (28, 32)))
_LATENT_SIDES = (1, 4, 8, *(side for side in _SIDES if side not in (1, 4, 8)))
_SAMPLES = (64, 128, 100, 256, 512, 1000, 1024, 4096, 16000, 16384, 44100, 32, 16, 8, 1)
_TOKENS = (16, 8, 32, 64, 100, 128, 256, 512, 1024, 4)
_FRAMES = (8, 16)
_ONCE = (1,)
_MOST_LAYERS = 4
"""How many of the first layers are asked: a head is sometimes registered before the backbone."""
_FEWEST_IDS = 16
"""A smaller embedding is one of segments or flags and does not bound the ids of the others."""


Template = tuple[int | None, ...]
"""A shape in which None stands for the size that is tried."""
Suggestion = tuple[Template, tuple[int, ...]]
"""A template and the sizes to try, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Family:
    """Shapes that differ in one size."""

    layer: str
    """Path of the layer that suggests them."""
    template: Template
    sizes: tuple[int, ...]
    dtype: str = "float32"
    high: int | None = None
    """For ids: one more than the largest."""

    def at(self, size: int) -> Declared:
        """The input of that size."""
        shape = tuple(size if length is None else length for length in self.template)
        return Declared(shape, self.dtype, None if self.high is None else 0, self.high)


def families(model: nn.Module, *, ids_first: bool = False) -> list[Family]:
    """Return what the first layers suggest, in the order to try; ids first where forward's argument is named so."""
    floats = name_of(next((p.dtype for p in model.parameters() if p.dtype.is_floating_point), torch.float32))
    lengths = tuple(dict.fromkeys((*_TOKENS, *_lengths(model), 1)))
    found: list[Family] = []
    kinds: set[object] = set()
    for path, layer in model.named_modules():
        key = _key(layer)
        if key is None or key in kinds or len(kinds) >= _MOST_LAYERS:
            continue
        kinds.add(key)
        of_ids = isinstance(layer, nn.Embedding | nn.EmbeddingBag)
        dtype, high = ("int64", _ids(model)) if of_ids else (floats, None)
        found += [Family(path, template, sizes, dtype, high) for template, sizes in _suggested(layer, lengths)]
    return sorted(found, key=lambda family: ids_first and family.dtype != "int64")


def _key(layer: nn.Module) -> object:
    """What two layers share that suggest the same shapes; None for a layer without tensors of its own."""
    first = next(layer.parameters(recurse=False), None)
    if first is None and not isinstance(layer, nn.MultiheadAttention):
        return None
    return (type(layer), None if first is None or is_lazy(first) else tuple(first.shape))


def _suggested(layer: nn.Module, lengths: tuple[int, ...]) -> Iterator[Suggestion]:
    match layer:
        case nn.modules.batchnorm._NormBase() if layer.num_features:
            dimensions = _dimensions_in_name(layer) or 2
            if dimensions == 1:
                yield (BATCH, layer.num_features), _ONCE
            yield from _by_channels(layer.num_features, dimensions)
        case nn.GroupNorm():
            yield from _by_channels(layer.num_channels, 2)
        case nn.modules.conv._ConvNd() if layer.in_channels:
            yield from _by_channels(layer.in_channels, len(layer.kernel_size), latent=layer.transposed)
        case nn.Linear() if layer.in_features:
            yield from _by_features(layer.in_features, lengths)
        case nn.Embedding() | nn.EmbeddingBag() | nn.RNNBase() | nn.RNNCellBase() | nn.MultiheadAttention():
            yield from _of_a_sequence(layer, lengths)
        case nn.LayerNorm():
            yield (BATCH, *layer.normalized_shape), _ONCE
            yield (BATCH, None, *layer.normalized_shape), lengths
        case _:
            yield from _by_parameter(layer, lengths)


def _of_a_sequence(layer: nn.Module, lengths: tuple[int, ...]) -> Iterator[Suggestion]:
    match layer:
        case nn.RNNBase():
            features = layer.input_size
            yield (BATCH, None, features) if layer.batch_first else (None, BATCH, features), lengths
        case nn.RNNCellBase():
            yield (BATCH, layer.input_size), _ONCE
        case nn.MultiheadAttention():
            yield (BATCH, None, layer.embed_dim), lengths
        case _:
            yield (BATCH, None), lengths
            yield (BATCH,), _ONCE


def _by_channels(channels: int, dimensions: int, *, latent: bool = False) -> Iterator[Suggestion]:
    n = BATCH
    if dimensions == 1:
        yield (n, channels, None), _SAMPLES
        yield (n, channels), _ONCE
    elif dimensions == 2:
        yield (n, channels, None, None), _LATENT_SIDES if latent else _GREY_SIDES if channels == 1 else _SIDES
    else:
        for frames in _FRAMES:
            yield (n, channels, frames, None, None), (64, 112, 224, 32, 16)
        yield (n, channels, None, None, None), (32, 64, 16, 96, 128, 8)


def _by_features(features: int, lengths: tuple[int, ...]) -> Iterator[Suggestion]:
    """A row of features; a sequence of them; the image that has so many pixels; an image cut into such patches."""
    n = BATCH
    yield (n, features), _ONCE
    yield (n, None, features), lengths
    squares = [(channels, math.isqrt(features // channels)) for channels in (1, 3)]
    squares = [(channels, side) for channels, side in squares if channels * side * side == features and side > 1]
    for channels, side in squares:
        yield (n, channels, side, side), _ONCE
    for channels, _ in reversed(squares):
        yield (n, channels, None, None), _SIDES


def _by_parameter(layer: nn.Module, lengths: tuple[int, ...]) -> Iterator[Suggestion]:
    """A layer of somebody's own, by the shape of its first tensor; a lazy one takes anything."""
    first = next(layer.parameters(recurse=False), None)
    if first is None:
        return
    if is_lazy(first):
        dimensions = _dimensions_in_name(layer)
        yield from _by_channels(3, dimensions) if dimensions else iter([((BATCH, 16), _ONCE)])
        return
    shape = tuple(first.shape)
    if 3 <= len(shape) <= 5 and shape[0] != 1:
        yield from _by_channels(shape[1], len(shape) - 2)
    for features in dict.fromkeys(shape[::-1][:2]):
        yield from _by_features(features, lengths)


def _dimensions_in_name(layer: nn.Module) -> int:
    """The dimensions that a class such as BatchNorm1d or LazyConv2d is for; 0 where its name says nothing."""
    return next((d for d in (1, 2, 3) if f"{d}d" in type(layer).__name__), 0)


def _lengths(model: nn.Module) -> Iterator[int]:
    """Lengths that positional tensors (1, length, features) ask for, and those without a class token."""
    for module in model.modules():
        if next(module.children(), None) is None:
            continue
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if not is_lazy(tensor) and tensor.ndim in (2, 3) and tensor.shape[-2] > 1:
                yield from (tensor.shape[-2], tensor.shape[-2] - 1)


def _ids(model: nn.Module) -> int:
    """How many ids every embedding of the model knows, the small ones aside."""
    sizes = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
    return min([size for size in sizes if size >= _FEWEST_IDS] or sizes or [2])
