"""Reading the autograd graph: the leaves that a loss reaches, and the custom functions on the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch


def nodes_of(root: Any) -> Iterator[Any]:
    """Yield every node of the graph below `root` once, without recursion (graphs are deeper than Python's stack)."""
    seen, stack = set(), [root]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        stack.extend(below for below, _ in node.next_functions)


def leaves_of(root: Any) -> list[torch.Tensor]:
    """Return the leaf tensors in which the graph below `root` would accumulate gradients."""
    return [node.variable for node in nodes_of(root) if hasattr(node, "variable")]


def leaves_and_functions(root: Any) -> tuple[list[torch.Tensor], list[Any]]:
    """Return the leaves below `root` and the nodes of custom `torch.autograd.Function`s, in one walk."""
    leaves, functions = [], []
    for node in nodes_of(root):
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        elif isinstance(node, torch.autograd.function.BackwardCFunction):
            functions.append(node)
    return leaves, functions
