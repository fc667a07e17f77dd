"""An open checkpoint: its tensors by name, none of them read yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import UsageError
from ._entry import Entry
from ._file import File
from ._names import behind, unwrapped
from ._optimizer import Saved

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What `open` returns. Use it as a context manager: its files stay open until then."""

    said: str
    """The path as the user would type it."""
    entries: Mapping[str, Entry]
    """Every stored tensor under each of its names, wrappers' prefixes (`module.` …) taken off."""
    files: tuple[File, ...] = ()
    notes: tuple[str, ...] = ()
    """What must be said of how it was read: which of several state dicts was taken."""
    optimizers: tuple[Saved, ...] = ()
    """The optimizers' states saved beside the model."""
    ordered: bool = False
    """Whether its tensors are in the model's own order, as a state dict that torch saved has them."""
    within: str = ""
    """What `--key` says before the beginning of a name in here: nothing, or a key or prefix with its dot."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its tensors, in the order in which they are stored."""
        return tuple(self.entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape. Raises KeyError when there is no such tensor."""
        return self.entries[name].stored.shape

    def dtype(self, name: str) -> str:
        """Return a tensor's dtype as torch names it, without `torch.`. Raises KeyError."""
        return self.entries[name].stored.dtype

    def tensor(self, name: str) -> torch.Tensor:
        """Read one tensor. Raises KeyError when there is none of that name, UsageError when it cannot be read."""
        return self.entries[name].tensor()

    def check_unchanged(self) -> None:
        """Raise UsageError when one of its files was written to since it was opened."""
        for file in self.files:
            file.check_unchanged()

    def close(self) -> None:
        """Close its files; tensors cannot be read any more."""
        for file in self.files:
            file.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def checkpoint(
    said: str,
    entries: Mapping[str, Entry],
    files: Sequence[File],
    notes: Sequence[str] = (),
    optimizers: Sequence[Saved] = (),
    *,
    ordered: bool = False,
    prefix: str = "",
    within: str = "",
) -> Checkpoint:
    """Return a checkpoint of these entries with what wrappers added to their names taken off.

    With a `prefix` only of those whose names begin with it, which is taken off too, where there are any. `within` is
    the key that was given, with a dot. Raises UsageError when there are no entries.
    """
    if not entries:
        raise UsageError(f"{said} holds no tensors", hint="Name the checkpoint that holds the model's weights.")
    plain = unwrapped(entries)
    if prefix and not (below := behind(plain, prefix)):
        notes = [*notes, f"no name in {said} begins with `{prefix}`: `--key {within}` says nothing of it"]
        within = within.removesuffix(prefix)
    elif prefix:
        plain = below
        entries = {name: entry for name, entry in entries.items() if name in plain}
    renamed: dict[int, Entry] = {}
    for entry in entries.values():
        if id(entry) not in renamed:
            names = tuple(plain.get(name, name) for name in entry.names if name in plain or not prefix)
            renamed[id(entry)] = replace(entry, names=names)
    found = {plain[name]: renamed[id(entry)] for name, entry in entries.items()}
    return Checkpoint(said, found, tuple(files), tuple(notes), tuple(optimizers), ordered, within)
