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
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Expected, Facts, Gradient, Hit, Need, Rule, Severity
from ._words import during, group, names, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding for all such parameters of one dtype."""
    for dtype, facts in group(filter(_broken, case.parameters), key=lambda f: f.tensor.dtype).items():
        who = tensors(names(facts))
        message = f"The {who.pick('gradient', 'gradients')} of {who} became NaN or infinite {during(case)}."
        fix = "torch.autograd.set_detect_anomaly(True) names the operation; look for a division, log or sqrt at 0"
        if dtype == "float16":
            message += " float16 overflows beyond 65,504."
            fix = "scale the loss (torch.amp.GradScaler), or use bfloat16, which overflows as late as float32"
        yield Hit(names(facts), message, fix, {"dtype": dtype})


def _broken(fact: Facts) -> bool:
    return (
        fact.gradient is Gradient.NONFINITE
        and fact.expected is not Expected.UNCHECKED
        and (fact.expected is Expected.TRAINABLE or fact.tensor.requires_grad)
    )


RULE = Rule("FZ204", "non-finite-gradient", Severity.ERROR, check, __doc__, needs=frozenset({Need.PROBE, Need.VALUES}))
