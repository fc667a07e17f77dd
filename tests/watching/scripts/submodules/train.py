"""The script calls the parts of its model itself; the frozen half under no_grad."""

import torch
import torch.nn.functional as F
from torch import nn


class Captioner(nn.Module):
    def __init__(self):
        super().__init__()
        self.vision = nn.Sequential(nn.Linear(12, 16), nn.ReLU())
        self.bridge = nn.Linear(16, 16)
        self.text = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 20))


class Experiment:
    def __init__(self):
        self.model = Captioner()
        self.model.vision.requires_grad_(False)
        trained = [*self.model.bridge.parameters(), *self.model.text.parameters()]
        self.optimizer = torch.optim.SGD(trained, lr=0.1)

    def step(self, images, words):
        with torch.no_grad():
            seen = self.model.vision(images)
        bridged = self.model.bridge(seen)
        loss = F.cross_entropy(self.model.text(bridged), words)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


experiment = Experiment()
for _ in range(5):
    experiment.step(torch.randn(4, 12), torch.randint(0, 20, (4,)))
