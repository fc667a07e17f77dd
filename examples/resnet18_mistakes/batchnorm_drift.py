"""The mistake: eval() is called once, and the training loop's model.train() undoes it."""

import torch
from torch import nn
from torchvision.models import resnet18


def build_model():
    model = resnet18()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("layer4")
    model.fc = nn.Linear(model.fc.in_features, 10)
    for frozen in (model.bn1, model.layer1, model.layer2, model.layer3):
        frozen.eval()
    return model


def build_optimizer(model):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9)
