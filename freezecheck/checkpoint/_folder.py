"""Which file of a folder is the checkpoint, and the shards that an index names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from ..errors import UsageError
from ..places import shown
from ._entry import Entry
from ._file import File

DISTRIBUTED = ".metadata"
"""What a checkpoint of torch.distributed.checkpoint is known by."""
_INDEX = ".index.json"
_KNOWN = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
)
"""What Hugging Face's libraries call the weights, in the order in which they look."""
_ENDINGS = (_INDEX, ".safetensors", ".pt", ".pth", ".ckpt", ".bin")
_BESIDE = ("optimizer", "scheduler", "scaler", "rng_state", "training_args", "random_states")
"""What trainers save beside the weights begins so."""


def weights_in(folder: str) -> str:
    """Return the path of the one checkpoint in a folder. Raises UsageError when there is none, or several."""
    names = sorted(os.listdir(folder))
    known = next((name for name in _KNOWN if name in names), None)
    if known is None:
        fitting = [n for n in names if n.endswith(_ENDINGS) and not n.startswith(_BESIDE)]
        indices = [n for n in fitting if n.endswith(_INDEX)]
        fitting = indices or fitting
        if len(fitting) != 1:
            raise _none(folder) if not fitting else _several(folder, fitting)
        known = fitting[0]
    return os.path.join(folder, known)


def is_index(path: str) -> bool:
    """Whether a file is an index of shards."""
    return path.endswith(_INDEX)


def read_index(path: str, read: Callable[[str, File], dict[str, Entry]]) -> tuple[dict[str, Entry], list[File]]:
    """Return every tensor that an index names, from its shards, and the open shards.

    `read` reads one shard. Raises UsageError when the index is malformed, or a shard or a tensor in it is missing.
    """
    said, folder = shown(path), os.path.dirname(os.path.abspath(path))
    weight_map = _weight_map(path, said)
    files: list[File] = []
    try:
        shards: dict[str, dict[str, Entry]] = {}
        for shard in dict.fromkeys(weight_map.values()):
            file = _open_shard(folder, shard, said)
            files.append(file)
            shards[shard] = read(os.path.join(folder, shard), file)
        lacking = [name for name, shard in weight_map.items() if name not in shards[shard]]
        if lacking:
            shard = weight_map[lacking[0]]
            raise UsageError(
                f"{said} says that {shard} holds `{lacking[0]}`, and it does not"
                + (f" (and {len(lacking) - 1} more like it)" if len(lacking) > 1 else ""),
                hint="Index and shards are not of one checkpoint, or it is still being written.",
            )
    except UsageError:
        for file in files:
            file.close()
        raise
    found = {name: shards[shard][name] for name, shard in weight_map.items()}
    for entries in shards.values():
        tied = {alias: entry for entry in entries.values() for alias in entry.names if alias not in weight_map}
        found.update({alias: entry for alias, entry in tied.items() if any(n in weight_map for n in entry.names)})
    return found, files


def _weight_map(path: str, said: str) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)["weight_map"]
        if not isinstance(found, dict) or not all(isinstance(shard, str) for shard in found.values()):
            raise TypeError
    except OSError as error:
        hint = "Name the folder, its index, or one checkpoint file that you may read."
        raise UsageError(f"{said} cannot be read: {error.strerror}", hint=hint) from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"{said} is no index of shards: it has no `weight_map` from names to files",
            hint="Name the folder, the index that Hugging Face's libraries write, or one checkpoint file.",
        ) from None
    return found


def _open_shard(folder: str, shard: str, said: str) -> File:
    if os.path.isabs(shard) or ".." in shard.replace("\\", "/").split("/"):
        raise UsageError(f"{said} names a shard outside of its folder: {shard}", hint="Such an index is not followed.")
    path = os.path.join(folder, shard)
    if not os.path.isfile(path):
        raise UsageError(
            f"{said} names a shard that does not exist: {shown(path)}", hint="Fetch it, or wait until it is written."
        )
    return File(path)


def _none(folder: str) -> UsageError:
    return UsageError(
        f"{shown(folder)} is a folder without a checkpoint",
        hint="It may hold a *.safetensors, *.pt, *.pth, *.ckpt or *.bin file, shards with an *.index.json, or a "
        "checkpoint of torch.distributed.checkpoint (a .metadata file).",
    )


def _several(folder: str, names: list[str]) -> UsageError:
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return UsageError(
        f"{shown(folder)} holds several checkpoints and no index: {listed}", hint="Name the one that is meant."
    )
