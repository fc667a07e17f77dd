"""Inputs of a transformers model, read from its configuration; the library itself is not imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .declared import said_of
from .found import Found
from .signature import parameters_of

_LENGTH = 16
"""Tokens of a text, where the model has room for so many."""
_DECODER_LENGTH = 8
_LONGEST = 4096
_SECOND_OF_SOUND = 16000


def transformers_inputs(model: nn.Module) -> Iterator[Found]:
    """Yield inputs that the model's configuration asks for, the fullest first; nothing for other libraries' models."""
    inner = _inner(model)
    if inner is None:
        return
    for batch in (2, 1):
        for make in _ways(inner, batch):
            with torch.device("meta"):
                said = said_of(make())
            yield Found(make, f"{said}, from the model's transformers config")
    dummy = getattr(inner, "dummy_inputs", None)
    if isinstance(dummy, dict) and dummy:
        yield Found(lambda: dict(dummy), f"{said_of(dummy)}, the model's own dummy_inputs")


def _inner(model: nn.Module) -> nn.Module | None:
    """The transformers model itself; PEFT wraps one."""
    unwrap = getattr(model, "get_base_model", None)
    inner = unwrap() if callable(unwrap) and _is_from(model, "peft") else model
    return (
        inner if isinstance(inner, nn.Module) and _is_from(inner, "transformers") and hasattr(inner, "config") else None
    )


def _is_from(model: nn.Module, library: str) -> bool:
    return any(base.__module__.partition(".")[0] == library for base in type(model).__mro__)


def _ways(model: nn.Module, batch: int) -> Iterator[Callable[[], dict[str, Tensor]]]:
    config: Any = model.config
    names = parameters_of(model)
    main = getattr(model, "main_input_name", "input_ids")
    draw = _drawers(config, batch)
    decoder = bool(getattr(config, "is_encoder_decoder", False)) and "decoder_input_ids" in names
    together = [name for name in draw if name in names and name != "decoder_input_ids"]
    several = main in together and len(together) > 1
    ways = ([main], together) if several else ([main],)
    for wanted in reversed(ways) if several and hasattr(config, "vision_config") else ways:
        if not set(wanted) <= set(draw):
            continue
        for length in dict.fromkeys((_length(config), _positions(config))):
            if length < 1 or length > _LONGEST or (length != _length(config) and "input_ids" not in wanted):
                continue
            # Some models make the decoder's input of the encoder's, and refuse another one.
            for keys in [[*wanted, "decoder_input_ids"], wanted] if decoder else [wanted]:
                yield lambda keys=keys, length=length: {key: draw[key](length) for key in keys}  # type: ignore[misc]  # mypy cannot infer a lambda with a default


def _drawers(config: Any, batch: int) -> dict[str, Callable[[int], Tensor]]:
    """How each kind of input that the configuration speaks of is drawn, for a length of text."""
    draw: dict[str, Callable[[int], Tensor]] = {}
    if _of(config, "vocab_size"):
        draw["input_ids"] = lambda length: _ids(config, batch, length)
        draw["decoder_input_ids"] = lambda length: _ids(config, batch, min(length, _DECODER_LENGTH))
    channels, side = _of(config, "num_channels") or 3, _of(config, "image_size") or 224
    height, width = side if isinstance(side, list | tuple) else (side, side)
    draw["pixel_values"] = lambda _: torch.randn(batch, channels, height, width)
    mel = _of(config, "num_mel_bins")
    if mel:
        frames = 2 * (_of(config, "max_source_positions") or 32)
        draw["input_features"] = lambda _: torch.randn(batch, mel, frames)
    spectrogram = mel and _of(config, "max_length")
    draw["input_values"] = lambda _: torch.randn(
        *((batch, spectrogram, mel) if spectrogram else (batch, _SECOND_OF_SOUND))
    )
    return draw


def _of(config: Any, key: str) -> Any:
    """A setting of the configuration, or of the text's or the image's part of it."""
    parts = (config, getattr(config, "text_config", None), getattr(config, "vision_config", None))
    return next((found for part in parts if (found := getattr(part, key, None)) is not None), None)


def _positions(config: Any) -> int:
    return next((int(n) for key in ("max_position_embeddings", "n_positions") if (n := _of(config, key))), _LENGTH)


def _length(config: Any) -> int:
    return min(_LENGTH, _positions(config)) if _positions(config) > 0 else _LENGTH


def _ids(config: Any, batch: int, length: int) -> Tensor:
    """Random ids that mean nothing special, closed by the end token: some heads read their answer there."""
    vocabulary = int(_of(config, "vocab_size"))
    special = _special(config)
    plain = torch.tensor([n for n in range(vocabulary) if n not in special] or list(range(vocabulary)))
    ids = plain[torch.randint(0, len(plain), (batch, length))]
    end = _of(config, "eos_token_id")
    if isinstance(end, int) and 0 <= end < vocabulary:
        ids[:, -1] = end
    return ids


def _special(config: Any) -> set[int]:
    """Ids that the configuration gives a meaning: padding, end, image and the like."""
    parts = (config, getattr(config, "text_config", None))
    named = (value for part in parts for key, value in vars(part or config).items() if "token_i" in key)
    return {value for value in named if isinstance(value, int)}
