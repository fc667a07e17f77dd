"""Inputs that are known: a library's own size for its models, or an example that the model carries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .declared import Declared, declared, name_of, said_of
from .found import Found

_OWN_SIDES = {"inception": 299, "raft": 128}
"""Sides of an image where torchvision's are not 224, by the beginning of the name."""
_LONG_VIDEOS = ("mvit", "s3d", "swin")
"""Video models that want sixteen frames of 224; the others take eight of 112."""


def known_inputs(model: nn.Module, known: Mapping[str, Any]) -> Iterator[Found]:
    """Yield what is known of this model's inputs, the surest first; the caller tries them."""
    example = getattr(model, "example_input_array", None)
    if isinstance(example, Tensor | tuple | Mapping):
        yield Found(lambda: example, f"{said_of(example)}, the model's own example_input_array")
    name = known.get("torchvision")
    if name or type(model).__module__.startswith("torchvision.models"):
        yield from _torchvision(model, str(name or type(model).__name__.lower()))
    size = _configured_size(model)
    if size:
        found = declared([Declared((2, *size), _dtype(model))])
        whose = f"timm's own size for {known['timm']}" if "timm" in known else "the size in the model's pretrained_cfg"
        yield Found(found.make, f"{found.said}, {whose}")


def _configured_size(model: nn.Module) -> tuple[int, ...] | None:
    """`input_size` of the configuration that timm's models carry: (channels, height, width)."""
    for attribute in ("pretrained_cfg", "default_cfg"):
        configuration = getattr(model, attribute, None)
        size = configuration.get("input_size") if isinstance(configuration, Mapping) else None
        if size:
            return tuple(size)
    return None


def _torchvision(model: nn.Module, name: str) -> Iterator[Found]:
    family = type(model).__module__.removeprefix("torchvision.models").strip(".").partition(".")[0]
    if family == "detection":
        yield _detection(model, name)
        return
    side = next((side for start, side in _OWN_SIDES.items() if name.startswith(start)), 224)
    side = getattr(model, "image_size", side)
    one = Declared((2, 3, side, side), _dtype(model))
    inputs = [one, one] if family == "optical_flow" else [one]
    if family == "video":
        shape = (2, 3, 16, 224, 224) if name.startswith(_LONG_VIDEOS) else (2, 3, 8, 112, 112)
        inputs = [Declared(shape, _dtype(model))]
    found = declared(inputs)
    yield Found(found.make, f"{found.said}, torchvision's own size for {name}")


def _detection(model: nn.Module, name: str) -> Found:
    """Two images with one box each; the model scales them to its own size."""
    masks, keypoints = (any(word in type(model).__name__ for word in words) for words in (("MaskRCNN",), ("Keypoint",)))
    points = 17
    for part, module in model.named_modules():
        if part.endswith("kps_score_lowres"):
            points = int(getattr(module, "out_channels", points))

    def target() -> dict[str, Tensor]:
        made = {"boxes": torch.tensor([[8.0, 8.0, 48.0, 48.0]]), "labels": torch.tensor([1])}
        if masks:
            made["masks"] = torch.zeros(1, 64, 64, dtype=torch.uint8)
            made["masks"][:, 8:48, 8:48] = 1
        if keypoints:
            made["keypoints"] = torch.cat([8 + 40 * torch.rand(1, points, 2), torch.ones(1, points, 1)], dim=2)
        return made

    def make() -> Any:
        return [torch.rand(3, 64, 64) for _ in range(2)], [target() for _ in range(2)]

    said = f"a list of 2 × float32[3, 64, 64] with one box each, as {name} of torchvision takes them"
    return Found(make, said, sure=True)


def _dtype(model: nn.Module) -> str:
    return name_of(next((p.dtype for p in model.parameters() if p.dtype.is_floating_point), torch.float32))
