"""The classifier that the other files here train: a frozen ResNet-18 under a new head."""

import torch
from torch import nn
from torchvision.models import resnet18


class Classifier(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.backbone = resnet18()  # in earnest: resnet18(weights="IMAGENET1K_V1")
        self.head = nn.Linear(self.backbone.fc.in_features, classes)
        self.backbone.fc = nn.Identity()
        self.backbone.requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()  # BatchNorm of a frozen backbone must not gather statistics
        return self

    def forward(self, images):
        return self.head(self.backbone(images))


def build_optimizer(model):
    return torch.optim.AdamW(model.head.parameters(), lr=1e-3)


def example_inputs():
    return torch.randn(4, 3, 32, 32)
