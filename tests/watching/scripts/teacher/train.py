"""Distillation: a frozen teacher without no_grad, and a student."""

import torch
import torch.nn.functional as F
from torch import nn


def network(width):
    return nn.Sequential(nn.Linear(8, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 3))


teacher = network(64)
teacher.eval()
for p in teacher.parameters():
    p.requires_grad = False
student = network(16)
optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)

for _ in range(6):
    x = torch.randn(8, 8)
    targets = teacher(x).softmax(-1)
    loss = F.kl_div(student(x).log_softmax(-1), targets, reduction="batchmean")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
