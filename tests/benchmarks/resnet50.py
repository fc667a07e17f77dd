"""What the benchmark trains: torchvision's ResNet-50 with layer4 and fc trainable, batch 2 of 224×224."""

import torch
import torch.nn.functional as F
from torchvision.models import resnet50


def build_model():
    model = resnet50()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith(("layer4", "fc"))
    return model


def build_optimizer(model):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9)


def example_inputs():
    return torch.randn(2, 3, 224, 224)


def compute_loss(model, images):
    return F.cross_entropy(model(images), torch.tensor([1, 2]))


def set_modes(model):
    """What a training loop does before a step: train mode, and the frozen part back in eval mode."""
    model.train()
    for frozen in (model.bn1, model.layer1, model.layer2, model.layer3):
        frozen.eval()
