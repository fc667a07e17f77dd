"""Gradient accumulation over four small batches, with clipping."""

import torch
import torch.nn.functional as F
from torch import nn

ACCUMULATE = 4


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 16)
        self.encoder = nn.GRU(16, 16, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, ids):
        states, _ = self.encoder(self.embedding(ids))
        return self.head(states)


def main():
    model = Tagger()
    model.embedding.weight.requires_grad = False
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.1)
    model.train()
    optimizer.zero_grad()
    for batch in range(40):
        ids, tags = torch.randint(0, 100, (2, 7)), torch.randint(0, 5, (2, 7))
        loss = F.cross_entropy(model(ids).flatten(0, 1), tags.flatten()) / ACCUMULATE
        loss.backward()
        if (batch + 1) % ACCUMULATE == 0:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()


if __name__ == "__main__":
    main()
