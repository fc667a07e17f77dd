"""State dicts and every form in which people save one."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.distributed.checkpoint as distributed
from safetensors.torch import save_file
from torch import Tensor

torch.set_num_threads(1)


def small(seed: int = 0) -> dict[str, Tensor]:
    """Tensors of several dtypes and shapes, a scalar and an empty one among them."""
    draw = torch.Generator().manual_seed(seed)
    return {
        "embed.weight": torch.randn(40, 6, generator=draw),
        "layers.0.weight": torch.randn(6, 5, generator=draw),
        "layers.0.bias": torch.randn(5, generator=draw).bfloat16(),
        "layers.1.weight": torch.randn(3, 2, 2, generator=draw).half(),
        "layers.1.double": torch.randn(7, generator=draw).double(),
        "norm.running_mean": torch.randn(5, generator=draw),
        "norm.num_batches_tracked": torch.tensor(3),
        "mask": torch.tensor([True, False, True]),
        "codes": torch.randint(0, 200, (9,), generator=draw, dtype=torch.uint8),
        "empty": torch.zeros(0, 4),
    }


def as_pt(folder: Path, tensors: Mapping[str, Tensor]) -> Path:
    torch.save(dict(tensors), folder / "w.pt")
    return folder / "w.pt"


def as_old_pt(folder: Path, tensors: Mapping[str, Tensor]) -> Path:
    torch.save(dict(tensors), folder / "old.pth", _use_new_zipfile_serialization=False)
    return folder / "old.pth"


def as_lightning(folder: Path, tensors: Mapping[str, Tensor]) -> Path:
    nested = {"state_dict": dict(tensors), "epoch": 3, "callbacks": {"best": {"score": torch.tensor(0.5)}}}
    torch.save(nested, folder / "last.ckpt")
    return folder / "last.ckpt"


def as_safetensors(folder: Path, tensors: Mapping[str, Tensor]) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "w.safetensors")
    return folder / "w.safetensors"


def as_shards(folder: Path, tensors: Mapping[str, Tensor]) -> Path:
    folder = folder / "sharded"
    folder.mkdir()
    names = list(tensors)
    places = {name: f"model-0000{1 + 2 * n // len(names)}-of-00002.safetensors" for n, name in enumerate(names)}
    for shard in set(places.values()):
        save_file({n: tensors[n].contiguous() for n in names if places[n] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def as_bin_shards(folder: Path, tensors: Mapping[str, Tensor]) -> Path:
    folder = folder / "bins"
    folder.mkdir()
    names = list(tensors)
    places = {name: f"pytorch_model-{n % 2}.bin" for n, name in enumerate(names)}
    for shard in set(places.values()):
        torch.save({n: tensors[n] for n in names if places[n] == shard}, folder / shard)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def as_distributed(folder: Path, tensors: Mapping[str, Tensor]) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it saves in one process is what is wanted
        distributed.save({"model": dict(tensors), "step": 3}, checkpoint_id=folder / "dcp", no_dist=True)
    return folder / "dcp"


def as_folder(folder: Path, tensors: Mapping[str, Tensor]) -> Path:
    folder = folder / "hf"
    folder.mkdir()
    as_safetensors(folder, tensors).rename(folder / "model.safetensors")
    torch.save({"lr": 0.1}, folder / "scheduler.pt")
    return folder


FORMS: tuple[Callable[[Path, Mapping[str, Tensor]], Path], ...] = (
    as_pt,
    as_old_pt,
    as_lightning,
    as_safetensors,
    as_shards,
    as_bin_shards,
    as_distributed,
    as_folder,
)
