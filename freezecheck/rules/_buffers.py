"""Which buffers of frozen layers move: FZ501 and FZ502 share this, and FZ503 its way of naming the frozen layer."""

from __future__ import annotations

from collections.abc import Sequence

from ..records import Case, Expected, Facts, LayerFacts
from ._words import FEW, MANY, ancestors, code, during, group, in_spec, largest, listing, number


def drifting(case: Case) -> list[Facts]:
    """Buffers that are expected frozen and changed; on the meta device, those that their layer's mode lets change."""
    return [
        fact
        for fact in case.buffers
        if fact.expected is Expected.FROZEN
        and not fact.may_move
        and (fact.moved or (fact.moved is None and movable(case, fact)))
        and not (fact.name.endswith("num_batches_tracked") and _still_beside(case, fact))
    ]


def _still_beside(case: Case, fact: Facts) -> bool:
    """Whether the statistics beside a counter stood still (momentum 0.0): then its steps change nothing."""
    beside = [f for f in case.buffers if f.tensor.owner == fact.tensor.owner and f.name != fact.name]
    return any(f.name.endswith("running_mean") and f.moved is False for f in beside)


def movable(case: Case, fact: Facts) -> bool:
    """Whether its layer trains and is one that changes this buffer while it trains."""
    layer = case.layer_of.get(fact.tensor.owner)
    return layer is not None and layer.training is True and fact.name in layer.movable_buffers


def undone(case: Case, fact: Facts) -> bool:
    """Whether its layer stood in eval mode beside a root in train mode, and `model.train()` put it back."""
    layer, root = case.layer_of.get(fact.tensor.owner), case.layer_of.get("")
    if layer is None or root is None:
        return False
    return root.layer.training and not layer.layer.training and layer.training is True


def in_eval(case: Case, path: str) -> bool:
    """Whether this layer was found, or trained, in eval mode while the model as a whole was not."""
    layer, root = case.layer_of.get(path), case.layer_of.get("")
    if layer is None or root is None:
        return False
    ran = layer.training is False and root.training is not False
    return ran or (root.layer.training and not layer.layer.training)


def frozen_layer(case: Case, layer: str) -> str:
    """The outermost layer around (or at) this one of which everything is expected frozen; else the layer itself."""
    for name in (*ancestors(layer), layer):
        around = case.layer_of.get(name)
        if around is not None and around.expected == "frozen":
            return name
    return layer


def by_frozen_layer(case: Case, facts: list[Facts]) -> dict[str, list[Facts]]:
    """These buffers, each under the outermost frozen layer around it."""
    return group(facts, key=lambda fact: frozen_layer(case, fact.tensor.owner))


def owners(case: Case, facts: list[Facts]) -> list[LayerFacts]:
    """The layers that own these buffers, each once."""
    found = dict.fromkeys(fact.tensor.owner for fact in facts)
    return [case.layer_of[name] for name in found if name in case.layer_of]


def whose(layers: list[LayerFacts]) -> str:
    """`2 BatchNorm2d layers (`backbone.bn1` and `backbone.bn2`)`, a clause a type, spectral norms by what they norm."""
    normed = [layer for layer in layers if _spectral(layer)]
    others = [layer for layer in layers if layer not in normed]
    parts = []
    if normed:
        inside = dict.fromkeys(layer.name.partition(".parametrizations.")[0] or "the model" for layer in normed)
        parts.append(f"the spectral {'norm' if len(inside) == 1 else 'norms'} of {listing(inside)}")
    for kind, members in group(others, key=lambda layer: layer.layer.type).items():
        paths = listing(layer.name or "the model" for layer in members)
        if not members[0].name:
            paths = "(the model itself)"
        parts.append(f"{kind} {paths}" if len(members) == 1 else f"{len(members):,} {kind} layers ({paths})")
    return " and ".join(parts)


def _spectral(layer: LayerFacts) -> bool:
    """Whether it keeps the vectors of a spectral norm, as torch's parametrization does or its older hook."""
    if layer.layer.type == "_SpectralNorm":
        return True
    own = {*layer.layer.tensors}
    return any(name.endswith("_orig") and f"{name.removesuffix('_orig')}_u" in own for name in own)


def powered(layers: list[LayerFacts]) -> str:
    """Why train mode moves the vectors of a spectral norm; empty where there is none."""
    return ", in which a power iteration moves u and v" if layers and all(map(_spectral, layers)) else ""


def seen(case: Case, facts: list[Facts]) -> str:
    """`changed by up to 0.21 in 3 steps`, over the floating buffers if there are any: a counter's step says little."""
    if not any(fact.moved for fact in facts):
        return "will change in training"
    floating = [fact for fact in facts if fact.tensor.differentiable]
    far = largest(fact.max_abs_change for fact in floating or facts)
    return f"changed{'' if far is None else f' by up to {number(far)}'} {during(case)}"


def called(layer: str) -> str:
    """A layer's name in a sentence."""
    return f"`{layer}`" if layer else "the model"


def by_design(case: Case, facts: list[Facts]) -> bool:
    """Whether any of these buffers is one that its layer moves in train mode, and eval mode would hold."""
    kinds = {fact.name.rpartition(".")[2] for fact in facts}
    own = {name for layer in owners(case, facts) for name in layer.layer.statistics}
    return bool(kinds & _STATISTICS) or any(fact.name in own for fact in facts)


_STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked"})


def may_move(layers: Sequence[str], facts: list[Facts]) -> str:
    """What to change where the layer's own forward gives a buffer a new value in train mode."""
    moves = in_spec("buffers_may_move", [fact.name for fact in facts] if len(facts) <= FEW else layers)
    return (
        f"{eval_calls(layers)} after every model.train() (or in an override of train()), with the update under `if "
        f"self.training` in the forward; or {moves} in the spec if it is meant to move"
    )


def keep_eval(layers: Sequence[str]) -> str:
    """The lines that hold the buffers, and the two lines of the spec for who knows better."""
    held, moves = in_spec("eval", layers), in_spec("buffers_may_move", layers)
    return (
        f"{eval_calls(layers)} after every model.train() (or in an override of train()); in the spec {held} if the "
        f"loop does that already, or {moves} if they may move"
    )


def eval_calls(layers: Sequence[str]) -> str:
    """The line that puts these layers in eval mode; many are counted."""
    if len(layers) > MANY:
        return f"call .eval() on these {len(layers):,} layers"
    if len(layers) > FEW:
        return f"for layer in ({', '.join(code(layer) for layer in layers)}): layer.eval()"
    return "; ".join(f"{code(layer)}.eval()" for layer in layers)
