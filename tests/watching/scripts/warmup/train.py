"""Warm-up from a learning rate of zero, by a LambdaLR."""

import torch
import torch.nn.functional as F
from torch import nn

WARMUP = 10

model = nn.ModuleDict({"encoder": nn.Linear(8, 16), "decoder": nn.Linear(16, 8)})
model["encoder"].requires_grad_(False)
optimizer = torch.optim.Adam(model["decoder"].parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / WARMUP))

for _ in range(20):
    x = torch.randn(4, 8)
    loss = F.mse_loss(model["decoder"](model["encoder"](x).relu()), x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
