"""Why a selector selects nothing, and what its author may have meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from ..records import Selector, Unmatched
from .selection import OutOfRange, Selection, items
from .selectors import Pattern, glob_regex, has_wildcard, parse_selector

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Names that a wrapper puts into every path and that freezecheck strips."""

_MOST = 3
_LARGE = 5000
"""Above so many names only the modules' are compared letter by letter."""


def explain(selector: Selector, selection: Selection) -> Unmatched:
    """Describe a selector that selects nothing: the nearest names of the model, best first, and a known reason."""
    pattern = replace(parse_selector(selector.text), negated=False)
    if reason := _of_another_kind(selector, pattern, selection):
        return Unmatched(selector, (), reason)
    offers = _class_names(pattern, selection) if pattern.kind == "type" else _offers(selector, pattern, selection)
    mark = "!" if selector.text.startswith("!") else ""
    nearest = tuple(mark + offer for offer in offers)
    meant = _meant(offers[0], selection) if offers and not mark else ()
    return Unmatched(selector, nearest[:_MOST], _slip(selector, pattern, selection), meant)


def _meant(offer: str, selection: Selection) -> tuple[str, ...]:
    """Canonical names of what an offered selector selects."""
    try:
        names = selection.names(parse_selector(offer))
    except (ValueError, OutOfRange):
        return ()
    return tuple(dict.fromkeys(selection.description.by_name[name].name for name in sorted(names)))


def _of_another_kind(selector: Selector, pattern: Pattern, selection: Selection) -> str:
    """What the selector names, when the model has it and it is nothing that this list could hold."""
    names = selection.names(pattern)
    if selector.list == "eval":
        return f"`{min(names)}` is a tensor; `eval` takes modules." if names else ""
    if selector.list == "buffers_may_move" and names:
        return f"It selects {len(names)} parameter{'s' * (len(names) != 1)} and no buffer."
    modules = sorted(selection.modules(pattern))
    return _without_tensors(pattern, modules, selection) if modules else ""


def _slip(selector: Selector, pattern: Pattern, selection: Selection) -> str:
    """The reason why it selects nothing, when that is known and more than a misspelling."""
    text = selector.text.removeprefix("!")
    stripped = ".".join(part for part in text.split(".") if part not in WRAPPERS)
    if stripped != text and _selects(stripped, selector, selection):
        return f"The prefix of a wrapper is stripped from every name: write `{stripped}`."
    if made := _made_of(text, selection):
        return f"`{text}` is computed anew in every forward; its parameters are {made[1]}."
    if other := _other_case(pattern, selection):
        return f"Selectors are case-sensitive, and the model has `{other}`."
    for number in re.finditer(r"\.\d+(?=\.|$)", text):
        layer = selection.description.layer_by_name.get(text[: number.start()])
        if layer and layer.items is not None and number[0][1:] not in layer.items:
            return f"`{layer.name}` has {items(layer.items)}."
    return ""


def _made_of(text: str, selection: Selection) -> tuple[str, str] | None:
    """The selector of what a parametrized weight is made of, and its tensors in words; None for any other name."""
    owner, _, key = text.rpartition(".")
    parametrized = f"{owner}.parametrizations.{key}".removeprefix(".")
    names = [name for name in selection.description.by_name if name.startswith(f"{parametrized}.")]
    offer = parametrized
    if not names:  # the older weight_norm, spectral_norm and pruning, which work by hooks
        offer = f"{text}_*"
        names = [f"{text}_{end}" for end in ("g", "v", "orig") if f"{text}_{end}" in selection.description.by_name]
    return (offer, " and ".join(f"`{name}`" for name in names)) if names else None


def _without_tensors(pattern: Pattern, modules: list[str], selection: Selection) -> str:
    layer = selection.description.layer_by_name[modules[0]]
    where = f"`{layer.name}`" if layer.name else "the model"
    if pattern.kind == "type":
        below = next((name for path in modules for name in selection.tensors.under(path)), None)
        if below is not None:
            return (
                f"Modules of that class ({where}) own no tensors themselves, only their submodules do (`{below}`);"
                " `type:` selects what a module owns itself."
            )
    if len(modules) == 1:
        return f"{where} is a {layer.type} and has no parameters and no buffers."
    return f"The {len(modules)} modules it names ({where}, …) have no parameters and no buffers."


def _other_case(pattern: Pattern, selection: Selection) -> str | None:
    """A name of the model that the selector would select if case did not count."""
    candidates: Iterable[str] = _universe(selection)
    if pattern.kind == "re":
        matches = re.compile(pattern.rest, re.IGNORECASE).search
    elif pattern.kind == "type":
        matches = re.compile(glob_regex(pattern.rest), re.IGNORECASE).fullmatch
        candidates = _classes(selection)
    elif pattern.indexed:
        return None
    else:
        matches = re.compile(glob_regex(pattern.rest), re.IGNORECASE | re.DOTALL).fullmatch
    return next((name for name in candidates if matches(name)), None)


def _universe(selection: Selection) -> Iterator[str]:
    """All modules' paths, then all tensors' names."""
    yield from (layer.name for layer in selection.description.layers if layer.name)
    yield from selection.description.by_name


def _classes(selection: Selection) -> dict[str, None]:
    return {base: None for layer in selection.description.layers for base in (layer.type, *layer.bases)}


def _class_names(pattern: Pattern, selection: Selection) -> list[str]:
    """`type:` selectors that would select something."""
    owning = (layer for layer in selection.description.layers if layer.tensors)
    classes = {base: None for layer in owning for base in (layer.type, *layer.bases) if base != "Module"}
    word = pattern.rest.strip("*?")
    longer = [f"type:{word}*"] if word and any(name.startswith(word) for name in classes) else []
    return longer + [f"type:{name}" for name in _close(word, classes)]


def _offers(selector: Selector, pattern: Pattern, selection: Selection) -> list[str]:
    """What the author of a path may have meant, the best guess first."""
    if pattern.kind == "re":
        return []
    text = selector.text.removeprefix("!")
    other = _other_case(pattern, selection)
    plain = not pattern.is_glob and not pattern.indexed
    if plain and (made := _made_of(text, selection)):
        return [made[0]]
    guesses = [*_corrected(text, selection), *(_elsewhere(text, selection) if plain else ())]
    found = [guess for guess in guesses if _selects(guess, selector, selection)]
    if other is not None:
        found.insert(0, other)
    if not found and plain:
        names = list(_universe(selection))
        if len(names) > _LARGE:
            names = [layer.name for layer in selection.description.layers]
        found = _close(text, names)
    return list(dict.fromkeys(found))


def _corrected(text: str, selection: Selection) -> Iterator[str]:
    """The selector with each part that the model has nowhere replaced by the nearest that it has."""
    known = {part for name in _universe(selection) for part in name.split(".")}
    pieces = re.split(r"(\.|\[[^\[\]]*\])", text)
    corrected = [
        piece if piece in known or has_wildcard(piece) or not piece or piece[0] in ".[" else _best(piece, known)
        for piece in pieces
    ]
    yield "".join(corrected)
    # "*.bn1" asks for a module above bn1, and "blocks.*.bn1" for one between the two
    yield "".join(corrected).removeprefix("*.").replace(".*.", ".")
    yield from _step_by_step(text, selection)


def _step_by_step(text: str, selection: Selection) -> Iterator[str]:
    """From the root down: the child of that name, else the one whose name is nearest."""
    if has_wildcard(text) or "[" in text:
        return
    path = ""
    for part in text.split("."):
        prefix = f"{path}." if path else ""
        below = {name[len(prefix) :].partition(".")[0] for name in selection.tensors.under(path) if name != path}
        below |= {name[len(prefix) :].partition(".")[0] for name in selection.layers.under(path) if name != path}
        below.discard("")
        if part not in below and not (close := _close(part, sorted(below))):
            return
        path = prefix + (part if part in below else close[0])
    yield path


def _elsewhere(text: str, selection: Selection) -> Iterator[str]:
    """The same name below another module, or without its first parts."""
    ending = f".{text}"
    yield from islice((name for name in _universe(selection) if name.endswith(ending)), _MOST)
    parts = text.split(".")
    known = set(_universe(selection))
    for start in range(1, len(parts)):
        if (shorter := ".".join(parts[start:])) in known:
            yield shorter
            return


def _selects(text: str, selector: Selector, selection: Selection) -> bool:
    """Whether a selector would select something where this one stands."""
    try:
        pattern = parse_selector(text)
        return bool(selection.modules(pattern) if selector.list == "eval" else selection.names(pattern))
    except (ValueError, OutOfRange):
        return False


def _best(word: str, among: Iterable[str]) -> str:
    return next(iter(_close(word, sorted(among))), word)


def _close(word: str, among: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(word, list(among), n=_MOST)
