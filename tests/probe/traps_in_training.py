"""Training that is right: chance, routing, schedules, statistics, several optimizers, losses of one's own."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import StochasticDepth

from tests.probe.traps import Of, Setup, frozen, image, trap
from tests.probe.verified import sgd


@trap
def an_average_kept_in_buffers() -> Setup:
    """A trained model that keeps a moving average of its weights in buffers."""

    class Average(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)
            self.register_buffer("average", torch.zeros(2, 3))

        def forward(self, x):
            self.average.mul_(0.9).add_(self.fc.weight.detach(), alpha=0.1)
            return self.fc(x)

    return Average(), torch.randn(5, 3)


@trap
def a_momentum_teacher() -> Setup:
    """A teacher that follows the student is left unchecked (T13)."""

    def way(self, x):
        with torch.no_grad():
            for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                slow.lerp_(fast, 0.1)
            target = self.teacher(x)
        return F.mse_loss(self.student(x), target)

    spec = "trainable = ['student']\nunchecked = ['teacher']"
    return Of(way, teacher=frozen(nn.Linear(3, 2)), student=nn.Linear(3, 2)), torch.randn(5, 3), {"spec": spec}


@trap
def statistics_that_may_move() -> Setup:
    """Letting the statistics of a frozen part adapt is a choice (T4)."""
    model = nn.Sequential(frozen(nn.Conv2d(3, 4, 3)), frozen(nn.BatchNorm2d(4)), nn.Conv2d(4, 2, 3))
    return model, image(), {"spec": "trainable = ['2']\nbuffers_may_move = ['1']"}


@trap
def frozen_statistics_and_a_trained_affine() -> Setup:
    """Only the statistics are frozen, by eval mode; weight and bias train (T4)."""
    spec = "trainable = ['*.weight', '*.bias']\nfrozen = ['1.running_*', '1.num_batches_tracked']\neval = ['1']"
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3)), image(), {"spec": spec}


@trap
def a_model_that_keeps_its_norms_in_eval() -> Setup:
    """An override of `train` that puts the frozen part back is the right way."""

    class Backbone(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)
            self[0].eval()
            return self

    body = frozen(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    return Backbone(body, nn.Conv2d(4, 2, 3)), image()


@trap
def stochastic_depth() -> Setup:
    """Branches that chance leaves out of most steps (T7)."""

    def way(self, x):
        for branch in self.branches:
            x = x + self.drop(branch(x))
        return x

    branches = nn.ModuleList([nn.Linear(3, 3) for _ in range(6)])
    return Of(way, branches=branches, drop=StochasticDepth(0.7, "batch")), torch.randn(5, 3)


@trap
def layers_skipped_at_random() -> Setup:
    """LayerDrop as Wav2Vec2 writes it: chance decides in forward whether a layer is called at all (T7)."""

    def way(self, x):
        for layer in self.layers:
            if not self.training or torch.rand(()) > 0.6:
                x = x + layer(x)
        return self.head(x)

    return Of(way, layers=nn.ModuleList([nn.Linear(3, 3) for _ in range(6)]), head=nn.Linear(3, 2)), torch.randn(5, 3)


@trap
def layers_skipped_by_pythons_dice() -> Setup:
    """The same with Python's own random numbers."""

    def way(self, x):
        for layer in self.layers:
            if random.random() > 0.6:
                x = x + layer(x)
        return self.head(x)

    return Of(way, layers=nn.ModuleList([nn.Linear(3, 3) for _ in range(6)]), head=nn.Linear(3, 2)), torch.randn(5, 3)


@trap
def layers_skipped_by_the_models_own_dice() -> Setup:
    """The same with a generator that the model keeps for itself."""

    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(6)])
            self.dice = torch.Generator().manual_seed(1)

        def forward(self, x):
            for layer in self.layers:
                if not self.training or torch.rand(1, generator=self.dice) > 0.8:
                    x = x + torch.tanh(layer(x))
            return x

    return Stack(), torch.randn(5, 3)


@trap
def a_cache_of_positions_that_grows() -> Setup:
    """A longer input needs more of the same: nothing that was there has changed."""

    def way(self, x):
        if len(self.cos) < len(x):
            self.register_buffer("cos", torch.arange(float(len(x))).cos(), persistent=False)
        return self.head(self.body(x) * self.cos[: len(x), None])

    model = Of(way, body=frozen(nn.Linear(3, 4)), head=nn.Linear(4, 2))
    model.register_buffer("cos", torch.arange(2.0).cos(), persistent=False)
    return model, torch.randn(5, 3), {"spec": "trainable = ['head']"}


def experts(way: Callable[..., Any]) -> Setup:
    """Sixteen experts for five rows: most are chosen by none."""
    layers = nn.ModuleList([nn.Linear(3, 4) for _ in range(16)])
    return Of(way, router=nn.Linear(3, 16), experts=layers, head=nn.Linear(4, 2)), torch.randn(5, 3)


@trap
def experts_that_no_row_chose() -> Setup:
    """A mixture of experts calls only those that some row chose (T7)."""

    def way(self, x):
        weight, index = self.router(x).softmax(-1).max(-1)
        out = x.new_zeros(len(x), 4)
        for i, expert in enumerate(self.experts):
            chosen = index == i
            if chosen.any():
                out[chosen] = expert(x[chosen]) * weight[chosen, None]
        return self.head(out)

    return experts(way)


@trap
def experts_called_with_no_rows() -> Setup:
    """As above, but every expert is called, some with no row: their gradient is exactly zero."""

    def way(self, x):
        weight, index = self.router(x).softmax(-1).topk(1)
        out = x.new_zeros(len(x), 4)
        for i, expert in enumerate(self.experts):
            rows = (index[:, 0] == i).nonzero()[:, 0]
            out = out.index_add(0, rows, expert(x[rows]) * weight[rows])
        return self.head(out)

    return experts(way)


@trap
def experts_weighed_by_zero() -> Setup:
    """As above in the dense form, where a gate of exactly 0 leaves an expert out."""

    def way(self, x):
        logits = self.router(x)
        best = logits.topk(2).indices
        gates = torch.full_like(logits, float("-inf")).scatter(1, best, logits.gather(1, best)).softmax(-1)
        return self.head(sum(gates[:, i, None] * expert(x) for i, expert in enumerate(self.experts)))

    return experts(way)


@trap
def experts_chosen_row_by_row() -> Setup:
    """The indices leave torch, and each row is given to its expert alone."""

    def way(self, x):
        best = self.router(x).argmax(-1).tolist()
        gates = self.router(x).softmax(-1)
        return self.head(torch.stack([self.experts[i](row) * g[i] for i, row, g in zip(best, x, gates, strict=True)]))

    return experts(way)


@trap
def one_expert_for_the_whole_batch() -> Setup:
    """The batch as a whole goes to one expert."""

    def way(self, x):
        gates = self.router(x).mean(0).softmax(-1)
        best = int(gates.argmax())
        return self.head(self.experts[best](x) * gates[best])

    return experts(way)


@trap
def experts_that_are_attributes() -> Setup:
    """As many a hand-written model has them: `expert0`, `expert1`, … and no list."""

    def way(self, x):
        weight, index = self.router(x).softmax(-1).max(-1)
        out = x.new_zeros(len(x), 4)
        for i in range(8):
            if (chosen := index == i).any():
                out[chosen] = getattr(self, f"expert{i}")(x[chosen]) * weight[chosen, None]
        return self.head(out)

    layers = {f"expert{i}": nn.Linear(3, 4) for i in range(8)}
    return Of(way, router=nn.Linear(3, 8), head=nn.Linear(4, 2), **layers), torch.randn(3, 3)


@trap
def an_aligned_warm_up() -> Setup:
    """A scheduler that starts at lr 0 (T11)."""
    model = nn.Linear(3, 2)
    optimizer = sgd(model)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 100))
    return model, torch.randn(5, 3), {"optimizer": optimizer}


@trap
def dropout_in_a_frozen_part() -> Setup:
    """It may be wanted: a note (T6)."""
    model = nn.Sequential(frozen(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))), nn.Linear(4, 2))
    return model, torch.randn(5, 3)


@trap
def frozen_by_lr_0() -> Setup:
    """A group with lr 0 is one way to freeze: a note (T10)."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[1].parameters()}]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    return model, torch.randn(5, 3), {"optimizer": optimizer, "spec": "frozen = ['0']\ntrainable = ['1']"}


@trap
def lazy_layers() -> Setup:
    """Layers that get their weights from the first batch."""
    model = nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.LazyLinear(2))
    return model, torch.randn(5, 3), {"optimizer": None}


@trap
def a_gradient_penalty() -> Setup:
    """A loss that differentiates through a leaf made on the fly."""

    def loss(model, x):
        x = x.clone().requires_grad_()
        score = model(x).sum()
        (slope,) = torch.autograd.grad(score, x, create_graph=True)
        return score + slope.square().sum()

    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), torch.randn(5, 3), {"loss": loss}


@trap
def quantisation_aware_training() -> Setup:
    """Observers and fake quantisation keep their ranges in buffers that move."""
    from torch.ao import quantization as q

    model = nn.Sequential(q.QuantStub(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), q.DeQuantStub())
    model.qconfig = q.get_default_qat_qconfig("fbgemm")
    return q.prepare_qat(model.train()), image()


@trap
def two_optimizers() -> Setup:
    """A generator and a discriminator, each with its own."""

    def way(self, x):
        return self.judge(self.make(x))

    model = Of(way, make=nn.Linear(3, 4), judge=nn.Linear(4, 1))
    optimizers = [torch.optim.Adam(model.make.parameters()), torch.optim.SGD(model.judge.parameters(), lr=0.1)]
    return model, torch.randn(5, 3), {"optimizer": optimizers}


@trap
def gradients_that_are_clipped_and_scaled_by_hooks() -> Setup:
    """A hook that changes a gradient without silencing it."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: gradient.clamp(-0.1, 0.1) * 0.5)
    return model, torch.randn(5, 3)


@trap
def lbfgs() -> Setup:
    """An optimizer that calls the loss itself."""
    model = nn.Linear(3, 2)

    def loss(model, x):
        return model(x).square().sum()

    return model, torch.randn(5, 3), {"optimizer": torch.optim.LBFGS(model.parameters(), lr=0.1), "loss": loss}


@trap
def a_loss_over_several_forwards() -> Setup:
    """A contrastive loss runs the model twice, once without gradient (a moving target)."""

    def loss(model, x):
        with torch.no_grad():
            target = model(x + 0.01)
        return F.mse_loss(model(x), target) + model(x[:2]).sum()

    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.randn(5, 3), {"loss": loss}
