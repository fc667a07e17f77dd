"""A compiled model."""

import torch
import torch.nn.functional as F
from torch import nn

model = nn.Sequential()
model.add_module("body", nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)))
model.add_module("head", nn.Linear(8, 2))
model.body.requires_grad_(False)
model = torch.compile(model, backend="aot_eager")
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)

for _ in range(5):
    x, y = torch.randn(4, 8), torch.randint(0, 2, (4,))
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
