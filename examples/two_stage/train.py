"""Two-stage training: a new head first, then `layer4` with it. `python train.py` runs it from start to end.

Random images and random weights stand in for data and for `weights="IMAGENET1K_V1"`: what trains does not depend on
them. Each stage saves its best weights to `checkpoints/`.
"""

from pathlib import Path

import torch
from torch import nn
from torchvision.models import resnet18

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def build_model():
    model = resnet18()
    model.requires_grad_(False)
    model.fc = nn.Linear(model.fc.in_features, 10)
    return model


def build_optimizer(model):
    return torch.optim.SGD(model.fc.parameters(), lr=0.05, momentum=0.9)


def unfreeze(model, optimizer):
    """Begin the second stage: `layer4` trains too, more slowly, and the head keeps its momentum."""
    model.layer4.requires_grad_(True)
    optimizer.add_param_group({"params": model.layer4.parameters(), "lr": 0.005})


def unfreeze_only(model, _):
    """The mistake that `forgotten.toml` shows: the flags are set, and the optimizer never hears of it."""
    model.layer4.requires_grad_(True)


def example_inputs():
    return torch.randn(8, 3, 64, 64), torch.randint(0, 10, (8,))


def compute_loss(model, inputs):
    images, labels = inputs
    return nn.functional.cross_entropy(model(images), labels)


def set_modes(model):
    """Train mode for what trains; BatchNorm of frozen parts must not gather statistics."""
    model.train()
    for part in model.children():
        if not any(parameter.requires_grad for parameter in part.parameters()):
            part.eval()


def train(model, optimizer, batches, path, epochs=2):
    best = float("inf")
    for _ in range(epochs):
        set_modes(model)
        for batch in batches:
            optimizer.zero_grad()
            compute_loss(model, batch).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            loss = sum(compute_loss(model, batch).item() for batch in batches) / len(batches)
        if loss < best:
            best = loss
            torch.save(model.state_dict(), path)
    print(f"{path.name}: saved at its best loss")


def main():
    torch.manual_seed(0)
    CHECKPOINTS.mkdir(exist_ok=True)
    batches = [example_inputs() for _ in range(4)]
    model = build_model()
    optimizer = build_optimizer(model)
    torch.save(model.state_dict(), CHECKPOINTS / "start.pt")

    train(model, optimizer, batches, CHECKPOINTS / "head.pt")
    model.load_state_dict(torch.load(CHECKPOINTS / "head.pt", weights_only=True))
    unfreeze(model, optimizer)
    train(model, optimizer, batches, CHECKPOINTS / "finetuned.pt")


if __name__ == "__main__":
    main()
