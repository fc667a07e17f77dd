"""Mixed precision: autocast and a GradScaler whose first scales are too large, so that it skips steps."""

import torch
import torch.nn.functional as F
from torch import nn

LEARNING_RATE = 1e-2

torch.manual_seed(0)
model = nn.Sequential()
model.add_module("features", nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten()))
model.add_module("norm", nn.LayerNorm(8 * 6 * 6))
model.add_module("head", nn.Linear(8 * 6 * 6, 10))
model.features.requires_grad_(False)
dtype = torch.bfloat16

optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE, momentum=0.9)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1000)

for _ in range(100):
    images, labels = torch.randn(4, 1, 8, 8), torch.randint(0, 10, (4,))
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=dtype):
        loss = F.cross_entropy(model(images), labels)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    scaler.step(optimizer)
    scaler.update()
