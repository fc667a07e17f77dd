"""Models that are right: layers that start asleep, gradients that are zero by nature, tensors of every kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torchvision.ops import FrozenBatchNorm2d

from tests.probe.traps import TRAPS, Of, Setup, frozen, image, trap
from tests.probe.verified import sgd


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
def activations_kept_on_self() -> Setup:
    """A model that stores its activations, plain and detached."""

    def way(self, x):
        self.features = self.enc(x)
        self.logged = self.features.detach()
        return {"out": [self.head(self.features)], "features": (self.features,)}

    return Of(way, enc=nn.Linear(3, 4), head=nn.Linear(4, 2)), torch.randn(5, 3)


@trap
def a_norm_before_another_norm() -> Setup:
    """What the second takes away is a gradient of rounding noise for the weight of the first."""
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8)]
    model = nn.Sequential(*layers, nn.Conv2d(8, 2, 3))
    return model, torch.randn(4, 3, 12, 12), {"optimizer": sgd(model, 0.01)}
