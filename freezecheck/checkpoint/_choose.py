"""Finds the state dict in whatever a training saved around it. Pure: what a tensor is, the caller says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import UsageError
from ._names import behind, unwrapped

PRIMARY = ("state_dict", "model_state_dict", "model_state", "model", "module", "network", "net", "weights", "params")
"""Keys under which a training keeps the model that it trains."""
HERE = "."
"""What `--key` calls the top of the file."""


@dataclass(frozen=True)
class Chosen:
    """A state dict, flat, and where it stood."""

    tensors: Mapping[str, Any]
    key: str
    """Path of keys to it, joined by dots; empty for the top."""
    others: tuple[str, ...] = ()
    """Keys that hold tensors too and were passed over."""
    prefix: str = ""
    """The beginning of the names that are meant, with its dot; empty for all."""


def choose(tree: Any, key: str | None, is_tensor: Callable[[Any], bool], said: str) -> Chosen:
    """Return the state dict that the tree holds; `key` names one of several. `said` is the file, for the messages.

    A key that ends in a dot is the beginning of names: in the state dict that is meant without a key, or else in the
    one that the key's first parts lead to. Where no name begins so, the choice stays what it is.

    Raises UsageError when there is none, when there are several and nothing tells which is meant, and when there is
    nothing under `key`.
    """
    if not isinstance(tree, Mapping):
        what = "one tensor" if is_tensor(tree) else f"a {type(tree).__name__}"
        raise UsageError(f"{said} holds {what}, and no state dict", hint="Save `model.state_dict()`.")
    if key is not None and is_prefix(key):
        return _beginning(tree, key, is_tensor, said)
    if key is not None:
        return _named(tree, key, is_tensor, said)
    node, path, others = tree, "", []
    while True:
        held = {str(k): v for k, v in node.items() if isinstance(v, Mapping) and not is_optimizer(v)}
        held = {k: v for k, v in held.items() if any(True for _ in flat(v, is_tensor))}
        own = sum(is_tensor(v) for v in node.values())
        known = [k for k in PRIMARY if k in held]
        if not known and (not held or own >= max(sum(1 for _ in flat(v, is_tensor)) for v in held.values())):
            break
        if not known and path.rpartition(".")[2] in PRIMARY:
            break  # a state dict in parts: {"encoder": {...}, "decoder": {...}} under a key that says what it is
        if len(known) > 1 or (not known and (len(held) > 1 or own)):
            raise _ambiguous(known or list(held), path, bool(own and not known), said)
        name = known[0] if known else next(iter(held))
        others += [_joined(path, k) for k in held if k != name]
        node, path = held[name], _joined(path, name)
    return _found(node, path, is_tensor, said, tuple(others))


def flat(node: Mapping[Any, Any], is_tensor: Callable[[Any], bool], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give every tensor below a mapping with the keys that lead to it joined by dots; optimizers are passed over."""
    for key, value in node.items():
        name = f"{prefix}{key}"
        if is_tensor(value):
            yield name, value
        elif isinstance(value, Mapping) and not is_optimizer(value):
            yield from flat(value, is_tensor, f"{name}.")


def is_optimizer(node: Any) -> bool:
    """Whether this is what an optimizer's `state_dict()` returns."""
    return isinstance(node, Mapping) and "param_groups" in node and "state" in node


def is_prefix(key: str | None) -> bool:
    """Whether a key is the beginning of names rather than the path to a state dict."""
    return key is not None and key.endswith(".") and key != HERE


def _beginning(tree: Mapping[Any, Any], key: str, is_tensor: Callable[[Any], bool], said: str) -> Chosen:
    """The state dict in which a beginning of names is looked for: the usual one, or the one that its keys lead to."""
    usual: Chosen | UsageError
    try:
        usual = choose(tree, None, is_tensor, said)
        if behind(unwrapped(usual.tensors), key):
            return replace(usual, prefix=key)
    except UsageError as error:
        usual = error
    node, rest = _led_to(tree, key.removesuffix("."))
    if node is not tree and isinstance(node, Mapping) and not is_optimizer(node):
        return replace(_found(node, key, is_tensor, said), prefix=f"{rest}." if rest else "")
    if isinstance(usual, UsageError):
        raise usual
    return replace(usual, prefix=key)


def _led_to(tree: Mapping[Any, Any], key: str) -> tuple[Any, str]:
    """What stands where the keys lead, and what is left of the path where none leads on."""
    node: Any = tree
    rest = key
    while rest:
        fitting = [str(k) for k in (node if isinstance(node, Mapping) else ()) if f"{rest}.".startswith(f"{k}.")]
        if not fitting:
            break
        name = max(fitting, key=len)
        node = next(v for k, v in node.items() if str(k) == name)
        rest = rest[len(name) + 1 :]
    return node, rest


def _named(tree: Mapping[Any, Any], key: str, is_tensor: Callable[[Any], bool], said: str) -> Chosen:
    node, rest = _led_to(tree, "" if key == HERE else key)
    if rest or not isinstance(node, Mapping) or is_optimizer(node):
        raise _nothing_under(tree, key, is_tensor, said)
    return _found(node, key, is_tensor, said)


def _found(
    node: Mapping[Any, Any], path: str, is_tensor: Callable[[Any], bool], said: str, others: tuple[str, ...] = ()
) -> Chosen:
    tensors = dict(flat(node, is_tensor))
    if not tensors:
        under = f" under `{path}`" if path else ""
        raise UsageError(f"{said} holds no tensors{under}", hint="Name the checkpoint that holds the model's weights.")
    return Chosen(tensors, path, others)


def _ambiguous(keys: list[str], path: str, top: bool, said: str) -> UsageError:
    named = [f"`{_joined(path, key)}`" for key in keys] + ([f"`{path or HERE}` (this level itself)"] if top else [])
    return UsageError(
        f"{said} holds several state dicts: {', '.join(named)}",
        hint=f"Say which one is meant, such as `--key {_joined(path, keys[0])}`.",
    )


def _nothing_under(tree: Mapping[Any, Any], key: str, is_tensor: Callable[[Any], bool], said: str) -> UsageError:
    held = [str(k) for k, v in tree.items() if isinstance(v, Mapping) and any(True for _ in flat(v, is_tensor))]
    where = f"; the keys that hold some are {', '.join(f'`{k}`' for k in held[:12])}" if held else ""
    return UsageError(
        f"{said} holds no state dict under the key `{key}`{where}",
        hint=f"Give one of these, or `{HERE}` for the top of the file." if held else "Leave `--key` out.",
    )


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
