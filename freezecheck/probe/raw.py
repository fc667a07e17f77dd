"""The bytes of a tensor, whatever its dtype, strides, layout or subclass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

CHUNK = 2**20
"""Bytes that are worked on at once, so that temporaries stay in the processor's cache."""

ROWS_ON_DEVICE = 64
"""Chunks that are worked on at once on an accelerator, where starting a kernel costs more than a cache miss."""

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By element size in bytes, the dtype that compares every bit."""

ORDINARY = frozenset({
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool,
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
})  # fmt: skip
"""Dtypes for which torch has every operation; some of the others it cannot even copy."""

_INDICES = {
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_coo: ("_indices", "_values"),
}


def parts(tensor: Tensor) -> list[Tensor]:
    """Return the plain strided tensors that hold a tensor's content, each element of memory once.

    They share the tensor's memory, so that writing to them writes to it (mkldnn tensors are copied instead); of a
    plain tensor that does not require grad it is that tensor itself. A sharded tensor or another wrapper gives what
    lies on this process. Meta tensors, and tensors whose storage was freed, hold nothing.
    """
    if type(tensor) in _PLAIN and tensor.layout is torch.strided:
        return _strided_parts(tensor.detach() if tensor.requires_grad else tensor)
    with torch._C.DisableTorchFunctionSubclass():
        return _parts(tensor.detach())


def as_bytes(part: Tensor) -> Tensor:
    """Return a part, as integers of its size where torch may not be able to copy its dtype."""
    return part if part.dtype in ORDINARY else part.view(INTEGERS.get(part.element_size(), part.dtype))


def is_plain(tensor: Tensor) -> bool:
    """Return whether it is an ordinary tensor in memory: no subclass, strided, neither quantised nor meta."""
    return type(tensor) in _PLAIN and tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_meta


_PLAIN = (torch.nn.Parameter, Tensor)


def _parts(tensor: Tensor) -> list[Tensor]:
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is not None:
        inner = [getattr(tensor, name) for name in flatten()[0]]
        return [part for piece in inner if isinstance(piece, Tensor) for part in _parts(piece)]
    if tensor.layout in _INDICES:
        return [part for name in _INDICES[tensor.layout] for part in _parts(getattr(tensor, name)())]
    return [tensor.to_dense()] if tensor.is_mkldnn else _strided_parts(tensor)


def _strided_parts(tensor: Tensor) -> list[Tensor]:
    if tensor.is_meta:
        return []
    storage = tensor.untyped_storage()
    if storage.nbytes() == 0:
        return []
    if tensor.is_quantized:
        room = torch.empty(0, dtype=torch.uint8, device=tensor.device)
        return [room.set_(storage, 0, (storage.nbytes(),), (1,))]
    if tensor.is_conj():
        tensor = tensor.conj()
    if tensor.is_neg():
        tensor = tensor._neg_view()
    strides = tensor.stride()
    if 0 in strides:
        for dim, stride in enumerate(strides):
            if stride == 0 and tensor.shape[dim] > 1:
                tensor = tensor.narrow(dim, 0, 1)
    return [tensor]


def runs(*tensors: Tensor, at_once: int = CHUNK) -> Iterator[tuple[Tensor, ...]]:
    """Cut strided tensors of one shape and element size into flat contiguous runs, side by side.

    Runs follow the order of memory, `at_once` bytes at a time, where the tensors are dense in one order of dimensions;
    else they are copied, `CHUNK` bytes at a time.
    """
    first = tensors[0]
    rows = 1 if first.device.type == "cpu" else ROWS_ON_DEVICE
    size = first.element_size()
    flat = _flat(tensors)
    if flat is None:
        yield from _copied_runs(tensors, rows * CHUNK // size)
    else:
        yield from _split(flat, max(at_once, rows * CHUNK) // size)


def _copied_runs(tensors: Sequence[Tensor], elements: int) -> Iterator[tuple[Tensor, ...]]:
    first = tensors[0]
    flat = _flat(tensors)
    if flat is None and first.numel() > elements:
        longest = max(range(first.dim()), key=lambda dim: first.shape[dim])
        for half in zip(*(tensor.tensor_split(2, longest) for tensor in tensors), strict=True):
            yield from _copied_runs(half, elements)
        return
    if flat is None:
        flat = [_line(tensor.reshape(-1).contiguous()) for tensor in tensors]
    yield from _split(flat, elements)


def _split(flat: Sequence[Tensor], elements: int) -> Iterator[tuple[Tensor, ...]]:
    if flat[0].numel() <= elements:
        yield tuple(flat)
    else:
        yield from zip(*(torch.split(tensor, elements) for tensor in flat), strict=True)


def _flat(tensors: Sequence[Tensor]) -> list[Tensor] | None:
    """Return one-dimensional views when all are dense in the same order of dimensions."""
    if all(tensor.is_contiguous() for tensor in tensors):
        return [_line(tensor.view(-1)) for tensor in tensors]
    order = memory_order(tensors[0])
    permuted = [tensor.permute(order) for tensor in tensors]
    return (
        [_line(tensor.view(-1)) for tensor in permuted] if all(tensor.is_contiguous() for tensor in permuted) else None
    )


def _line(flat: Tensor) -> Tensor:
    # A single element counts as contiguous whatever its stride, and only stride 1 can be viewed as bytes.
    return flat if flat.stride(0) == 1 else flat.as_strided((flat.numel(),), (1,))


def memory_order(tensor: Tensor) -> list[int]:
    """Return the dimensions of a strided tensor from the widest stride to the narrowest."""
    strides = tensor.stride()
    return sorted(range(tensor.dim()), key=lambda dim: -strides[dim])


def words(*flat: Tensor) -> list[Tensor]:
    """Return flat contiguous tensors of one size in bytes as int64, or as uint8 where length or place forbid it."""
    whole = all(t.nbytes % 8 == 0 and t.storage_offset() * t.element_size() % 8 == 0 for t in flat)
    return [tensor.view(torch.int64 if whole else torch.uint8) for tensor in flat]
