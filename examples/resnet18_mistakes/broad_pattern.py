"""The mistake: the pattern meant for layer1, layer2 and layer3 matches layer4 too."""

import torch
from torch import nn
from torchvision.models import resnet18


def build_model():
    model = resnet18()
    for name, parameter in model.named_parameters():
        if name.startswith(("conv1", "bn1", "layer")):
            parameter.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, 10)
    return model


def build_optimizer(model):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9)
