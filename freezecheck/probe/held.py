"""One tensor as it was: its content, and all that hangs on it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .change import fingerprint, part_change, same_part
from .lending import Loans, can_be_lent, holders
from .pages import Pages
from .raw import as_bytes, is_plain, memory_order, parts
from .together import TOGETHER, Together

SMALL = 2**13
"""Bytes up to which a copy costs no more than a fingerprint."""


class Content:
    """What a tensor held at one moment: a copy of it, or a fingerprint until somebody is about to write to it."""

    __slots__ = ("_copies", "_data", "_mark", "_parts", "_sizes", "_together", "asked", "lost", "nbytes", "stands")

    def __init__(self, data: Tensor) -> None:
        self._data = data
        self._parts = parts(data)
        self._sizes = [part.untyped_storage().nbytes() for part in self._parts]
        self.nbytes = sum([part.nbytes for part in self._parts])
        """Bytes of memory it covers."""
        self._copies: list[Tensor] | None = None
        self._together: tuple[Together, int] | None = None
        """The copy, where it was made together with those of others, and its place there."""
        self._mark: Tensor | None = None
        self.lost = False
        """It changed while there was no copy."""
        self.asked = False
        """Somebody compared it after all had run, so that `lost` is up to date and need not be found out again."""
        self.stands = False
        """It was found to be and to lie where it was, after all had run: there is nothing to put back."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to hold: a meta or lazy tensor, one without elements, a freed storage."""
        return not self._parts

    @property
    def kept(self) -> bool:
        """Whether it can be put back."""
        return self._copies is not None or self._together is not None or not self._parts

    def mark(self) -> None:
        """Remember its fingerprint."""
        if not self.kept:
            self._mark = fingerprint(self._data)

    def keep(self) -> None:
        """Copy it, unless that was done. What was written before cannot be seen in the copy: it counts as lost."""
        if not self.kept:
            self._check_mark()
            copy_all([self])

    def _check_mark(self) -> None:
        self.asked = True
        if not self._whole() or not torch.equal(fingerprint(self._data), self._mark):  # type: ignore[arg-type]  # kept or marked
            self.lost = True

    def _whole(self) -> bool:
        """Return whether its storages still have their sizes: reading beyond them would crash."""
        return [part.untyped_storage().nbytes() for part in self._parts] == self._sizes

    def change(self, now: Tensor) -> tuple[bool, float | None]:
        """Return whether `now` holds other bytes, and the largest absolute change (None: it cannot be told)."""
        if self.empty:
            return False, 0.0
        copies = self._copied()
        if copies is None:
            self._check_mark()
        if self.lost:
            return True, None
        if copies is not None:
            return _compare(copies, parts(now))
        return (False, 0.0) if same_place(now, self._data) else _compare(self._parts, parts(now))

    def _copied(self) -> list[Tensor] | None:
        if self._copies is None and self._together is not None:
            together, place = self._together
            self._copies = [together.copy_of(place)]
        return self._copies

    @property
    def copy(self) -> Tensor | None:
        """What it held, where it is one plain tensor and a copy was made before anything wrote to it."""
        copies = self._copied()
        if self.lost or copies is None or len(copies) != 1 or copies[0].shape != self._data.shape:
            return None
        return copies[0]

    def copy_to_write(self) -> Tensor | None:
        """As `copy`, in a storage of its own, that may be written to while nobody compares with it."""
        copy = self.copy
        return copy if copy is None or self._together is None else copy.clone()

    def lend(self) -> Tensor | None:
        """Return the copy, to be written to in its place: what it held is from now on what lies there untouched.

        None where there is no copy, or none with a storage and the strides that it has itself.
        """
        if self._copies is None or len(self._parts) != 1 or self._copies[0].stride() != self._data.stride():
            return None
        copy = self.copy
        self._copies = self._copies if copy is None else self._parts
        return copy

    def let_go(self) -> None:
        """Drop the copy: nothing will be put back or compared any more."""
        self._copies = self._together = None

    def put_back(self, written: bool = False) -> None:
        """Write the content back where it lay; what is still the same is not written, unless `written` is known."""
        copies = self._copied()
        if copies is None:
            if not self.empty and not self.asked:
                self._check_mark()
            return
        if copies is self._parts:  # lent
            return
        for part, copy, size in zip(self._parts, copies, self._sizes, strict=True):
            if part.untyped_storage().nbytes() != size:
                part.untyped_storage().resize_(size)
            if written or not same_part(part, copy):
                with torch.inference_mode() if part.is_inference() else nullcontext():
                    as_bytes(part).copy_(as_bytes(copy))

    def lies_in(self, tensor: Tensor) -> bool:
        """Return whether a tensor still covers the memory that this was the content of."""
        return same_place(tensor, self._data)


def compared(contents: Iterable[Content]) -> dict[int, tuple[bool, float]]:
    """Return what `change` would tell of the memory of small contents that were copied together, by identity.

    Left out are the few of which it takes a look of their own to tell.
    """
    looks: dict[Together, dict[int, float | None]] = {}
    found: dict[int, tuple[bool, float]] = {}
    for content in contents:
        if content._together is not None and not content.lost:
            together, place = content._together
            if together not in looks:
                looks[together] = together.changed()
            change = looks[together].get(place, 0.0)
            if change is not None:
                found[id(content)] = (place in looks[together], change)
    return found


def _compare(before: Sequence[Tensor], after: Sequence[Tensor]) -> tuple[bool, float]:
    if [part.shape for part in before] != [part.shape for part in after]:
        return True, math.inf
    furthest = max(map(part_change, before, after))
    moved = 0.0 < furthest < math.inf or not all(map(same_part, before, after))  # most that are asked about moved
    return moved, furthest if moved else 0.0


def same_place(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors cover the same memory in the same way, and read it as the same dtype."""
    if a.dtype != b.dtype:  # of which `is_set_to` says nothing
        return False
    if is_plain(a) and is_plain(b):
        return a.is_set_to(b)
    one, other = parts(a), parts(b)
    return len(one) == len(other) and all(map(Tensor.is_set_to, one, other))


def copy_all(contents: Iterable[Content], pages: Pages | None = None) -> None:
    """Copy many contents at once: on the CPU into one block of `pages`, which costs far less than many."""
    wanted = _copy_together([content for content in contents if not content.kept])
    sources = [part for content in wanted for part in content._parts]
    room = (pages or Pages()).rooms([part.nbytes for part in sources if part.device.type == "cpu"])
    copies = [_like(part, next(room)) if part.device.type == "cpu" else torch.empty_like(part) for part in sources]
    if sources:
        torch._foreach_copy_(list(map(as_bytes, copies)), list(map(as_bytes, sources)))
    each = iter(copies)
    for content in wanted:
        content._copies = [next(each) for _ in content._parts]


def _copy_together(contents: list[Content]) -> list[Content]:
    """Copy the small ones among these, and return the others."""
    alike: dict[tuple[torch.device, torch.dtype], list[Content]] = {}
    others = []
    for content in contents:
        part = content._parts[0]
        small = 0 < content.nbytes <= SMALL and len(content._parts) == 1 and part.is_contiguous()
        if small and part.dtype in TOGETHER and type(part) is Tensor:
            alike.setdefault((part.device, part.dtype), []).append(content)
        else:
            others.append(content)
    for several in alike.values():
        together = Together([c._parts[0] for c in several], [c._sizes[0] for c in several])
        for place, content in enumerate(several):
            content._together = together, place
    return others


def _like(part: Tensor, room: Tensor) -> Tensor:
    """Return a dense tensor in `room`, with the shape of `part` and its order in memory."""
    flat = room.view(part.dtype)
    if part.is_contiguous():
        return flat.view(part.shape)
    order = memory_order(part)
    inverse = sorted(range(part.dim()), key=lambda dim: order[dim])
    return flat.view([part.shape[dim] for dim in order]).permute(inverse)


class Held:
    """A tensor of the model or an optimizer with all that must be as it was: class, storage, flag, gradient, hooks."""

    __slots__ = (
        "_class", "_count", "_data", "_grad_content", "_hooks", "_requires_grad",
        "attributes", "base", "content", "grad", "leaf", "lent", "name", "state", "tensor",
    )  # fmt: skip

    def __init__(self, name: str, tensor: Tensor, state: bool) -> None:
        self.name, self.tensor, self.state = name, tensor, state
        self.lent = False
        """Its copy stands in for it: nobody writes to the tensor itself."""
        self._data = data = tensor.data
        self.content = self.base = Content(data)
        self.leaf = leaf = tensor.is_leaf
        self._class, self._requires_grad = type(tensor), tensor.requires_grad
        self._count = None if tensor.is_inference() else tensor._version
        """Goes up with every write that torch sees: what was surely written need not be compared."""
        self._hooks = (tensor._backward_hooks, tensor._post_accumulate_grad_hooks) if leaf else ()
        self.attributes = getattr(tensor, "__dict__", None)
        self.grad: Tensor | None = tensor.grad if leaf else None
        self._grad_content: Content | None = None

    @property
    def what(self) -> str:
        """As a message calls it."""
        return self.name

    @property
    def hooks(self) -> list[Any]:
        """The dicts of hooks that stand on it."""
        return [hooks for hooks in self._hooks if hooks is not None]

    @property
    def wants_copy(self) -> bool:
        """Whether a copy is due at once: it may be trained, torch writes to it, or it is small."""
        return self.state or (self.leaf and self._requires_grad) or self.content.nbytes <= SMALL

    def lend(self, loans: Loans) -> None:
        """Let its copy lie in its place while the check runs, if it may be trained and nobody else has its memory."""
        if self.lent or not self.leaf or not self._requires_grad or not is_plain(self.tensor):
            return
        if can_be_lent(self._data) and holders(self._data) == _holders_of_one():
            copy = self.content.lend()
            if copy is not None:
                loans.lend(self.tensor, self._data, copy)

    def set_gradient_aside(self) -> None:
        """Take the gradient off, so that nothing is accumulated into it."""
        if self.grad is None:
            return
        if self.grad.layout == torch.strided and self.grad._is_view():
            # A view into somebody's bucket is written through the bucket.
            self._grad_content = Content(self.grad.data)
            copy_all([self._grad_content])
        self.tensor.grad = None

    def restore(self) -> None:
        """Put everything back into the same objects."""
        if self.lent:
            return
        tensor = self.tensor
        if self.leaf and tensor.grad_fn is not None:
            tensor.detach_()
        if self.leaf and tensor.grad is not self.grad:
            tensor.grad = None  # one of another shape would refuse the old storage
        if not self.content.stands:
            if self.content.empty or not same_place(tensor, self._data):
                tensor.data = self._data
            self.content.put_back(self._count is not None and tensor._version != self._count)
        self.base = self.content  # that of a later phase may lie in what stood in for it
        if type(tensor) is not self._class:
            tensor.__class__ = self._class
        if self._count is not None and tensor._version != self._count:
            _set_version(tensor, self._count)
        if self.leaf:
            self._restore_leaf()

    def _restore_leaf(self) -> None:
        tensor = self.tensor
        if tensor.requires_grad != self._requires_grad:
            tensor.requires_grad_(self._requires_grad)
        for name, hooks in zip(_HOOKS, self._hooks, strict=True):
            if getattr(tensor, name) is not hooks:
                setattr(tensor, name, hooks)
        if self._grad_content is not None:
            self._grad_content.put_back()
        if tensor.grad is not self.grad:
            tensor.grad = self.grad


@cache
def _holders_of_one() -> tuple[int, int]:
    """Return the `holders` of memory that only a recorded parameter holds, and its record."""
    held = Held("", torch.nn.Parameter(torch.empty(1, device="cpu")), state=False)
    return holders(held._data)


_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def _set_version(tensor: Tensor, count: int) -> None:
    setter = torch._C._autograd._unsafe_set_version_counter
    try:
        setter((tensor,), (count,))
    except TypeError:  # older ones take one tensor at a time
        setter(tensor, count)  # type: ignore[arg-type]  # as they declare it
