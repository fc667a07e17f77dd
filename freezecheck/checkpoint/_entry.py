"""One tensor as it lies in a checkpoint: its shape and dtype at once, its bytes piece by piece on demand."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, TypeVar

from ..records import Stored

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

Read = Callable[[int, memoryview], None]
"""Fill the view with the tensor's bytes from an offset on."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A stored tensor. Nothing of it is read before `read` or `tensor` is called."""

    names: tuple[str, ...]
    """Its names; more than one where a file stores it once under several."""
    stored: Stored
    nbytes: int = 0
    read: Read | None = None
    """Gives its elements as bytes, the last dimension fastest; None where it is no plain array of elements."""
    load: Callable[[], torch.Tensor] | None = None
    """Gives it whole, for what `read` cannot give."""
    why: str = ""
    """Why it holds no values that could be compared; empty where it does."""

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.stored.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one element; 1 where several elements share a byte or there are none."""
        whole, rest = divmod(self.nbytes, self.numel or 1)
        return 1 if rest or not whole else whole

    def tensor(self) -> torch.Tensor:
        """Return it whole, in memory of its own where it comes from a file."""
        import torch

        if self.load is not None:
            return self.load()
        if self.read is None:
            return torch.empty(self.stored.shape, dtype=getattr(torch, self.stored.dtype), device="meta")
        if not self.nbytes:
            return torch.empty(self.stored.shape, dtype=getattr(torch, self.stored.dtype))
        room = bytearray(self.nbytes)
        self.read(0, memoryview(room))
        raw = torch.frombuffer(room, dtype=torch.uint8)
        return raw.view(getattr(torch, self.stored.dtype)).view(self.stored.shape)


def tied_entries(
    tensors: Mapping[str, T], identity: Callable[[str, T], Hashable], make: Callable[[tuple[str, ...], T], Entry]
) -> dict[str, Entry]:
    """Return an entry for every tensor by its name; those of one `identity` are one entry with all their names."""
    tied: dict[Hashable, list[str]] = {}
    for name, tensor in tensors.items():
        tied.setdefault(identity(name, tensor), []).append(name)
    found: dict[str, Entry] = {}
    for names in tied.values():
        found |= dict.fromkeys(names, make(tuple(names), tensors[names[0]]))
    return {name: found[name] for name in tensors}
