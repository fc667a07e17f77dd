"""A small transformer language model whose output layer shares its weight with the embedding."""

import torch
import torch.nn.functional as F
from torch import nn


class LanguageModel(nn.Module):
    def __init__(self, words=100, width=32):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        layer = nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)
        self.lm_head = nn.Linear(width, words, bias=False)
        self.lm_head.weight = self.embedding.weight

    def forward(self, words):
        return self.lm_head(self.encoder(self.embedding(words)))


def build_model():
    model = LanguageModel()
    for parameter in model.encoder.parameters():
        parameter.requires_grad = False
    return model


def build_optimizer(model):
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)


def example_inputs():
    return torch.randint(0, 100, (4, 12))


def compute_loss(model, words):
    return F.cross_entropy(model(words[:, :-1]).flatten(0, 1), words[:, 1:].flatten())
