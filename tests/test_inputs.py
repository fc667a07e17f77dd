"""Example inputs that are searched: what is found, and what is said when nothing is."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import freezecheck
from freezecheck.errors import ProbeError
from freezecheck.inputs import Declared, declared, explain_shape_failure, infer, of_shape, said_of
from freezecheck.subject import call_model

torch.set_num_threads(1)


class LeNet(nn.Module):
    """The LeNet that courses teach, for images of one size only."""

    def __init__(self, side, channels=1, flatten=True):
        super().__init__()
        self.side, self.flatten = side, flatten
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.flatten(1) if self.flatten else x.view(-1, 16 * self.side * self.side)
        return self.fc2(F.relu(self.fc1(x)))


class Of(nn.Module):
    """A model of named layers whose forward is a function of it and its inputs."""

    def __init__(self, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)


class Text(Of):
    def forward(self, input_ids, attention_mask):
        return self.head(self.emb(input_ids) * attention_mask[..., None])


class Positions(Of):
    def forward(self, ids):
        return self.head(self.emb(ids) + self.pos)


class Siamese(Of):
    def forward(self, left, right):
        return self.net(left) - self.net(right)


class Towers(Of):
    def forward(self, image, text):
        return self.conv(image).mean((2, 3)) @ self.emb(text).mean(1).T


class Diffusion(Of):
    def forward(self, x, t):
        return self.conv(x) + self.emb(t)[:, :, None, None]


class LastStep(Of):
    def forward(self, x):
        return self.head(self.rnn(x)[0][-1])


class Alone(Of):
    def forward(self):
        return self.weight


class Hidden(Of):
    """Its layers lie in a plain list, where no stand-in on the meta device reaches them."""

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Branching(Of):
    def forward(self, x):
        return self.conv(-x if x.sum() > 0 else x).mean((2, 3))


class Caching(Of):
    def forward(self, x):
        self.last = self.fc(x)
        self.seen.append(x)
        self.fc.register_forward_hook(lambda *_: None)
        return self.last


FOUND = {
    "the article's LeNet": (LeNet(4), "float32[2, 1, 28, 28]"),
    "its other variant": (LeNet(5), "float32[2, 1, 32, 32]"),
    "in colour, with view": (LeNet(4, 3, flatten=False), "float32[2, 3, 28, 28]"),
    "an unusual size": (LeNet(8, 3), "float32[2, 3, 44, 44]"),
    "an unusual size with view": (LeNet(8, 3, flatten=False), "float32[2, 3, 44, 44]"),
    "any size": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)), "float32[2, 3, 64, 64]"),
    "flattened digits": (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), "float32[2, 784]"),
    "sound": (nn.Sequential(nn.Conv1d(1, 4, 9), nn.Flatten(), nn.Linear(4 * 179, 3)), "float32[2, 1, 187]"),
    "a volume": (nn.Sequential(nn.Conv3d(1, 2, 3), nn.AdaptiveAvgPool3d(1)), "float32[2, 1, 8, 64, 64]"),
    "a generator": (nn.Sequential(nn.ConvTranspose2d(9, 4, 4), nn.BatchNorm2d(4)), "float32[2, 9, 1, 1]"),
    "BatchNorm first": (nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)), "float32[2, 4]"),
    "half precision": (nn.Sequential(nn.Linear(3, 3)).bfloat16(), "bfloat16[2, 3]"),
    "ids": (nn.Sequential(nn.Embedding(50, 4), nn.Linear(4, 2)), "int64[2, 16]"),
    "ids and a mask": (Text(emb=nn.Embedding(50, 4), head=nn.Linear(4, 2)), "int64[2, 16], int64[2, 16]"),
    "fixed positions": (
        Positions(emb=nn.Embedding(50, 4), pos=nn.Parameter(torch.zeros(1, 21, 4)), head=nn.Linear(4, 2)),
        "int64[2, 21]",
    ),
    "two of a kind": (Siamese(net=LeNet(4)), "float32[2, 1, 28, 28], float32[2, 1, 28, 28]"),
    "two of two kinds": (
        Towers(conv=nn.Conv2d(3, 4, 3), emb=nn.Embedding(50, 4)),
        "float32[2, 3, 64, 64], int64[2, 16]",
    ),
    "a time step": (Diffusion(conv=nn.Conv2d(3, 4, 3), emb=nn.Embedding(9, 4)), "float32[2, 3, 64, 64], int64[2]"),
    "time first": (LastStep(rnn=nn.LSTM(7, 8), head=nn.Linear(8, 2)), "float32[16, 2, 7]"),
    "attention": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), "float32[2, 16, 8]"),
    "lazy layers": (nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3)), "float32[2, 3, 64, 64]"),
    "layers in a list": (Hidden(layers=[nn.Linear(4, 4)], head=nn.Linear(4, 2)), "float32[2, 4]"),
    "a branch on data": (Branching(conv=nn.Conv2d(3, 4, 3)), "float32[2, 3, 64, 64]"),
    "spectral norm": (nn.Sequential(nn.utils.spectral_norm(nn.Linear(3, 4))), "float32[2, 3]"),
    "a script": (torch.jit.script(nn.Linear(3, 4)), "float32[2, 3]"),
}


@pytest.mark.parametrize("case", FOUND)
def test_found(case):
    """The smallest assumption that fits; the real model takes what the search found."""
    model, said = FOUND[case]
    found = infer(model)
    assert found.said.startswith(f"{said}, found from the shape of ")
    call_model(copy.deepcopy(model), found.make())


def test_a_forward_without_inputs():
    """It is called with none."""
    assert infer(Alone(weight=nn.Parameter(torch.ones(1)))).make() == ()


class TestLeavesNoTrace:
    @pytest.mark.parametrize("case", ["the article's LeNet", "BatchNorm first", "a branch on data", "lazy layers"])
    def test_tensors_modes_and_attributes(self, case):
        """Every tensor is the same object with the same bytes, also where the model itself had to run."""
        model, _ = copy.deepcopy(FOUND[case])
        model.eval()
        before = {name: (id(t), copy.deepcopy(t)) for name, t in model.state_dict(keep_vars=True).items()}
        infer(model)
        assert not model.training
        for name, tensor in model.state_dict(keep_vars=True).items():
            assert id(tensor) == before[name][0]
            assert torch.nn.parameter.is_lazy(tensor) or torch.equal(tensor, before[name][1])

    def test_what_a_forward_assigns(self):
        """A cached activation, a list it appends to and a hook it installs are all gone."""
        model = Caching(fc=nn.Linear(3, 3), seen=[])
        infer(model)
        assert not hasattr(model, "last")
        assert model.seen == []
        assert len(model.fc._forward_hooks) == 0

    def test_nothing_is_printed(self, capsys):
        """A forward that prints does not print for every trial."""
        model = nn.Sequential(nn.Linear(3, 3))
        model.register_forward_hook(lambda *_: print("noise"))
        infer(model)
        assert capsys.readouterr() == ("", "")


class TestKnown:
    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("resnet18", "float32[2, 3, 224, 224], torchvision's own size for resnet18"),
            ("inception_v3", "float32[2, 3, 299, 299], torchvision's own size for inception_v3"),
            ("r3d_18", "float32[2, 3, 8, 112, 112], torchvision's own size for r3d_18"),
        ],
    )
    def test_torchvision(self, name, said):
        """By the name under which it was loaded."""
        models = pytest.importorskip("torchvision").models
        with torch.device("meta"):
            model = models.get_model(name, weights=None)
        assert infer(model, {"torchvision": name}).said == said

    def test_a_changed_model_of_torchvision(self):
        """Its own size no longer fits, so that the search goes on."""
        model = pytest.importorskip("torchvision").models.resnet18()
        model.conv1 = nn.Conv2d(1, 64, 7)
        assert infer(model, {"torchvision": "resnet18"}).said.startswith("float32[2, 1, 28, 28], found")

    def test_detection(self):
        """A list of images and their boxes; the losses come out."""
        models = pytest.importorskip("torchvision").models
        model = models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
        images, targets = infer(model).make()
        assert len(images) == len(targets) == 2
        assert set(model(images, targets)) == {"bbox_regression", "classification"}

    def test_timm(self):
        """By the configuration that the instance carries."""
        model = pytest.importorskip("timm").create_model("vit_tiny_patch16_224")
        assert infer(model).said == "float32[2, 3, 224, 224], the size in the model's pretrained_cfg"

    def test_transformers(self):
        """Ids within the vocabulary, and the decoder's beside the encoder's."""
        transformers = pytest.importorskip("transformers")
        config = transformers.T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=40)
        config.decoder_start_token_id = 0
        found = infer(transformers.T5ForConditionalGeneration(config))
        assert found.said.startswith("input_ids: int64[2, 16], decoder_input_ids: int64[2, 8], from the model's")
        assert int(found.make()["input_ids"].max()) < 40

    def test_an_example_that_the_model_carries(self):
        """Lightning's convention."""
        model = nn.Sequential(nn.Conv2d(3, 4, 3))
        model.example_input_array = torch.zeros(5, 3, 9, 9)
        assert infer(model).said == "float32[5, 3, 9, 9], the model's own example_input_array"


class Impossible(Of):
    def forward(self, x):
        return self.second(self.first(x))


class Misspelt(Of):
    def forward(self, x):
        return F.reLU(self.fc(x))


class Headless(Of):
    def foward(self, x):
        return self.fc(x)


class Graph(Of):
    def forward(self, data):
        return self.fc(data.x)


class Exits(Of):
    def forward(self, x):
        raise SystemExit(4)


class TestNotFound:
    def test_shows_who_refused(self):
        """The layer, its sizes and torch's own words; and how to give a shape."""
        with pytest.raises(ProbeError) as caught:
            infer(Impossible(first=nn.Linear(3, 4), second=nn.Linear(5, 6)))
        head, shape, refused, *_ = caught.value.message.splitlines()
        assert head.startswith("no example inputs were found for Impossible: forward(x) took none of ")
        assert shape == "  float32[2, 3]"
        assert refused.startswith("    refused by second (Linear(5, 6)) at ")
        assert refused.endswith("got [2, 4] X [5, 6].")
        assert "--input-shape" in caught.value.hint
        assert "example_inputs()" in caught.value.hint

    @pytest.mark.parametrize(
        ("model", "message", "hint"),
        [
            (Misspelt(fc=nn.Linear(3, 3)), "the forward of Misspelt raised AttributeError: module", ""),
            (Headless(fc=nn.Linear(3, 3)), "Headless defines no forward", "did you mean foward?"),
            (Graph(fc=nn.Linear(3, 3)), "no example inputs were found for Graph", "forward wants something other"),
            (Exits(fc=nn.Linear(3, 3)), "searching for example inputs, the model's forward called sys.exit(4)", ""),
            (nn.Identity(), "no example inputs were found for Identity: forward(input) has no layer that says", "--i"),
        ],
    )
    def test_a_forward_that_no_shape_helps(self, model, message, hint):
        """It says so at once, and does not list shapes."""
        with pytest.raises(ProbeError) as caught:
            infer(model)
        assert caught.value.message.startswith(message)
        assert hint in caught.value.hint


def test_explain_a_declared_shape():
    """The innermost module that raised, with its path."""
    model = LeNet(4)
    inputs = torch.zeros(2, 1, 32, 32)
    with pytest.raises(RuntimeError) as caught:
        model(inputs)
    assert explain_shape_failure(model, inputs, caught.value).endswith("; the model was given float32[2, 1, 32, 32]")
    assert explain_shape_failure(model, inputs, caught.value).startswith("fc1 (Linear(256, 120)) at ")


class TestDeclared:
    @pytest.mark.parametrize(
        ("inputs", "said"),
        [
            (torch.zeros(2, 3), "float32[2, 3]"),
            ((torch.zeros(2), torch.zeros(1, dtype=torch.int64)), "float32[2], int64[1]"),
            ({"ids": torch.zeros(2, dtype=torch.bool)}, "ids: bool[2]"),
            ([torch.zeros(3, 8, 8)] * 2, "a list of 2 × float32[3, 8, 8]"),
            ([torch.zeros(3), torch.zeros(2)], "a list of float32[3], float32[2]"),
        ],
    )
    def test_said_of(self, inputs, said):
        """As it stands in a report."""
        assert said_of(inputs) == said

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64", "complex64", "int64", "uint8", "bool"])
    def test_every_dtype_is_drawn(self, dtype):
        """Of the declared shape, and not constant."""
        drawn = Declared((40, 2), dtype).draw()
        assert drawn.dtype == getattr(torch, dtype)
        assert drawn.shape == (40, 2)
        assert bool((drawn != drawn[0, 0]).any())

    @pytest.mark.parametrize(("dtype", "low", "high"), [("float32", -3, -2), ("int64", 5, 7), ("float32", 1, None)])
    def test_bounds_hold(self, dtype, low, high):
        """The upper one is not drawn."""
        drawn = Declared((100,), dtype, low, high).draw()
        assert drawn.min() >= low
        assert drawn.max() < (high if high is not None else 2)

    def test_a_shape_alone(self):
        """Ids for a model that begins with an embedding, else the model's own floats."""
        assert of_shape(nn.Sequential(nn.Embedding(5, 2)), (2, 9)).said == "int64[2, 9]"
        assert of_shape(nn.Sequential(nn.Linear(5, 2)).half(), (2, 5)).said == "float16[2, 5]"
        assert declared([Declared((1,)), Declared((2,))]).said == "float32[1], float32[2]"


@pytest.mark.parametrize("model", [LeNet(4), LeNet(5), torchvision.models.resnet18()], ids=["28", "32", "resnet18"])
def test_verify_needs_no_shape_from_the_user(model):
    """The article's LeNet and torchvision's models are verified as they are, and the conditions say what was found."""
    result = freezecheck.verify(model)
    assert not result.findings
    said = result.report.case.conditions.inputs
    assert said.startswith("float32[2, ")
    assert "found from the shape of conv1" in said or "torchvision" in said
