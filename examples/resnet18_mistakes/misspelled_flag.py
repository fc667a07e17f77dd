"""The mistake: `require_grad` is no flag of a parameter, and Python does not mind."""

import torch
from torch import nn
from torchvision.models import resnet18


def build_model():
    model = resnet18()
    for name, parameter in model.named_parameters():
        if not name.startswith("layer4"):
            parameter.require_grad = False
    model.fc = nn.Linear(model.fc.in_features, 10)
    return model


def build_optimizer(model):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9)
