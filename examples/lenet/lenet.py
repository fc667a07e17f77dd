"""What the four nets have in common: the article's `freeze`, the data, the loss and the optimizer."""

import torch
import torch.nn.functional as F


def freeze(module):
    for parameter in module.parameters():
        parameter.requires_grad = False


def build_optimizer(model):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9)


def example_inputs():
    return torch.randn(64, 1, 28, 28)


def compute_loss(model, images):
    digits = torch.arange(len(images)) % 10
    return F.cross_entropy(model(images), digits)
