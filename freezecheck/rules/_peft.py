"""Models that PEFT wraps: it freezes everything, adds adapters, and saves only those and `modules_to_save`."""

from __future__ import annotations

from ..records import Case
from ._words import ancestors


def wrapper(case: Case, name: str) -> str | None:
    """The path of the `PeftModel` around a tensor or layer; None where there is none."""
    return next((path for path in ancestors(name) if _is(case, path, "PeftModel")), None)


def adapted(case: Case, name: str) -> bool:
    """Whether this layer lies inside a model that PEFT put adapters into."""
    return any(_is(case, path, "BaseTuner") for path in ancestors(name))


def left_out(case: Case, name: str) -> bool:
    """Whether a tensor is the wrapped model's own: PEFT froze it, and would not save it whatever its flag."""
    root = wrapper(case, name)
    if root is None or not name.startswith(f"{root}.base_model.".removeprefix(".")):
        return False
    return not any(
        f"{path}.base_layer" in case.layer_of or _is(case, path, "AuxiliaryTrainingWrapper") for path in ancestors(name)
    )


def original(case: Case, name: str) -> bool:
    """Whether a tensor is what a trained copy under `modules_to_save` stands in for: it stays frozen by design."""
    path, mark, _ = name.rpartition(".original_module.")
    return bool(mark) and _is(case, path, "AuxiliaryTrainingWrapper")


def config(case: Case, root: str) -> str:
    """The class of the configuration that the adapters of a `PeftModel` were made from: `LoraConfig`."""
    tuner = case.layer_of.get(f"{root}.base_model" if root else "base_model")
    known = tuner is not None and "BaseTuner" in tuner.layer.bases
    return f"{tuner.layer.type.removesuffix('Model')}Config" if tuner is not None and known else "the PEFT config"


def below(root: str, name: str) -> str:
    """A layer's path as PEFT's configuration knows it: in the model that was wrapped; empty for that itself."""
    inner = f"{name}.".removeprefix(f"{root}." if root else "").removeprefix("base_model.")
    return inner.removeprefix("model.").removesuffix(".")


def _is(case: Case, path: str, *bases: str) -> bool:
    layer = case.layer_of.get(path)
    return layer is not None and not {*bases}.isdisjoint(layer.layer.bases)
