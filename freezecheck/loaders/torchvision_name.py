"""A target that is one of torchvision's models, without its pretrained weights: `torchvision:resnet18`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from ..errors import TargetError
from ._build import constructed
from ._loader import Loaded, Loader
from ._nearest import perhaps

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "torchvision:"


def accepts(target: str) -> bool:
    """Whether it says torchvision before a colon."""
    return target.startswith(_PREFIX)


def load(target: str, arguments: Mapping[str, object]) -> Loaded:
    """Build the model with random weights; nothing is downloaded. Raises TargetError."""
    name = target.removeprefix(_PREFIX)
    try:
        from torchvision import models
    except ImportError as error:
        raise TargetError(
            f"{target}: torchvision cannot be imported: {error}", hint="pip install torchvision"
        ) from error
    if name.lower() not in models.list_models():
        hint = perhaps(name, models.list_models()) or "its names: torchvision.models.list_models()"
        raise TargetError(f"torchvision has no model {name!r}", hint=hint)
    builder = models.get_model_builder(name)
    no_weights = {key: None for key in ("weights", "weights_backbone") if key in inspect.signature(builder).parameters}
    model = constructed(f"building {target}", lambda: builder(**{**no_weights, **arguments}))
    return Loaded(model, source=target, extras={"torchvision": name.lower()})


LOADER = Loader("one of torchvision's models", 10, accepts, load)
