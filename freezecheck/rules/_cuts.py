"""How a message tells where the gradient was lost, and what to change there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..records import Cut, Json
from ._words import FEW, as_json, at, place, spot

_BLOCKS = ("no_grad", "inference_mode", "set_grad_enabled")
_LEAVES_TORCH = ("numpy", "tolist", "item", "float(", "int(", "from_numpy", "as_tensor", "torch.tensor", "tensor(")
_REMOVABLE = (r"\.detach\(\)", r"\.data\b(?!\()", r"\.detach_\(\)")


def told(cut: Cut) -> str:
    """One cut: `` `no_grad` at model.py:12 (`f = self.body(x)`): linear() runs under torch.no_grad() ``."""
    text = f"`{cut.operation}`{at(cut.location)}"
    if cut.reason:
        text += f": {cut.reason}"
    if cut.entered and cut.entered != cut.location:
        begins = "the function decorated" if _decorated(cut) else "the block that begins"
        text += f", in {begins} at {place(cut.entered)}"
    return f"{text}, inside {spot(cut.library)}" if cut.library else text


def told_all(cuts: Sequence[Cut]) -> str:
    """The cuts in the order of the flow; beyond three the rest is counted."""
    text = "; then by ".join(told(cut) for cut in cuts[:FEW])
    return f"{text}; and by {len(cuts) - FEW} more" if len(cuts) > FEW else text


def mend(cut: Cut) -> str:
    """The line to change, as it should read where that is known."""
    line = cut.location.text if cut.location else ""
    for pattern in _REMOVABLE:
        if line and (shorter := re.sub(pattern, "", line)) != line:
            return shorter
    if any(word in cut.operation for word in _BLOCKS):
        if cut.entered and _decorated(cut):
            return f"take `{cut.entered.text}` off at {cut.entered}, or `{line or 'the call'}` out of its function"
        if cut.entered and cut.entered != cut.location:
            return f"move `{line or 'the call'}` out of the `{cut.operation}` block at {cut.entered}"
        if ".sample(" in line:
            return "`rsample()` in place of `sample()`, where the distribution has one: sample() passes no gradient on"
        where = "" if line else at(cut.location)
        return f"move `{line or 'the call'}`{where} out of `{cut.operation}`, be it a block or a decorator"
    if "checkpoint" in cut.operation:
        reentrant = re.sub(r"use_reentrant\s*=\s*True", "use_reentrant=False", line)
        return reentrant if "use_reentrant=False" in reentrant else "checkpoint(..., use_reentrant=False)"
    if any(word in cut.operation for word in _LEAVES_TORCH):
        return f"keep it a tensor of torch{at(cut.location)}: what leaves torch loses its graph"
    return f"replace `{cut.operation}`{at(cut.location)} by an operation that has a derivative"


def _decorated(cut: Cut) -> bool:
    """Whether gradients are switched off by a decorator and not by a `with` block."""
    return cut.entered is not None and cut.entered.text.startswith("@")


def evidence(cuts: Sequence[Cut]) -> list[Json]:
    """The cuts, for the evidence of a finding."""
    return [{"operation": c.operation, "reason": c.reason, "location": as_json(c.location)} for c in cuts]
