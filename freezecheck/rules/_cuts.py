"""How a message tells where the gradient was lost, and what to change there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..records import Cut, Json
from ._words import FEW, as_json, at, listing, place, spot

_BLOCKS = ("no_grad", "inference_mode", "set_grad_enabled")
_LEAVES_TORCH = frozenset({"item()", "tolist()", "numpy()", "numpy.asarray()", "float()", "int()", "complex()"})
_COPIES = frozenset(
    {"tensor()", "as_tensor()", "asarray()", "new_tensor()", "full()", "full_like()", "scalar_tensor()"}
)
_COPIED = r"\btorch\.tensor\(\s*([A-Za-z_][\w.]*(?:\[\w+\])?)\s*[,)]"
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


def mend(cuts: Sequence[Cut]) -> str:
    """What to do about the first of these cuts: the line to change, as it should read where that is known."""
    cut = cuts[0]
    line = cut.location.text if cut.location else ""
    left = next((after for after in cuts if after.operation in _LEAVES_TORCH), None)
    if left is not None:  # without the detach() before it, numpy() would only raise
        stay = f"stay in torch{at(left.location)}: what leaves it by `{left.operation}` loses its graph"
        return stay if left.location == cut.location else f"{mend([cut])}; and {stay}"
    for pattern in _REMOVABLE:
        if line and (shorter := re.sub(pattern, "", line)) != line:
            bare, whole = (text.split("  #")[0].rstrip() for text in (shorter, line))
            name, _, value = bare.partition(" = ")
            nothing = name == value or re.fullmatch(r"[\w.]+", bare)  # what is left of `x = x.detach()`, `x.detach_()`
            return f"take `{whole}` out" if nothing else bare
    if any(word in cut.operation for word in _BLOCKS):
        return _recorded(cut, line)
    if "checkpoint" in cut.operation:
        reentrant = re.sub(r"use_reentrant\s*=\s*True", "use_reentrant=False", line)
        return reentrant if "use_reentrant=False" in reentrant else "checkpoint(..., use_reentrant=False)"
    if cut.operation in _COPIES:
        return _uncopied(cut, line)
    return f"replace `{cut.operation}`{at(cut.location)} by an operation that has a derivative"


def _recorded(cut: Cut, line: str) -> str:
    """How a line that runs without gradient recording comes to run with it."""
    if cut.entered and (asked := _asked(cut.entered.text)):
        out = f"move `{line or 'the call'}` out of its reach"
        return f"let `{asked}` be true at {place(cut.entered)} while this is to train, or {out}"
    if cut.entered and _decorated(cut):
        return f"take `{cut.entered.text}` off at {cut.entered}, or `{line or 'the call'}` out of its function"
    if cut.entered and cut.entered != cut.location:
        return f"move `{line or 'the call'}` out of the `{cut.operation}` block at {cut.entered}"
    if ".sample(" in line:
        return "`rsample()` in place of `sample()`, where the distribution has one: sample() passes no gradient on"
    where = "" if line else at(cut.location)
    return f"move `{line or 'the call'}`{where} out of `{cut.operation}`, be it a block or a decorator"


def _asked(line: str) -> str:
    """What a line asks set_grad_enabled, where it is more than a constant."""
    _, found, rest = line.partition("set_grad_enabled(")
    depth = 1
    for end, letter in enumerate(rest if found else ""):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0:
            asked = rest[:end].strip()
            return "" if asked in ("False", "mode=False") else asked
    return ""


def _uncopied(cut: Cut, line: str) -> str:
    values = list(dict.fromkeys(re.findall(_COPIED, line)))
    if values:
        themselves = "itself" if len(values) == 1 else "themselves"
        return f"drop `torch.tensor()`{at(cut.location)} and use {listing(values)} {themselves}"
    if "torch.tensor([" in line:
        return f"`torch.stack([...])` in place of `torch.tensor([...])`{at(cut.location)}: it keeps the graph"
    return f"use the tensor itself{at(cut.location)}: `{cut.operation}` copies its values without the graph"


def _decorated(cut: Cut) -> bool:
    """Whether gradients are switched off by a decorator and not by a `with` block."""
    return cut.entered is not None and cut.entered.text.startswith("@")


def evidence(cuts: Sequence[Cut]) -> list[Json]:
    """The cuts, for the evidence of a finding."""
    return [{"operation": c.operation, "reason": c.reason, "location": as_json(c.location)} for c in cuts]
