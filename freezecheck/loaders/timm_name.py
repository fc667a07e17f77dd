"""A target that is one of timm's models, without its pretrained weights: `timm:vit_tiny_patch16_224`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import TargetError
from ._build import constructed
from ._loader import Loaded, Loader
from ._nearest import perhaps

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "timm:"


def accepts(target: str) -> bool:
    """Whether it says timm before a colon."""
    return target.startswith(_PREFIX)


def load(target: str, arguments: Mapping[str, object]) -> Loaded:
    """Build the model with random weights; nothing is downloaded. Raises TargetError."""
    name = target.removeprefix(_PREFIX)
    try:
        import timm
    except ImportError as error:
        raise TargetError(f"{target}: timm cannot be imported: {error}", hint="pip install timm") from error
    if not timm.is_model(name):
        hint = perhaps(name, timm.list_models()) or "its names: timm.list_models()"
        raise TargetError(f"timm has no model {name!r}", hint=hint)
    options: dict[str, Any] = {"pretrained": False, **arguments}
    model = constructed(f"building {target}", lambda: timm.create_model(name, **options))
    return Loaded(model, source=target, extras={"timm": name})


LOADER = Loader("one of timm's models", 20, accepts, load)
