"""Small models in every state that people leave them in, and the full dump that says whether one was touched."""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.optim import Optimizer


class Net(nn.Module):
    """A stack of layers with the habits of research code: a counter, a log, a cache, a hidden layer."""

    def __init__(self, layers: list[nn.Module], hidden: nn.Module | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.calls = 0
        self.log: list[float] = []
        self.nested = {"seen": [torch.zeros(2)], "names": {"a"}}
        self.cache: Tensor | None = None
        self.hidden = [hidden] if hidden is not None else []
        self.register_buffer("average", torch.zeros(8))
        self.register_buffer("mask", torch.ones(1, 1).expand(4, 8), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        for layer in (*self.layers, *self.hidden):
            x = layer(x)
            x = x[0] if isinstance(x, tuple) else x
        self.cache = x
        self.log.append(float(x.detach().sum()))
        self.nested["seen"][0].add_(1)
        self.nested["names"].add(str(self.calls))
        self.average = 0.9 * self.average + 0.1 * x.detach().mean(0)
        return x * self.mask


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(nn.Linear(8, 8))


def tied() -> nn.Module:
    one, other = nn.Linear(8, 8), nn.Linear(8, 8)
    other.weight = one.weight
    return nn.Sequential(one, nn.ReLU(), other)


def flat() -> nn.Module:
    """Two parameters that are views of one storage, as flattened recurrent weights and sharded models have them."""
    layer, storage = nn.Linear(8, 8), torch.randn(72)
    layer.weight, layer.bias = nn.Parameter(storage[:64].view(8, 8)), nn.Parameter(storage[64:])
    return layer


LAYERS = {
    "linear": lambda: nn.Linear(8, 8),
    "wide": lambda: nn.Sequential(nn.Linear(8, 300), nn.Linear(300, 8)),
    "batch norm": lambda: nn.BatchNorm1d(8),
    "layer norm": lambda: nn.LayerNorm(8),
    "dropout": lambda: nn.Dropout(0.5),
    "embedding": lambda: nn.Sequential(nn.Flatten(0), _Indices(), nn.Embedding(5, 8, sparse=False), _Fold()),
    "convolution": lambda: nn.Sequential(nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 2, 3, padding=1), nn.Flatten()),
    "old weight norm": old_weight_norm,
    "old spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(8, 8)),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(8, 8)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(8, 8)),
    "recurrent": lambda: nn.LSTM(8, 8),
    "tied": tied,
    "flat": flat,
    "bfloat16": lambda: nn.Sequential(_To(torch.bfloat16), nn.Linear(8, 8, dtype=torch.bfloat16), _To(torch.float32)),
    "lazy linear": lambda: nn.LazyLinear(8),
    "lazy batch norm": lambda: nn.LazyBatchNorm1d(),
}


class _To(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)


class _Indices(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs().long() % 5


class _Fold(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(4, -1, 8).mean(1)


def is_lazy(tensor: Tensor) -> bool:
    return nn.parameter.is_lazy(tensor)


OPTIMIZERS = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1),
    "momentum": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adam": lambda params: torch.optim.Adam(params, lr=0.1, amsgrad=True),
    "adamw": lambda params: torch.optim.AdamW(params, lr=torch.tensor(0.1)),
    "rmsprop": lambda params: torch.optim.RMSprop(params, lr=0.1, centered=True),
    "lbfgs": lambda params: torch.optim.LBFGS(params, lr=0.1, max_iter=3),
}


def train(model: nn.Module, optimizer: Optimizer) -> None:
    """One step; whatever is not finite afterwards is somebody else's business."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(torch.randn(4, 8)).square().mean()
        if loss.requires_grad:
            loss.backward()
        return loss

    optimizer.step(closure)


@st.composite
def subjects(draw: st.DrawFn, lazy: bool = True) -> tuple[Net, Optimizer]:
    """A model and its optimizer: some frozen, some in eval mode, some with gradients, trained before or not."""
    torch.manual_seed(draw(st.integers(0, 99)))
    kinds = [kind for kind in LAYERS if lazy or "lazy" not in kind]
    layers = [LAYERS[kind]() for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4))]
    hidden = nn.Linear(8, 8) if draw(st.booleans()) else None
    model = Net(layers, hidden)
    for module in model.modules():
        module.training = draw(st.integers(0, 3)) > 0
    for parameter in model.parameters():
        parameter.requires_grad = draw(st.booleans())
    extra = nn.Parameter(torch.ones(3))
    optimizer = OPTIMIZERS[draw(st.sampled_from(sorted(OPTIMIZERS)))]([*model.parameters(), extra])
    if draw(st.booleans()) and not any(map(is_lazy, (*model.parameters(), *model.buffers()))):
        train(model, optimizer)
    for parameter in model.parameters():
        if not is_lazy(parameter) and draw(st.integers(0, 3)) == 0:
            parameter.grad = torch.randn(parameter.shape).to(parameter.dtype)
            parameter.requires_grad = draw(st.booleans())
    extra.grad = torch.ones(3)
    if draw(st.booleans()):
        model.layers[0].register_forward_hook(lambda *_: None)
    for parameter in model.parameters():
        if parameter.requires_grad and not is_lazy(parameter) and draw(st.booleans()):
            parameter.register_hook(lambda grad: grad)
    return model, optimizer


# ------------------------------------------------------------ the oracle


def dump(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Everything about a model, its optimizer and the process, as plain Python: identities, bytes, flags, order."""
    facts: dict[str, Any] = {}
    hidden = [("hidden", module) for module in model.hidden]  # type: ignore[union-attr]
    for path, module in (*model.named_modules(remove_duplicate=False), *hidden):
        facts[f"module {path}"] = (id(module), type(module), _value(vars(module), {}))
    facts["optimizer"] = (type(optimizer), _value(vars(optimizer), {}))
    facts["random"] = (random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes())
    facts["switches"] = (
        torch.is_grad_enabled(),
        torch.is_anomaly_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.backends.cudnn.benchmark,
        len(nn.modules.module._global_forward_hooks),
    )
    return facts


def _value(value: Any, seen: dict[int, bool]) -> Any:
    if id(value) in seen:
        return id(value)
    if isinstance(value, Tensor):
        seen[id(value)] = True
        return _tensor(value, seen)
    if isinstance(value, dict):
        seen[id(value)] = True
        return (id(value), [(_key(key), _value(item, seen)) for key, item in value.items()])
    if isinstance(value, set):
        return (id(value), frozenset(map(str, value)))
    if isinstance(value, list | tuple):
        seen[id(value)] = True
        return (id(value), type(value), [_value(item, seen) for item in value])
    return value if isinstance(value, int | float | str | bool | None) else id(value)


def _key(key: Any) -> Any:
    return key if isinstance(key, str | int) else id(key)


def _tensor(tensor: Tensor, seen: dict[int, bool]) -> Any:
    head = (id(tensor), type(tensor), tensor.requires_grad, tensor.is_leaf, vars(tensor).copy(), tensor._version)
    if is_lazy(tensor):
        return head
    hooks = [_value(tensor._backward_hooks, seen), _value(tensor._post_accumulate_grad_hooks, seen)]
    gradient = None if not tensor.is_leaf or tensor.grad is None else _tensor(tensor.grad, seen)
    shape = (tensor.shape, tensor.stride(), tensor.dtype, tensor.data_ptr(), tensor.untyped_storage().nbytes())
    flat = tensor.detach().reshape(-1).clone()
    return (*head, *hooks, gradient, *shape, flat.view(torch.uint8).numpy().tobytes())
