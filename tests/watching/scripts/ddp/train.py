"""DistributedDataParallel over gloo: torchrun --nproc-per-node 2 train.py"""

import os

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank = int(os.environ["RANK"])
torch.manual_seed(rank)

model = nn.Sequential()
model.add_module("backbone", nn.Sequential(nn.Linear(8, 16), nn.ReLU()))
model.add_module("neck", nn.Linear(16, 16))
model.add_module("head", nn.Linear(16, 4))
model.backbone.requires_grad_(False)
model = DistributedDataParallel(model)
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)

for _ in range(6):
    x, y = torch.randn(8, 8), torch.randint(0, 4, (8,))
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
dist.destroy_process_group()
