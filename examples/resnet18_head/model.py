"""ResNet-18 with a new head for ten classes; everything else is frozen."""

import torch
from torch import nn
from torchvision.models import resnet18


def build_model():
    model = resnet18()  # in earnest: resnet18(weights="IMAGENET1K_V1"); what trains does not depend on the weights
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, 10)
    return model


def build_optimizer(model):
    return torch.optim.SGD(model.fc.parameters(), lr=0.01, momentum=0.9)
