"""A gradient is NaN or infinite.

## What it does

Finds parameters, trainable or still requiring grad, whose gradient held NaN or infinity in some step.

## Why is this bad

One such step writes NaN into the weights, and every later one keeps them there.

## Example

```python
import torch
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.body(x).relu().log())


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)


def example_inputs():
    return torch.randn(3, 4)
```

## Use instead

```python
import torch
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head((self.body(x).relu() + 1e-3).log())


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)


def example_inputs():
    return torch.randn(3, 4)
```

## Known problems

Mixed precision with a `GradScaler` begins with a large scale on purpose: infinities in the first steps are expected
there, and the scaler skips those steps. Random inputs may be outside the range the model is made for; give real ones.

The operation is found by looking at the step once more, which `verify` does and a watched training cannot. A
`torch.where` does not keep NaN out: its backward runs through the branch that was not taken as well.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Expected, Facts, Gradient, Hit, Need, NonFinite, Rule, Severity
from ._words import as_json, at, during, group, names, tensors

_LOOK = "torch.autograd.set_detect_anomaly(True) names the operation; look for a division, log or sqrt at 0"
_SCALE = "scale the loss (torch.amp.GradScaler), or use bfloat16, which overflows as late as float32"
_MENDS = (
    (
        ("log", "log2", "log10", "xlogy"),
        "keep what it takes the log of above 0, as in `x.clamp(min=1e-6).log()`; the log of a softmax is log_softmax()",
    ),
    (
        ("sqrt", "rsqrt"),
        "keep what it takes the root of above 0, as in `x.clamp(min=1e-8).sqrt()`",
    ),
    (
        ("pow", "float_power"),
        "keep what it raises to a power above 0, as in `x.clamp(min=1e-8) ** 0.5`; of large numbers take the log first",
    ),
    (
        ("std", "std_mean", "var", "var_mean"),
        "of a single number it is NaN: take it over more, or with `correction=0`",
    ),
    (
        ("div", "true_divide", "reciprocal"),
        "keep what it divides by away from 0, as in `x / (y + 1e-8)`",
    ),
    (
        ("exp", "expm1", "exp2", "sinh", "cosh"),
        "in float32 it overflows above 88: subtract the largest first, or take softmax(), logsumexp() or softplus()",
    ),
    (
        ("softmax", "log_softmax", "scaled_dot_product_attention"),
        "a row of nothing but -inf has no softmax: leave one entry of every row unmasked",
    ),
    (
        ("acos", "asin", "atanh"),
        "its derivative is infinite at the ends of its range: clamp what it is given, as in `x.clamp(-0.9999, 0.9999)`",
    ),
)
"""By what makes the NaN, what there is to do; a write in place (`div_`) is mended like the operation."""


def check(case: Case) -> Iterable[Hit]:
    """One finding for all such parameters of one dtype."""
    origin = case.nonfinite
    mend = _mend(origin) if origin else None
    for dtype, facts in group(filter(_broken, case.parameters), key=lambda f: f.tensor.dtype).items():
        who = tensors(names(facts))
        message = f"The {who.pick('gradient', 'gradients')} of {who} became NaN or infinite {during(case)}."
        message += f" {_begins(origin)}" if origin else ""
        fix = mend or _LOOK
        if dtype == "float16" and mend is None:
            message += " float16 overflows beyond 65,504."
            fix = _SCALE
        elif origin and mend is None:
            fix = f"look at what {_spoken(origin)} is given there, and keep it where its result is finite"
        found = {"dtype": dtype, "origin": _evidence(origin) if origin else None}
        yield Hit(names(facts), message, fix, found, origin.location if origin else None)


def _begins(origin: NonFinite) -> str:
    """Where the first one comes from."""
    where = at(origin.location)
    if origin.phase == "given":
        what = f"`{origin.operation}` holds" if origin.operation else "The inputs hold"
        read = f"; the forward reads {'it' if origin.operation else 'them'}{where}" if where else ""
        return f"{what} NaN before anything is computed{read}."
    if origin.phase == "backward":
        return (
            f"The first comes from the backward of {_spoken(origin)}{where}: the gradient that it was given is finite."
        )
    said = f"The first comes from {_spoken(origin)} in the forward{where}"
    if origin.fed is None:
        return f"{said}."
    return f"{said}, which was given infinities that {_spoken(origin.fed)} put there{at(origin.fed.location)}."


def _spoken(origin: NonFinite) -> str:
    return f"`{origin.operation}`" if origin.operation.endswith(")") else origin.operation


def _mend(origin: NonFinite) -> str | None:
    if origin.phase == "given":
        if origin.operation:
            return f"load or initialise {origin.operation} anew, and look at what wrote NaN into it"
        return "look at the data: `torch.isfinite(batch).all()` tells a batch that holds NaN; leave it out or fill it"
    name = origin.operation.removesuffix("()").rstrip("_").removeprefix("special_")
    return next((mend for operations, mend in _MENDS if name in operations), None)


def _evidence(origin: NonFinite) -> dict[str, str | dict[str, str | int] | None]:
    return {"operation": origin.operation, "phase": origin.phase, "place": as_json(origin.location)}


def _broken(fact: Facts) -> bool:
    return (
        fact.gradient is Gradient.NONFINITE
        and fact.expected is not Expected.UNCHECKED
        and (fact.expected is Expected.TRAINABLE or fact.tensor.requires_grad)
    )


RULE = Rule("FZ204", "non-finite-gradient", Severity.ERROR, check, __doc__, needs=frozenset({Need.PROBE, Need.VALUES}))
