"""nn.DataParallel, which prefixes every name with `module.`."""

import torch
import torch.nn.functional as F
from torch import nn

model = nn.Sequential()
model.add_module("body", nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()))
model.add_module("head", nn.Linear(8, 2))
model.body.requires_grad_(False)
model = nn.DataParallel(model)
optimizer = torch.optim.SGD(model.module.head.parameters(), lr=0.1)

for _ in range(5):
    model.train()
    model.module.body.eval()
    optimizer.zero_grad()
    F.cross_entropy(model(torch.randn(4, 8)), torch.randint(0, 2, (4,))).backward()
    optimizer.step()
