"""freezecheck: know, not hope, which layers of a PyTorch model train.

The public names are resolved on first use, so that importing freezecheck imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .check import Result as Result
    from .check import report as report
    from .check import verify as verify
    from .errors import FreezecheckError as FreezecheckError
    from .errors import FreezeError as FreezeError
    from .freezing import apply as apply
    from .records import Finding as Finding
    from .spec import Spec as Spec
    from .watching.context import watch as watch

__version__ = "0.1.0"

_HOMES = {
    "Spec": "spec",
    "apply": "freezing",
    "verify": "check",
    "report": "check",
    "Result": "check",
    "Finding": "records",
    "watch": "watching.context",
    "FreezeError": "errors",
    "FreezecheckError": "errors",
}
__all__ = [
    "Finding",
    "FreezeError",
    "FreezecheckError",
    "Result",
    "Spec",
    "__version__",
    "apply",
    "report",
    "verify",
    "watch",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{home}", __name__), name)
