"""What only looks wrong: set-ups that are right, and must not be called a mistake."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torchvision.ops import FrozenBatchNorm2d, StochasticDepth

from tests.probe.verified import loud, sgd, verified

Setup = tuple[Any, ...]
"""The model, its inputs, and further arguments of `verified`."""
TRAPS: dict[str, Callable[[], Setup]] = {}


def trap(make: Callable[[], Setup]) -> Callable[[], Setup]:
    """Register a set-up that is right."""
    TRAPS[make.__name__] = make
    return make


class Of(nn.Module):
    """Named layers, joined by a function of the model and its inputs."""

    def __init__(self, way: Callable[..., Any], **layers: Any) -> None:
        super().__init__()
        self.way = way
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs: Any) -> Any:
        return self.way(self, *inputs)


def frozen(layer: nn.Module) -> nn.Module:
    return layer.requires_grad_(False)


def image(channels: int = 3, side: int = 8) -> torch.Tensor:
    return torch.randn(4, channels, side, side)


@trap
def lora() -> Setup:
    """A's gradient is zero until B has moved (T2)."""

    class LoRA(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = frozen(nn.Linear(3, 4))
            self.a = nn.Parameter(torch.randn(2, 3))
            self.b = nn.Parameter(torch.zeros(4, 2))

        def forward(self, x):
            return self.base(x) + x @ self.a.T @ self.b.T

    return LoRA(), torch.randn(5, 3)


@trap
def controlnet() -> Setup:
    """A trained copy behind zero convolutions sleeps for a step (T3)."""

    def way(self, x):
        return self.base(x) + self.zero_out(self.copy(x + self.zero_in(x)))

    zero_in, zero_out = nn.Conv2d(3, 3, 1), nn.Conv2d(8, 8, 1)
    for layer in (zero_in, zero_out):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    base = frozen(nn.Conv2d(3, 8, 3))
    return Of(way, base=base, copy=nn.Conv2d(3, 8, 3), zero_in=zero_in, zero_out=zero_out), image()


@trap
def rezero() -> Setup:
    """A gate that starts at 0 wakes its branch after one step."""
    return Of(lambda self, x: x + self.alpha * self.fc(x), alpha=nn.Parameter(torch.zeros(1)), fc=nn.Linear(3, 3)), (
        torch.randn(5, 3)
    )


@trap
def adapter() -> Setup:
    """An adapter whose up-projection starts at zero."""
    up = nn.Linear(2, 4)
    nn.init.zeros_(up.weight)
    nn.init.zeros_(up.bias)

    def way(self, x):
        x = self.base(x)
        return self.head(x + self.up(torch.tanh(self.down(x))))

    layers = {"base": frozen(nn.Linear(3, 4)), "down": nn.Linear(4, 2), "up": up, "head": frozen(nn.Linear(4, 2))}
    return Of(way, **layers), torch.randn(5, 3)


@trap
def zero_initialised_head() -> Setup:
    """The backbone's gradient is zero until the head has moved (T3)."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    nn.init.zeros_(model[2].weight)
    return model, torch.randn(5, 3)


@trap
def bitfit() -> Setup:
    """Only biases train."""
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    return model, torch.randn(5, 3)


@trap
def prompt_tuning() -> Setup:
    """A trained prompt before a frozen model."""

    def way(self, ids):
        x = self.embed(ids)
        x = torch.cat([self.prompt.expand(len(x), -1, -1), x], 1)
        return self.block(x)

    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    layers = {"embed": frozen(nn.Embedding(10, 8)), "block": frozen(block)}
    return Of(way, **layers, prompt=nn.Parameter(torch.randn(1, 3, 8))), torch.randint(0, 10, (2, 5))


@trap
def convolution_bias_before_batch_norm() -> Setup:
    """A bias whose shift the BatchNorm takes away has a gradient of rounding noise, and need not move."""
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 3)), image()


@trap
def a_bias_whose_gradient_is_exactly_zero() -> Setup:
    """Where the mean is taken away the bias's gradient is zero, here to the last bit."""

    def loss(model, x):
        out = model(x)
        return ((out - out.mean(0)) * torch.arange(16.0).view(4, 4)).sum()

    return nn.Linear(3, 4), torch.randn(4, 3), {"loss": loss}


@trap
def attention_key_bias() -> Setup:
    """Softmax does not see what is added to every key: the true gradient of that bias is 0."""

    def way(self, x):
        scores = self.query(x) @ self.key(x).transpose(1, 2)
        return scores.softmax(-1) @ self.value(x)

    return Of(way, query=nn.Linear(8, 8), key=nn.Linear(8, 8), value=nn.Linear(8, 8)), torch.randn(2, 5, 8)


@trap
def weight_norm() -> Setup:
    """The parameters are `original0` and `original1`; the weight is made of them."""
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)), torch.randn(5, 3)


@trap
def old_weight_norm() -> Setup:
    """As above in the form before parametrizations."""
    with pytest.warns(FutureWarning):
        layer = nn.utils.weight_norm(nn.Linear(3, 4))
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(4, 2)), torch.randn(5, 3)


@trap
def spectral_norm() -> Setup:
    """The vectors of a trained layer's spectral norm move by design."""
    layer = parametrizations.spectral_norm(nn.Linear(3, 4))
    return nn.Sequential(layer, nn.utils.spectral_norm(nn.Linear(4, 4)), nn.Linear(4, 2)), torch.randn(5, 3)


@trap
def frozen_spectral_norm_in_eval() -> Setup:
    """A frozen layer's vectors stand still in eval mode."""
    layer = frozen(parametrizations.spectral_norm(nn.Linear(3, 4)))
    spec = "trainable = ['1']\nfrozen = ['0']\neval = ['0']"
    return nn.Sequential(layer, nn.Linear(4, 2)), torch.randn(5, 3), {"spec": spec}


@trap
def a_parametrization_of_ones_own() -> Setup:
    """A symmetric weight, made anew at every forward."""

    class Symmetric(nn.Module):
        def forward(self, weight):
            return weight.triu() + weight.triu(1).T

    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return nn.Sequential(layer, nn.Linear(3, 2)), torch.randn(5, 3)


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
def every_kind_of_norm() -> Setup:
    """Norms in training, with and without statistics."""
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 4)]
    layers += [nn.InstanceNorm2d(4, track_running_stats=True), nn.SyncBatchNorm(4), nn.LocalResponseNorm(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.LayerNorm(144), nn.RMSNorm(144), nn.Linear(144, 2)), image()


@trap
def batch_norm_without_statistics() -> Setup:
    """A frozen BatchNorm that tracks nothing can stay in train mode (T5)."""
    layers = [frozen(nn.Conv2d(3, 4, 3)), frozen(nn.BatchNorm2d(4, track_running_stats=False)), nn.Conv2d(4, 2, 3)]
    return nn.Sequential(*layers), image()


@trap
def frozen_batch_norm() -> Setup:
    """FrozenBatchNorm2d keeps buffers that never move (T15)."""
    return nn.Sequential(frozen(nn.Conv2d(3, 4, 3)), FrozenBatchNorm2d(4), nn.Conv2d(4, 2, 3)), image()


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
def frozen_embedding() -> Setup:
    """A frozen embedding with padding, its output made to require grad (T16)."""

    def way(self, ids):
        return self.head(self.embed(ids).requires_grad_().mean(1))

    return Of(way, embed=frozen(nn.Embedding(7, 4, padding_idx=0)), head=nn.Linear(4, 2)), torch.randint(0, 7, (3, 5))


@trap
def trained_embedding_with_padding() -> Setup:
    """The row of padding gets no gradient, nor do ids that the batch lacks (T17)."""
    model = nn.Sequential(nn.Embedding(50, 4, padding_idx=0, sparse=False), nn.Flatten(), nn.Linear(20, 2))
    return model, torch.randint(0, 7, (3, 5))


@trap
def sparse_embedding() -> Setup:
    """A sparse gradient is a gradient."""
    return nn.Sequential(nn.Embedding(50, 4, sparse=True), nn.Flatten(), nn.Linear(20, 2)), torch.randint(0, 7, (3, 5))


@trap
def tied_weights() -> Setup:
    """An embedding that is the head as well, trained under both names."""

    def way(self, ids):
        return self.head(self.mid(self.embed(ids)))

    embed, head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
    head.weight = embed.weight
    spec = "trainable = ['embed', 'head']\nfrozen = ['mid']"
    return Of(way, embed=embed, mid=frozen(nn.Linear(4, 4)), head=head), torch.randint(0, 9, (3, 5)), {"spec": spec}


@trap
def integers_and_booleans() -> Setup:
    """Tensors that cannot require grad, named by a spec that trains everything (T15)."""

    def way(self, x):
        return self.fc(x) * self.mask + self.offset.sum()

    mask = nn.Parameter(torch.tensor([True, False]), requires_grad=False)
    offset = nn.Parameter(torch.tensor([1, 2]), requires_grad=False)
    return Of(way, fc=nn.Linear(3, 2), mask=mask, offset=offset), torch.randn(5, 3), {"spec": "trainable = ['*']"}


@trap
def complex_parameters() -> Setup:
    """A filter in the frequency domain, with a complex output."""

    def way(self, x):
        return self.filter * torch.fft.rfft(self.fc(x))

    return Of(way, fc=nn.Linear(3, 8), filter=nn.Parameter(torch.randn(5, dtype=torch.complex64))), torch.randn(5, 3)


def of_dtype(dtype: torch.dtype) -> Callable[[], Setup]:
    def make() -> Setup:
        model = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2)).to(dtype)
        return model, torch.randn(5, 3, dtype=dtype), {"optimizer": None}

    return make


TRAPS |= {f"in_{str(d)[6:]}": of_dtype(d) for d in (torch.float64, torch.bfloat16, torch.float16)}


@trap
def a_model_that_returns_its_loss() -> Setup:
    """As a dict with more in it, some of it detached."""

    def way(self, x):
        logits = self.fc(x)
        return {"loss": logits.square().mean(), "logits": logits.detach(), "count": 3}

    return Of(way, fc=nn.Linear(3, 2)), torch.randn(5, 3)


@trap
def a_very_deep_model() -> Setup:
    """Three hundred layers inside one another."""
    model: nn.Module = nn.Linear(3, 3)
    for _ in range(150):
        model = nn.Sequential(model)
    return model, torch.randn(5, 3)


@trap
def a_module_in_two_places() -> Setup:
    """One layer used twice, under two names, and in containers that hold parameters."""

    def way(self, x):
        x = self.second(torch.tanh(self.first(x)))
        for weight in self.weights:
            x = x * weight
        return self.heads["b"](x + self.named["shift"]) + self.heads["a"](x)

    shared = nn.Linear(3, 3)
    heads = nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Linear(3, 2)})
    weights = nn.ParameterList([nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(1))])
    named = nn.ParameterDict({"shift": nn.Parameter(torch.zeros(3))})
    return Of(way, first=shared, second=shared, heads=heads, weights=weights, named=named), torch.randn(5, 3)


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
def recurrent_layers() -> Setup:
    """Weights that are packed into one flat tensor."""

    def way(self, x):
        return self.head(self.gru(self.lstm(x)[0])[0])

    layers = {
        "lstm": nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True),
        "gru": nn.GRU(8, 4),
        "head": nn.Linear(4, 2),
    }
    return Of(way, **layers), torch.randn(5, 6, 3)


@trap
def a_whole_transformer() -> Setup:
    """Attention in its packed form, self and crossed."""
    model = nn.Transformer(8, 2, 2, 2, 16, batch_first=True)
    return model, (torch.randn(2, 5, 8), torch.randn(2, 4, 8))


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
def activations_kept_on_self() -> Setup:
    """A model that stores its activations, plain and detached."""

    def way(self, x):
        self.features = self.enc(x)
        self.logged = self.features.detach()
        return {"out": [self.head(self.features)], "features": (self.features,)}

    return Of(way, enc=nn.Linear(3, 4), head=nn.Linear(4, 2)), torch.randn(5, 3)


@pytest.mark.parametrize("name", TRAPS)
def test_what_is_right_raises_no_alarm(name: str) -> None:
    """Nothing is found that is worse than a note, and what trains was seen to move."""
    torch.manual_seed(0)
    random.seed(0)
    model, inputs, *options = TRAPS[name]()
    result = verified(model, inputs=inputs, **(options[0] if options else {}))
    assert loud(result) == []


def test_the_steps_say_how_many_they_were() -> None:
    """A model that is awake takes one step, LoRA takes two, and what never wakes takes all that were allowed."""
    model, inputs = lora()
    assert verified(nn.Linear(3, 2)).report.case.conditions.steps == 1
    assert verified(model, inputs=inputs).report.case.conditions.steps == 2
