"""Where each key and each array element of a TOML text stands: tomllib gives the values, but no lines."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node

Path = tuple[str | int, ...]
"""Keys and array positions from the top, such as `("inputs", "shape", 0)`."""


def toml_lines(text: str) -> dict[Path, int]:
    """Return the line (from 1) of every key, table and array element of a TOML text.

    A key in a table header has the header's line. The text should be valid; of an invalid one, what
    tree-sitter could still make sense of is returned.
    """
    import tree_sitter_toml
    from tree_sitter import Language, Parser

    tree = Parser(Language(tree_sitter_toml.language())).parse(text.encode(errors="replace"))
    found: dict[Path, int] = {}
    elements: dict[Path, int] = {}
    for path, line in _document(tree.root_node, elements):
        for end in range(1, len(path) + 1):
            found.setdefault(path[:end], line)
    return found


def _document(root: Node, elements: dict[Path, int]) -> Iterator[tuple[Path, int]]:
    for node in root.named_children:
        if node.type == "pair":
            yield from _pair(node, ())
        elif node.type in ("table", "table_array_element"):
            header, *pairs = [child for child in node.named_children if child.type != "comment"]
            keys = _keys(header)
            path = _through_arrays(keys[:-1], elements)
            path = (*path, keys[-1])
            if node.type == "table_array_element":
                elements[path] = elements.get(path, -1) + 1
            path = _last_element(path, elements)
            yield path, _line(node)
            for pair in pairs:
                yield from _pair(pair, path)


def _through_arrays(keys: tuple[str, ...], elements: dict[Path, int]) -> Path:
    """The path of these keys, where each array of tables stands for its last element so far."""
    path: Path = ()
    for key in keys:
        path = _last_element((*path, key), elements)
    return path


def _last_element(path: Path, elements: dict[Path, int]) -> Path:
    return (*path, elements[path]) if path in elements else path


def _pair(node: Node, above: Path) -> Iterator[tuple[Path, int]]:
    parts = [child for child in node.named_children if child.type != "comment"]
    if node.type != "pair" or len(parts) < 2:
        return
    path = above + _keys(parts[0])
    yield path, _line(node)
    yield from _value(parts[1], path)


def _value(node: Node, path: Path) -> Iterator[tuple[Path, int]]:
    inner = [child for child in node.named_children if child.type != "comment"]
    if node.type == "array":
        for position, child in enumerate(inner):
            yield (*path, position), _line(child)
            yield from _value(child, (*path, position))
    elif node.type == "inline_table":
        for child in inner:
            yield from _pair(child, path)


def _keys(node: Node) -> tuple[str, ...]:
    if node.type == "dotted_key":
        return tuple(key for child in node.named_children for key in _keys(child))
    text = (node.text or b"").decode()
    return (_unquoted(text),) if node.type == "quoted_key" else (text,)


def _unquoted(text: str) -> str:
    try:
        (key,) = tomllib.loads(f"{text} = 0")
    except (tomllib.TOMLDecodeError, ValueError):
        return text
    return str(key)


def _line(node: Node) -> int:
    return node.start_point[0] + 1
