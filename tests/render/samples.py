"""Models and reports written by hand, for the tests of what is shown: no torch, and its own counting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

from freezecheck.records import (
    Case,
    Conditions,
    Expected,
    Facts,
    Finding,
    Gradient,
    Layer,
    LayerFacts,
    Location,
    Membership,
    Plan,
    Report,
    Severity,
    Skipped,
    Tensor,
)


class Sketch:
    """A model put down layer by layer, in the order of `named_modules`."""

    def __init__(self, root: str) -> None:
        self.layers: dict[str, Layer] = {"": Layer("", root)}
        self.facts: dict[str, Facts] = {}
        self.movable: dict[str, tuple[str, ...]] = {}
        self.held: dict[str, str] = {}
        self.saved: dict[str, int] = {}

    def layer(self, path: str, kind: str, training: bool = True) -> str:
        self.layers[path] = Layer(path, kind, (kind, "Module"), training)
        return path

    def tensor(self, name: str, *shape: int, kind: Any = "parameter", grad: bool = True, **facts: Any) -> None:
        owner = name.rpartition(".")[0]
        tensor = Tensor(name, kind, shape, numel=prod(shape), requires_grad=grad and kind == "parameter")
        self.facts[name] = Facts(tensor, **facts)
        self.layers[owner] = replace(self.layers[owner], tensors=(*self.layers[owner].tensors, name))

    def tie(self, alias: str, name: str) -> None:
        owner = alias.rpartition(".")[0]
        self.layers[owner] = replace(self.layers[owner], tensors=(*self.layers[owner].tensors, alias))
        old = self.facts[name]
        self.facts[name] = replace(old, tensor=replace(old.tensor, aliases=(*old.tensor.aliases, alias)))

    def linear(self, path: str, inside: int, outside: int, grad: bool = True, bias: bool = True, **facts: Any) -> None:
        self.layer(path, "Linear")
        self.tensor(f"{path}.weight", outside, inside, grad=grad, **facts)
        if bias:
            self.tensor(f"{path}.bias", outside, grad=grad, **facts)

    def conv(self, path: str, inside: int, outside: int, size: int, grad: bool = True, **facts: Any) -> None:
        self.layer(path, "Conv2d")
        self.tensor(f"{path}.weight", outside, inside, size, size, grad=grad, **facts)

    def norm(self, path: str, width: int, grad: bool = True, training: bool = True, **facts: Any) -> None:
        self.layer(path, "BatchNorm2d", training)
        for name in ("weight", "bias"):
            self.tensor(f"{path}.{name}", width, grad=grad, **facts)
        buffers = (f"{path}.running_mean", f"{path}.running_var", f"{path}.num_batches_tracked")
        for name, shape in zip(buffers, ((width,), (width,), ()), strict=True):
            self.tensor(name, *shape, kind="buffer", **{key: facts[key] for key in facts if key == "expected"})
        self.movable[path] = buffers if training else ()

    def case(self, spec: bool = False, **more: Any) -> Case:
        facts = tuple(self.facts.values())
        layers = tuple(self._facts_of(layer) for layer in self.layers.values())
        return Case(facts, layers, Plan({f.name: f.expected for f in facts}, from_spec=spec), **more)

    def _facts_of(self, layer: Layer) -> LayerFacts:
        start = f"{layer.name}." if layer.name else ""
        below = [f for f in self.facts.values() if any(name.startswith(start) for name in f.tensor.names)]
        parameters = [f for f in below if not f.is_buffer]
        on = sum(f.tensor.numel for f in parameters if f.tensor.requires_grad)
        off = sum(f.tensor.numel for f in parameters if not f.tensor.requires_grad)
        return LayerFacts(
            layer,
            expected=mixed({f.expected.value for f in parameters}),
            actual=mixed({"trainable" if f.tensor.requires_grad else "frozen" for f in parameters}),
            trainable=on,
            frozen=off,
            held_by=self.held.get(layer.name, "requires_grad" if off else None),
            movable_buffers=self.movable.get(layer.name, ()),
            saved_bytes=self.saved.get(layer.name),
        )


def mixed(words: set[str]) -> Any:
    return words.pop() if len(words) == 1 else "mixed" if words else "none"


def resnet50(trainable: Sequence[str] = ("layer4", "fc")) -> Sketch:
    """torchvision's ResNet-50 (25,557,032 parameters), frozen but for some of its children."""
    net = Sketch("ResNet")
    frozen = {name: name not in trainable for name in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc")}
    net.conv("conv1", 3, 64, 7, grad=not frozen["conv1"])
    net.norm("bn1", 64, grad=not frozen["bn1"])
    net.layer("relu", "ReLU")
    net.layer("maxpool", "MaxPool2d")
    inside = 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=1):
        grad = not frozen[net.layer(f"layer{stage}", "Sequential")]
        for block in range(blocks):
            path = net.layer(f"layer{stage}.{block}", "Bottleneck")
            net.conv(f"{path}.conv1", inside, width, 1, grad=grad)
            net.norm(f"{path}.bn1", width, grad=grad)
            net.conv(f"{path}.conv2", width, width, 3, grad=grad)
            net.norm(f"{path}.bn2", width, grad=grad)
            net.conv(f"{path}.conv3", width, 4 * width, 1, grad=grad)
            net.norm(f"{path}.bn3", 4 * width, grad=grad)
            net.layer(f"{path}.relu", "ReLU")
            if block == 0:
                net.layer(f"{path}.downsample", "Sequential")
                net.conv(f"{path}.downsample.0", inside, 4 * width, 1, grad=grad)
                net.norm(f"{path}.downsample.1", 4 * width, grad=grad)
            inside = 4 * width
    net.layer("avgpool", "AdaptiveAvgPool2d")
    net.linear("fc", 2048, 1000, grad=not frozen["fc"])
    return net


def bert(frozen: int = 6) -> Sketch:
    """BERT-base without a head (109,482,240 parameters), its embeddings and first blocks frozen."""
    net = Sketch("BertModel")
    net.layer("embeddings", "BertEmbeddings")
    for name, rows in (("word", 30522), ("position", 512), ("token_type", 2)):
        net.layer(f"embeddings.{name}_embeddings", "Embedding")
        net.tensor(f"embeddings.{name}_embeddings.weight", rows, 768, grad=False)
    layer_norm(net, "embeddings.LayerNorm", grad=False)
    net.layer("embeddings.dropout", "Dropout")
    net.layer("encoder", "BertEncoder")
    net.layer("encoder.layer", "ModuleList")
    for index in range(12):
        grad = index >= frozen
        path = net.layer(f"encoder.layer.{index}", "BertLayer")
        net.layer(f"{path}.attention", "BertAttention")
        net.layer(f"{path}.attention.self", "BertSelfAttention")
        for name in ("query", "key", "value"):
            net.linear(f"{path}.attention.self.{name}", 768, 768, grad=grad)
        net.layer(f"{path}.attention.output", "BertSelfOutput")
        net.linear(f"{path}.attention.output.dense", 768, 768, grad=grad)
        layer_norm(net, f"{path}.attention.output.LayerNorm", grad=grad)
        net.layer(f"{path}.intermediate", "BertIntermediate")
        net.linear(f"{path}.intermediate.dense", 768, 3072, grad=grad)
        net.layer(f"{path}.output", "BertOutput")
        net.linear(f"{path}.output.dense", 3072, 768, grad=grad)
        layer_norm(net, f"{path}.output.LayerNorm", grad=grad)
    net.layer("pooler", "BertPooler")
    net.linear("pooler.dense", 768, 768)
    return net


def layer_norm(net: Sketch, path: str, grad: bool = True) -> None:
    net.layer(path, "LayerNorm")
    net.tensor(f"{path}.weight", 768, grad=grad)
    net.tensor(f"{path}.bias", 768, grad=grad)


def tied() -> Sketch:
    """A language model whose head is its embedding, with a class token of its own and a frozen embedding."""
    net = Sketch("Net")
    net.tensor("token", 1, 32, expected=Expected.TRAINABLE)
    net.layer("emb", "Embedding")
    net.tensor("emb.weight", 64, 32, grad=False, expected=Expected.FROZEN)
    net.layer("blocks", "ModuleList")
    for index in range(3):
        net.layer(f"blocks.{index}", "Block")
        net.linear(f"blocks.{index}.fc", 32, 32, expected=Expected.FROZEN)
    net.layer("lm_head", "Linear")
    net.tie("lm_head.weight", "emb.weight")
    return net


def trained(moved: bool = True) -> Sketch:
    """A small classifier after one step: backbone frozen, head trained."""
    net = Sketch("Net")
    net.conv("conv", 3, 8, 3, grad=False, expected=Expected.FROZEN, moved=False)
    net.norm("bn", 8, grad=False, expected=Expected.FROZEN, moved=False)
    for name in net.movable["bn"]:
        net.facts[name] = replace(net.facts[name], moved=not moved, max_abs_change=0.0 if moved else 0.25)
    place = (Membership(0, 0, lr=0.1, weight_decay=0.01),)
    seen: dict[str, Any] = {"gradient": Gradient.NONZERO, "moved": True, "max_abs_change": 0.5, "memberships": place}
    net.linear("head", 8, 10, expected=Expected.TRAINABLE, **seen)
    return net


def keeping() -> Sketch:
    """The same, with what each layer keeps for the backward pass: most of it the root itself."""
    net = trained()
    net.layer("relu", "ReLU")
    net.layer("drop", "Dropout")
    net.saved = {"": 3 * 1024**2, "conv": 0, "bn": 0, "head": 768, "relu": 1536, "drop": 0}
    return net


CONDITIONS = Conditions(
    0, "cpu", "2.14.1", "SGD from train.py:optimizer", "float32[8, 3, 16, 16] from train.py:example_inputs", "", 1
)


def verified(findings: Sequence[Finding] = (), sketch: Sketch | None = None, **more: Any) -> Report:
    """A `verify` report; `skipped` and `fail_on` may be given."""
    case = (sketch or trained()).case(spec=True, conditions=CONDITIONS)
    return Report("verify", "train.py", "freeze.toml", case, tuple(findings), **more)


DRIFT = Finding(
    "FZ501",
    "frozen-buffer-moved",
    Severity.ERROR,
    ("bn.running_mean", "bn.running_var", "bn.num_batches_tracked"),
    "bn is expected frozen, but its BatchNorm statistics changed in one step: it ran in train mode, and in train mode "
    "a BatchNorm updates them whatever requires_grad says.",
    "model.bn.eval()   # after every model.train()",
    {"largest_change": 0.25, "modules": ["bn"]},
    Location("train.py", 17, "Net.forward", "x = F.relu(self.bn(self.conv(x)))"),
)
IN_OPTIMIZER = Finding(
    "FZ401",
    "frozen-parameter-in-optimizer",
    Severity.WARNING,
    tuple(f"backbone.layer{n}.weight" for n in range(60)),
    "60 frozen tensors sit in the optimizer.",
    "optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)",
)
DROPOUT = Finding(
    "FZ503",
    "dropout-active-in-frozen-layer",
    Severity.NOTE,
    ("backbone.drop",),
    "backbone.drop is active although backbone is frozen.",
    "",
)
NO_OPTIMIZER = [
    Skipped(code, "train.py defines neither build_optimizer nor optimizer") for code in ("FZ401", "FZ402", "FZ403")
]
