"""A frozen tensor is not what the pretrained checkpoint holds.

## What it does

Compares, before anything trains, every tensor that is expected frozen with the checkpoint that the spec names as
`pretrained`: it must be in there and be the same byte for byte (in the lower dtype, where the two differ).

## Why is this bad

A frozen layer never learns: if its weights were not loaded, it stays random for ever, and all that is trained behind
it makes the best of noise. A misspelled prefix under `strict=False` does that, or a new head, frozen by default.

## Example

```python
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.backbone(x))


torch.save(Net().state_dict(), "pretrained.pt")
stored = torch.load("pretrained.pt", weights_only=True)
model = Net()
model.load_state_dict({f"module.{name}": tensor for name, tensor in stored.items()}, strict=False)
model.backbone.requires_grad_(False)
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
trainable = ["head"]
pretrained = "pretrained.pt"
```

## Use instead

```python
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.backbone(x))


torch.save(Net().state_dict(), "pretrained.pt")
stored = torch.load("pretrained.pt", weights_only=True)
model = Net()
model.load_state_dict(stored)
model.backbone.requires_grad_(False)
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)


def example_inputs():
    return torch.randn(3, 4)
```

```toml
trainable = ["head"]
pretrained = "pretrained.pt"
```

## Known problems

Weights that are changed on loading (a patch embedding resized, layers merged) differ on purpose: list them as
`unchecked`, or name the converted checkpoint. A counter of steps (`num_batches_tracked`) may be missing.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Case, Change, Expected, Facts, Hit, Need, Rule, Severity
from ._changes import as_evidence, how_far
from ._words import FEW, code, exact_parts, expected_parts, group, in_spec, names, tensors


def check(case: Case) -> Iterable[Hit]:
    """One finding for what the checkpoint lacks, and one for what differs in each way."""
    asked = [fact for fact in case.facts if fact.pretrained is not None and not fact.may_move]
    absent = [fact for fact in asked if _change(fact).before is None and not fact.tensor.is_counter]
    if absent:
        yield _absent(case, absent)
    differing = [fact for fact in asked if _change(fact).same is False and not _change(fact).missing]
    for facts in group(differing, key=lambda fact: _change(fact).why).values():
        yield _differs(case, facts)


def _absent(case: Case, facts: list[Facts]) -> Hit:
    who = tensors(names(facts), "tensor")
    they, hold = who.pick("it", "they"), who.pick("keeps", "keep")
    if all(fact.is_buffer for fact in facts):
        what = f"{they} {hold} the value{who.pick('', 's')} that the model was built with"
        fix = (
            f"look under which {who.pick('name', 'names')} the checkpoint holds {who.it}; if {they} {who.are} not "
            f"meant to come from it, {in_spec('unchecked', names(facts))} in the spec"
        )
    else:
        what = f"frozen at {who.its} initial values, {they} will never be trained"
        fix = (
            f"if the layer is new, train it: `{_train(case, facts)}` and `trainable` in the spec; else look under "
            "which name the checkpoint holds it"
        )
    message = f"{who} {who.are} expected frozen, but {who.are} not in {_file(case)}: {what}."
    return Hit(names(facts), message, fix, {"absent": True})


def _differs(case: Case, facts: list[Facts]) -> Hit:
    who = tensors(names(facts), "tensor")
    changes = [_change(fact) for fact in facts]
    parts = expected_parts(case, names(facts), Expected.FROZEN)
    return Hit(
        names(facts),
        f"{who} {who.are} expected frozen, but {who.pick('differs', 'differ')} from {_file(case)}{how_far(changes)} "
        "before any training.",
        f"load the checkpoint into {code(parts[0])} before freezing, and look at what `load_state_dict(strict=False)` "
        "returns: it skips names that do not fit",
        as_evidence(changes),
    )


def _train(case: Case, facts: list[Facts]) -> str:
    parts = exact_parts(case, names(facts))
    lines = "; ".join(f"{code(part)}.requires_grad_(True)" for part in parts[:FEW])
    return lines + (" …" if len(parts) > FEW else "")


def _change(fact: Facts) -> Change:
    return fact.pretrained or Change()


def _file(case: Case) -> str:
    return case.conditions.pretrained or "the pretrained checkpoint"


RULE = Rule(
    "FZ704",
    "frozen-tensor-not-pretrained",
    Severity.ERROR,
    check,
    __doc__,
    needs=frozenset({Need.SPEC, Need.PRETRAINED}),
)
