"""A target that is a name in an importable module: `package.module:NAME`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import TargetError
from ._find import find_model, made_at
from ._loader import Loaded, Loader
from ._modules import files_of, import_name

if TYPE_CHECKING:
    from collections.abc import Mapping


def accepts(target: str) -> bool:
    """Whether a colon stands in it; whatever is before names a module."""
    return ":" in target


def load(target: str, arguments: Mapping[str, object]) -> Loaded:
    """Import the module, with the working directory on the path, and find the model in it. Raises TargetError."""
    name, _, attribute = target.partition(":")
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name) or not re.fullmatch(
        r"[^\W\d]\w*(\.[^\W\d]\w*)*", attribute
    ):
        raise TargetError(
            f"{target} is no target",
            hint="a target is model.py, model.py:NAME, package.module:NAME, torchvision:NAME or timm:NAME",
        )
    module = import_name(name)
    return Loaded(
        find_model(module, name, attribute, arguments), vars(module), name, files_of(module), made_at(module, attribute)
    )


LOADER = Loader("a name in a module", 40, accepts, load)
