"""Clears gradients to zero instead of None, as loops did before torch 2."""

import torch
import torch.nn.functional as F
from torch import nn

model = nn.Sequential()
model.add_module("body", nn.Linear(8, 8))
model.add_module("head", nn.Linear(8, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)


def epoch(steps):
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=False)
        F.cross_entropy(model(torch.randn(4, 8)), torch.randint(0, 2, (4,))).backward()
        optimizer.step()


epoch(4)
