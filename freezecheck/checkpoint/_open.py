"""From a path to an open checkpoint: what a file holds is told by its first bytes, not by its name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import UsageError
from ..places import shown
from ._checkpoint import Checkpoint, checkpoint
from ._choose import HERE, Chosen, choose, is_prefix
from ._entry import Entry
from ._file import File
from ._folder import DISTRIBUTED, is_index, read_index, weights_in
from ._optimizer import Saved, saved_optimizers
from ._plain import NotPlain, PlainTensor, load_plain, plain_entries
from ._safetensors import is_safetensors, read_safetensors
from ._zip import is_zip


def open(path: str | os.PathLike[str], key: str | None = None) -> Checkpoint:  # noqa: A001 - read as checkpoint.open
    """Open a checkpoint: a file of torch.save, a safetensors file, shards with their index, or a folder of either.

    A folder may also be one of torch.distributed.checkpoint. `key` names the state dict that is meant where a file
    holds several (`ema`, `model.generator`; `.` is the top); with a dot at its end it is the beginning of the names
    that are meant (`student.`, `ema.student.`), which is taken off them.

    Nothing of a pickle is ever run, and no tensor is read before it is asked for; only a file of the format before
    torch 1.6 is read as a whole.

    Raises UsageError when it does not exist, is truncated, corrupt or malformed, wants to run code, holds no tensors,
    or holds several state dicts and `key` does not say which is meant.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise UsageError(f"{shown(path)} does not exist", hint="Name a checkpoint file or folder.")
    said = shown(path)
    if os.path.isdir(path):
        if os.path.isfile(os.path.join(path, DISTRIBUTED)):
            from ._distributed import read_distributed

            chosen, files = read_distributed(path, key, said)
            notes = _said_of(chosen, said)
            return checkpoint(said, chosen.tensors, files, notes, prefix=chosen.prefix, within=_within(key))
        beside = _beside(path)
        path = weights_in(path)
        return _open_file(path, key, said, beside)
    return _open_file(path, key, said)


def _open_file(
    path: str, key: str | None, said: str, beside: tuple[tuple[Saved, ...], tuple[str, ...]] = ((), ())
) -> Checkpoint:
    optimizers, notes = beside
    if is_index(path):
        found, shards = read_index(path, _read_shard)
        notes = (*notes, *_no_key(key, said))
        return checkpoint(said, found, shards, notes, optimizers, prefix=_prefix(key), within=_prefix(key))
    file = File(path)
    try:
        if is_safetensors(file.head(9)):
            found, notes = read_safetensors(path, file), (*notes, *_no_key(key, said))
            return checkpoint(said, found, [file], notes, optimizers, prefix=_prefix(key), within=_prefix(key))
        tree, entries = _unpickled(path, file)
        chosen = choose(tree, key, _is_tensor, said)
        optimizers = (*saved_optimizers(tree, _shape), *optimizers)
        found, notes = entries(chosen.tensors), (*notes, *_said_of(chosen, said))
        prefix, within = chosen.prefix, _within(key)
        return checkpoint(said, found, [file], notes, optimizers, ordered=True, prefix=prefix, within=within)
    except RecursionError:
        file.close()
        raise UsageError(f"{said} holds a dict that contains itself", hint="Save its tensors alone.") from None
    except BaseException:
        file.close()
        raise


def _read_shard(path: str, file: File) -> dict[str, Entry]:
    if is_safetensors(file.head(9)):
        return read_safetensors(path, file)
    tree, entries = _unpickled(path, file)
    return entries(choose(tree, None, _is_tensor, file.said).tensors)


def _unpickled(path: str, file: File) -> tuple[Any, Callable[[Mapping[str, Any]], dict[str, Entry]]]:
    """Return what a file of torch.save holds, and how to make entries of its tensors; without torch where that can be.

    Raises UsageError.
    """
    try:
        if is_zip(file):
            return load_plain(file), lambda tensors: plain_entries(tensors, file)
    except NotPlain:
        pass
    from ._torch import entries, load_torch

    return load_torch(path, file), lambda tensors: entries(tensors, file)


def _beside(folder: str) -> tuple[tuple[Saved, ...], tuple[str, ...]]:
    """The optimizer that a Hugging Face trainer saved beside the weights, and what must be said of it.

    The weights are what was asked for: an optimizer that cannot be read is no reason to refuse them.
    """
    path = os.path.join(folder, "optimizer.pt")
    if not os.path.isfile(path):
        return (), ()
    file = File(path)
    try:
        return tuple(saved_optimizers(_unpickled(path, file)[0], _shape, "optimizer.pt")), ()
    except UsageError as error:
        return (), (f"the optimizer state was not looked at: {error.message}",)
    finally:
        file.close()


def _within(key: str | None) -> str:
    """What a key puts before the beginning of a name: `ema.` of `ema`."""
    return "" if key is None or key == HERE else key if is_prefix(key) else f"{key}."


def _prefix(key: str | None) -> str:
    """The beginning of names that a key gives where there is one state dict only."""
    return key if key is not None and is_prefix(key) else ""


def _no_key(key: str | None, said: str) -> tuple[str, ...]:
    """What to say of a key for a file that has none: it may be meant for the other side alone."""
    return (
        ()
        if key is None or is_prefix(key)
        else (f"{said} is of safetensors, which hold one state dict: `--key {key}` says nothing of it",)
    )


def _said_of(chosen: Chosen, said: str) -> list[str]:
    if not chosen.others:
        return []
    others = ", ".join(f"`{name}`" for name in chosen.others[:6])
    return [f"{said}: `{chosen.key}` was taken; {others} hold tensors too (`--key {chosen.others[0]}`)"]


def _is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")  # where it was not imported, no value is its
    return isinstance(value, PlainTensor) or (torch is not None and isinstance(value, torch.Tensor))


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if _is_tensor(value) else None
