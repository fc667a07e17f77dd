"""The description of a model: every tensor under all its names, every layer, and the flags that torch ignores."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torchvision.ops import FrozenBatchNorm2d, StochasticDepth

from freezecheck.probe.describe import describe, gradient_in, grown_from, largest_in, walk
from freezecheck.records import Gradient

torch.set_num_threads(1)


def tied() -> nn.Module:
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    return model


class TestTensors:
    """Names, aliases, kinds, flags."""

    def test_names_are_those_of_torch(self) -> None:
        """Parameters and buffers in torch's order, each once."""
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ModuleList([nn.Linear(2, 2)]))
        description = describe(model)
        parameters = [t.name for t in description.tensors if t.kind == "parameter"]
        buffers = [t.name for t in description.tensors if t.kind == "buffer"]
        assert parameters == [name for name, _ in model.named_parameters()]
        assert buffers == [name for name, _ in model.named_buffers()]

    def test_a_tied_tensor_is_one_with_all_its_names(self) -> None:
        """torch drops the second name; here both select it."""
        (tensor,) = describe(tied()).tensors
        assert tensor.names == ("embed.weight", "head.weight")
        assert describe(tied()).by_name["head.weight"].numel == 15

    def test_a_shared_module_has_both_paths(self) -> None:
        """The layers are walked under each path, the tensors counted once."""
        shared = nn.Linear(2, 2)
        description = describe(nn.ModuleDict({"a": shared, "b": shared}))
        assert [layer.name for layer in description.layers] == ["", "a", "b"]
        assert [tensor.names for tensor in description.tensors] == [("a.weight", "b.weight"), ("a.bias", "b.bias")]

    def test_equal_tensors_are_not_tied(self) -> None:
        """Two biases of zeros are two tensors."""
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        for layer in model:
            nn.init.zeros_(layer.bias)
        assert all(not tensor.aliases for tensor in describe(model).tensors)

    @pytest.mark.parametrize(
        ("dtype", "differentiable"),
        [(torch.float16, True), (torch.complex64, True), (torch.int8, False), (torch.bool, False)],
    )
    def test_what_can_require_grad(self, dtype: torch.dtype, differentiable: bool) -> None:
        """Floating and complex tensors can, whole numbers cannot."""
        model = nn.Module()
        model.p = nn.Parameter(torch.zeros(2, dtype=dtype), requires_grad=False)
        (tensor,) = describe(model).tensors
        assert (tensor.differentiable, tensor.dtype) == (differentiable, str(dtype).removeprefix("torch."))

    @pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
    def test_wrappers_leave_no_prefix(self, wrap) -> None:
        """`module.` and `_orig_mod.` are nobody's names."""
        names = [tensor.name for tensor in describe(wrap(nn.Sequential(nn.Linear(2, 2)))).tensors]
        assert names == ["0.weight", "0.bias"]

    def test_a_child_that_is_called_module_keeps_its_name(self) -> None:
        """Only a wrapper's own attribute is left out."""
        model = nn.ModuleDict({"module": nn.Linear(2, 2)})
        assert describe(model).tensors[0].name == "module.weight"

    def test_lazy_tensors_have_no_size_yet(self) -> None:
        """They are there, without shape and elements."""
        tensor = describe(nn.LazyLinear(3)).by_name["weight"]
        assert (tensor.shape, tensor.numel, tensor.requires_grad) == ((), 0, True)

    def test_gradients_that_were_there(self) -> None:
        """None is told from a tensor, whatever that holds."""
        model = nn.Linear(2, 2)
        for value in (0.0, 1.0, float("nan")):
            model.weight.grad = torch.full((2, 2), value)
            assert describe(model).by_name["weight"].had_gradient
        assert not describe(model).by_name["bias"].had_gradient


class TestLayers:
    """Types, modes, items, dropout, statistics."""

    def test_a_module_that_contains_itself_ends(self) -> None:
        """It is entered once per path."""
        model = nn.Sequential(nn.Linear(2, 2))
        model.add_module("again", model)
        assert [path for path, _ in walk(model)] == ["", "0"]

    def test_what_can_be_indexed(self) -> None:
        """Lists and sequences can, dictionaries cannot."""
        layers = {layer.name: layer for layer in describe(nn.Sequential(nn.ModuleList([nn.ReLU()]))).layers}
        assert (layers[""].items, layers["0"].items, layers["0.0"].items) == (("0",), ("0",), None)

    @pytest.mark.parametrize(
        ("layer", "moves"),
        [
            (nn.BatchNorm2d(2), {"running_mean", "running_var", "num_batches_tracked"}),
            (nn.SyncBatchNorm(2), {"running_mean", "running_var", "num_batches_tracked"}),
            (nn.InstanceNorm1d(2, track_running_stats=True), {"running_mean", "running_var", "num_batches_tracked"}),
            (nn.BatchNorm1d(2, track_running_stats=False), set()),
            (nn.InstanceNorm2d(2), set()),
            (FrozenBatchNorm2d(2), set()),
            (nn.GroupNorm(1, 2), set()),
            (nn.utils.spectral_norm(nn.Linear(2, 2)), {"weight_u"}),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_buffers_that_training_moves(self, layer: nn.Module, moves: set[str]) -> None:
        """Statistics by design, and only where they are tracked; a forward in train mode moves no others."""
        said = {name for found in describe(layer).layers for name in found.statistics}
        assert moves <= said
        before = copy.deepcopy(dict(layer.named_buffers()))
        ranks = {"BatchNorm2d": 4, "InstanceNorm2d": 4, "FrozenBatchNorm2d": 4, "Linear": 2}
        shape = (3, 2, 4, 4)[: ranks.get(type(layer).__name__, 3)]
        layer.train()(torch.randn(shape))
        moved = {name for name, buffer in layer.named_buffers() if not torch.equal(before[name], buffer)}
        assert moved <= said

    @pytest.mark.parametrize(
        ("layer", "rate"),
        [
            (nn.Linear(2, 2), None),
            (nn.LSTM(2, 2, dropout=0.0, num_layers=2), 0.0),
            (nn.MultiheadAttention(2, 1), None),
            (nn.Dropout2d(0.2), 0.2),
            (nn.GRU(2, 2, dropout=0.3, num_layers=2), 0.3),
            (nn.MultiheadAttention(2, 1, dropout=0.4), 0.4),
            (StochasticDepth(0.5, "row"), 0.5),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_layers_that_drop_what_they_compute(self, layer: nn.Module, rate: float | None) -> None:
        """Recurrent layers and attention have a dropout of their own."""
        assert describe(layer).layers[0].dropout == rate

    def test_the_dropout_of_a_single_recurrent_layer_never_acts(self) -> None:
        """It stands between layers, and torch only warns of it."""
        with pytest.warns(UserWarning, match="num_layers"):
            alone = nn.LSTM(2, 2, dropout=0.5)
        assert describe(alone).layers[0].dropout is None

    def test_a_cache_that_grew(self) -> None:
        """Longer in a dimension, and the old values still at its beginning."""
        old = torch.arange(6.0).view(2, 3)
        assert grown_from(old, torch.arange(9.0).view(3, 3))
        for now in (old.clone(), old[:1], torch.arange(9.0).view(3, 3) + 1, torch.arange(9.0), torch.zeros(3, 2)):
            assert not grown_from(old, now)

    def test_vectors_of_a_parametrized_spectral_norm(self) -> None:
        """They belong to the parametrization's own layer."""
        said = {
            n for layer in describe(parametrizations.spectral_norm(nn.Linear(3, 4))).layers for n in layer.statistics
        }
        assert said == {"parametrizations.weight.0._u", "parametrizations.weight.0._v"}


class TestStrays:
    """Look-alikes of `requires_grad` that torch ignores."""

    @pytest.mark.parametrize(
        "attribute",
        [
            *("require_grad", "requires_grads", "required_grad", "requires_gradient", "requires_gard", "reqiures_grad"),
            *("grad_required", "grad_requires"),
        ],
    )
    def test_on_a_parameter(self, attribute: str) -> None:
        """Each misspelling is found on the tensor it was set on."""
        model = nn.Linear(2, 2)
        setattr(model.weight, attribute, False)
        (stray,) = describe(model).strays
        assert (stray.owner, stray.attribute, stray.value) == ("weight", attribute, "False")

    def test_on_a_module(self) -> None:
        """The flag itself does nothing there; the tensors it was meant for are named."""
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        model[0].requires_grad = False
        (stray,) = describe(model).strays
        assert (stray.on, stray.tensors) == ("module", ("0.weight", "0.bias"))

    def test_trainable_set_from_outside(self) -> None:
        """Keras' word on a layer that knows none; a class that has an option of that name means its own."""

        class Layer(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.trainable = False
                self.fc = nn.Linear(2, 2)

        model = nn.Sequential(nn.Linear(2, 2), Layer())
        assert describe(model).strays == ()
        model[0].trainable = True
        assert describe(model).strays == ()
        model[0].trainable = False
        (stray,) = describe(model).strays
        assert (stray.attribute, stray.tensors) == ("trainable", ("0.weight", "0.bias"))

    def test_trainable_that_somebody_reads(self) -> None:
        """A parent that asks its part, a mixin that is no module, an option with a default on the class."""

        class Mixin:
            def mode(self) -> bool:
                return self.trainable  # type: ignore[no-any-return,attr-defined]  # the module's that it is mixed into

        class Mixed(Mixin, nn.Linear):
            pass

        class Optional(nn.Linear):
            trainable = True

        class Parent(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.part = nn.Linear(2, 2)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                with torch.set_grad_enabled(self.part.trainable):
                    return self.part(x)

        parent = Parent()
        for model, carrier in [(parent, parent.part), *((one, one) for one in (Mixed(2, 2), Optional(2, 2)))]:
            carrier.trainable = False  # type: ignore[assignment]  # what the test is about
            assert describe(model).strays == ()

    def test_what_agrees_or_only_sounds_alike_is_none(self) -> None:
        """A flag that says what is so, and attributes of another meaning."""
        model = nn.Linear(2, 2)
        model.requires_grad_(False)
        model.requires_grad = False
        model.gradient_checkpointing = False
        model.required = True
        model.requires_input = True
        model.requires_grid = True
        model.requires_graph = True
        model.grad_required = True
        assert describe(model).strays == ()


def test_the_largest_element() -> None:
    """Sparse, empty, half and complex gradients are read for what they hold."""
    sparse = torch.sparse_coo_tensor(torch.tensor([[0, 0]]), torch.tensor([1.0, 2.0]), (3,))
    assert largest_in(sparse) == 3.0
    assert largest_in(torch.zeros(0)) == 0.0
    assert largest_in(torch.tensor([1e-7], dtype=torch.float16)) > 0
    assert largest_in(torch.tensor([3 + 4j])) == 5.0
    assert gradient_in(torch.zeros(2, device="meta")) is Gradient.NONZERO


def test_describing_changes_nothing() -> None:
    """No hook, no gradient, no mode is touched."""
    model = tied()
    before = copy.deepcopy(model.state_dict())
    first, second = describe(model), describe(model)
    assert first == second
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
