"""The mistake: the optimizer takes the parameters of the old head, and then the head is replaced."""

import torch
from torch import nn
from torchvision.models import resnet18

model = resnet18()
for name, parameter in model.named_parameters():
    parameter.requires_grad = name.startswith(("layer4", "fc"))
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9)
model.fc = nn.Linear(model.fc.in_features, 10)
