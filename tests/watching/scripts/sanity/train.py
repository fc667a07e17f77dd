"""Validates before it trains, and after each epoch; then goes back to train mode."""

import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(4 * 36, 3)

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x):
        return self.head(self.backbone(x))


@torch.no_grad()
def validate(model):
    model.eval()
    right = sum((model(x).argmax(1) == y).sum().item() for x, y in batches(2))
    model.train()
    return right


def batches(count):
    for _ in range(count):
        yield torch.randn(4, 1, 8, 8), torch.randint(0, 3, (4,))


model = Net()
model.backbone.requires_grad_(False)
optimizer = torch.optim.RMSprop(model.head.parameters(), lr=1e-3)
print("before:", validate(model))
for epoch in range(4):
    for x, y in batches(2):
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    print(epoch, validate(model))
