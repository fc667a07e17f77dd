"""Where an attribute is assigned in somebody's source."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from ..places import shown
from ..records import Location


def first_assignment(files: Iterable[str], attribute: str) -> Location | None:
    """Return the first line in `files` that assigns `attribute` (`x.attribute = …` or `setattr(x, "attribute", …)`).

    A file that cannot be read or parsed is passed over: it ran, so whatever it is, it is not for this to judge.
    """
    for file in files:
        try:
            source = Path(file).read_text(encoding="utf-8")
            tree = ast.parse(source)
        except (OSError, ValueError, SyntaxError):
            continue
        lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.expr) and _assigns(node, attribute)]
        if lines:
            line = min(lines)
            return Location(shown(file), line, _function_at(tree, line), source.splitlines()[line - 1].strip())
    return None


def _assigns(node: ast.AST, attribute: str) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr == attribute and isinstance(node.ctx, ast.Store)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr":
        return len(node.args) > 1 and isinstance(node.args[1], ast.Constant) and node.args[1].value == attribute
    return False


def _function_at(tree: ast.Module, line: int) -> str | None:
    """Return the qualified name of the innermost function around a line."""
    best: tuple[int, str] | None = None
    stack: list[tuple[ast.AST, str]] = [(tree, "")]
    while stack:
        node, above = stack.pop()
        for child in ast.iter_child_nodes(node):
            name = above
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                name = f"{above}.{child.name}" if above else child.name
                inside = child.lineno <= line <= (child.end_lineno or child.lineno)
                if inside and not isinstance(child, ast.ClassDef) and (best is None or child.lineno > best[0]):
                    best = (child.lineno, name)
            stack.append((child, name))
    return best[1] if best else None
