"""Find the model in a module: by the name that was given, else in the order that the target's form promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from ..errors import TargetError
from ..places import shown
from ..records import Location
from ._build import accepts, build, signature_of, weights_in
from ._lines import lines_of
from ._nearest import listed, perhaps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType


def find_model(module: ModuleType, source: str, name: str | None, arguments: Mapping[str, object]) -> nn.Module:
    """Return the model that `name` makes in `module`, else the one that stands there.

    `source` is the module as the user calls it, for messages. Without a name: `build_model()`, else the instance
    `model`, else the only instance with parameters, else the only class of the file's own that can be built and is no
    part of another. Raises TargetError when there is none or more than one, or when the user's code raises.
    """
    if name:
        return build(_named(module, source, name), f"{source}:{name}", arguments)
    names = vars(module)
    if callable(names.get("build_model")):
        return build(names["build_model"], f"{source}:build_model", arguments)
    if isinstance(names.get("model"), nn.Module):
        return build(names["model"], f"{source}:model", arguments)
    instances = _instances(names)
    if len(instances) == 1:
        (found,) = instances
        return build(instances[found], f"{source}:{found}", arguments)
    if instances:
        raise _several(module, source, list(instances), "modules with parameters")
    return _only_class(module, source, arguments)


def made_at(module: ModuleType, name: str | None) -> Location | None:
    """Return the line that defines what `find_model` finds by a name, `build_model` or `model`; None for a class."""
    lines = lines_of(module)
    names = [name.partition(".")[0]] if name else ["build_model", "model"]
    line = next((lines[one] for one in names if one in lines), None)
    return Location(shown(str(module.__file__)), line) if line else None


def _named(module: ModuleType, source: str, name: str) -> Any:
    found: Any = module
    for done, part in enumerate(name.split(".")):
        if not hasattr(found, part):
            owner = ".".join(name.split(".")[:done])
            names = [n for n in dir(found) if not n.startswith("__")]
            where = f"`{owner}` in {source}" if owner else source
            raise TargetError(f"{where} defines no `{part}`", hint=perhaps(part, names) or _what_there_is(found))
        found = getattr(found, part)
    return found


def _what_there_is(module: Any) -> str:
    own = getattr(module, "__name__", None)
    names = [n for n, value in vars(module).items() if getattr(value, "__module__", None) == own]
    return f"it defines {listed(names[:8])}" if names else ""


def _instances(names: Mapping[str, Any]) -> dict[str, nn.Module]:
    """The module-level modules with weights, one name each, without those that are part of another."""
    found: dict[str, nn.Module] = {}
    for name, value in names.items():
        if isinstance(value, nn.Module) and weights_in(value) and all(value is not other for other in found.values()):
            found[name] = value
    inner = {id(part) for value in found.values() for part in value.modules() if part is not value}
    return {name: value for name, value in found.items() if id(value) not in inner}


def _own_classes(module: ModuleType) -> dict[str, type[nn.Module]]:
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    }


def _only_class(module: ModuleType, source: str, arguments: Mapping[str, object]) -> nn.Module:
    classes = _own_classes(module)
    built: dict[str, nn.Module] = {}
    refused: dict[str, str] = {}
    for name, cls in classes.items():
        if not accepts(cls, arguments):
            refused[name] = f"needs arguments: {signature_of(cls)}"
            continue
        try:
            built[name] = build(cls, f"{source}:{name}", arguments)
        except TargetError as error:
            if len(classes) == 1:
                raise
            refused[name] = error.message
    candidates = _whole({name: model for name, model in built.items() if weights_in(model)} or built)
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    if candidates:
        raise _several(module, source, list(candidates), "classes that could be the model")
    raise _none(module, source, refused)


def _whole(built: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Those that are no part of another."""
    inner = {type(part) for model in built.values() for part in model.modules() if part is not model}
    return {name: model for name, model in built.items() if type(model) not in inner}


def _several(module: ModuleType, source: str, names: list[str], what: str) -> TargetError:
    lines = lines_of(module)
    listing = "\n".join(f"  {name}  ({source}:{lines[name]})" if name in lines else f"  {name}" for name in names)
    return TargetError(
        f"{source} holds {len(names)} {what}:\n{listing}",
        hint=f"name the one to check: {source}:{names[-1]}",
    )


_OTHER_THINGS = ("optim", "schedul", "loss", "loader", "dataset", "inputs", "batch")
"""What the functions beside a model make."""


def _none(module: ModuleType, source: str, refused: Mapping[str, str]) -> TargetError:
    if refused:
        lines = lines_of(module)
        listing = "\n".join(
            f"  {name}{f' (line {lines[name]})' if name in lines else ''} {why}" for name, why in refused.items()
        )
        hint = f"give its arguments: --arg KEY=VALUE; or define build_model() in {source}"
        return TargetError(f"{source} defines no model that can be built without arguments:\n{listing}", hint=hint)
    makers = [name for name, line in lines_of(module).items() if name in vars(module) and _looks_like_factory(name)]
    hint = f"define build_model() in it, or name what makes the model: {source}:{makers[0] if makers else 'NAME'}"
    if "main" in vars(module):
        hint += "; where main() makes the model inside, watch the training itself: freezecheck run"
    return TargetError(f"{source} defines no model: no build_model(), no nn.Module instance or class", hint=hint)


def _looks_like_factory(name: str) -> bool:
    makes = name.lower().startswith(("build", "create", "make", "get_model", "get_net", "load_model"))
    return makes and not any(other in name.lower() for other in _OTHER_THINGS)
