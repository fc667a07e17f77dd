"""The spec language: from a TOML file and its selectors to what is expected of each tensor, and back to a draft.

`text` reads, `schema` checks, `spec` keeps what a file says; `selectors` are parsed, a `selection` looks them up in one
model, and `match` makes the plan. Pure; no torch.
"""

from .spec import FILE, PROJECT, InputSpec, Phase, Spec

__all__ = ["FILE", "PROJECT", "InputSpec", "Phase", "Spec"]
