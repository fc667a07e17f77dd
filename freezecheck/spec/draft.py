"""A first freeze spec, drafted from the model's present `requires_grad` flags; a person reads and corrects it.

Selectors are the largest subtrees that wholly train (or, where that list is shorter, that are wholly frozen), then
put together: neighbours of one ModuleList to a slice, many layers of one name to a glob, many of one class to `type:`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ..records import Description
from .draft_selectors import Tree, selectors


@dataclass(frozen=True, slots=True)
class _Lists:
    trainable: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()


def draft(description: Description, target: str, arguments: Sequence[str] = ()) -> str:
    """Return a commented spec (TOML) that expects of every tensor what its flags say now.

    `target` is written as it is given: a path in it must be relative to the folder that the spec will lie in. What it
    was built with, `arguments` as on the command line, is told beside it. Buffers follow the parameters beside them.
    A tied tensor is covered under all of its names.
    """
    tree = Tree(description)
    lists = _lists(tree)
    blocks = [
        [
            "# What this model trains, and what it must leave as it is.",
            "# Drafted by `freezecheck init` from the model's requires_grad flags: correct it to what you mean, then",
            "# `freezecheck verify` holds the model, its optimizer and a real training step against it.",
            f"target = {_text(target)}",
            *_built_with(arguments),
        ],
        _expectation(lists, description),
        _eval_mode(tree),
        [
            "# What else the check may need, where the model's file defines no build_optimizer, example_inputs or",
            "# compute_loss itself:",
            '# optimizer = "train.py:build_optimizer"      # or { name = "AdamW", lr = 1e-3 }',
            "# inputs = { shape = [2, 3, 224, 224] }",
            '# loss = "train.py:compute_loss"',
        ],
        _counts(description),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _lists(tree: Tree) -> _Lists:
    """Choose the shorter list; when only one is given, the tensors it does not name are expected the opposite."""
    trains, frozen = selectors(tree, trainable=True), selectors(tree, trainable=False)
    if not frozen or not trains:
        return _Lists(trainable=trains) if trains else _Lists(frozen=frozen)
    return _Lists(frozen=frozen) if len(frozen) < len(trains) else _Lists(trainable=trains)


def _built_with(arguments: Sequence[str]) -> list[str]:
    if not arguments:
        return []
    what = "# It was built with arguments, which a spec does not hold; `freezecheck verify` has to be given them too:"
    return [what, f"#   {' '.join(arguments)}"]


def _expectation(lists: _Lists, description: Description) -> list[str]:
    if not lists.trainable and not lists.frozen:
        return _nothing_trains(description)
    key, other = ("trainable", "frozen") if lists.trainable else ("frozen", "trainable")
    names = lists.trainable or lists.frozen
    lines = _array(key, names)
    return lines if names == ("*",) else [*lines, f'rest = "{other}"' + " " * 10 + "# all tensors that no list names"]


def _nothing_trains(description: Description) -> list[str]:
    if not description.tensors:
        return ["# The model has no parameters and no buffers: there is nothing to expect."]
    if any(tensor.kind == "parameter" for tensor in description.tensors):
        return ["# None of the model's parameters can have a gradient: nothing in it can train."]
    return [
        "# The model has no parameters, only buffers: nothing in it can train. If they are to stay as they are:",
        '# frozen = ["*"]',
    ]


def _eval_mode(tree: Tree) -> list[str]:
    """Frozen parts whose buffers move in train mode: written down where they are in eval mode now, else only said."""
    frozen = [path for path in tree.whole(trainable=False) if _drifts(tree, path)]
    root_trains = tree.layers[""].training if "" in tree.layers else False
    resting = [path for path in frozen if path and root_trains and _all_rest(tree, path)]
    moving = [path for path in frozen if path not in resting]
    lines: list[str] = []
    if resting:
        lines += [
            "# These are frozen, hold buffers such as BatchNorm statistics, and are in eval mode now. model.train()",
            "# ends that: this line says that your training loop calls .eval() on them after it. If it does not,",
            "# delete the line, and `freezecheck verify` shows what moves.",
            *_array("eval", tree.said(resting)),
        ]
    if moving:
        said = tree.said(moving)
        lines += [
            "# These are frozen, but their buffers (BatchNorm statistics and the like) move while they are in train",
            "# mode; `freezecheck verify` reports it when they do. Either call .eval() on them after every",
            "# model.train(), and say so here:",
            *(f"# {line}" for line in _array("eval", said)),
            "# or, if the statistics are meant to adapt:",
            *(f"# {line}" for line in _array("buffers_may_move", said)),
        ]
    return lines


def _drifts(tree: Tree, path: str) -> bool:
    return any(layer.statistics for layer in tree.below(path))


def _all_rest(tree: Tree, path: str) -> bool:
    return not any(layer.training for layer in tree.below(path))


def _counts(description: Description) -> list[str]:
    parameters = [tensor for tensor in description.tensors if tensor.kind == "parameter"]
    if unsized := [tensor.name for tensor in parameters if not tensor.shape and not tensor.numel]:
        return _not_locked(unsized)
    trains = sum(tensor.numel for tensor in parameters if tensor.requires_grad)
    return [
        "# A lock: the check fails when the model no longer has exactly these.",
        "[expect]",
        f"trainable_parameters = {trains:_}",
        f"frozen_parameters = {sum(tensor.numel for tensor in parameters) - trains:_}",
    ]


def _not_locked(lazy: Sequence[str]) -> list[str]:
    one = len(lazy) == 1
    what = f"the size of one parameter ({lazy[0]})" if one else f"the sizes of {len(lazy):,} parameters ({lazy[0]} …)"
    return [
        f"# No counts are locked under [expect]: {what}",
        f"# {'is' if one else 'are'} not known before the first forward, which gives a lazy layer its weights.",
    ]


def _array(key: str, values: Sequence[str], width: int = 110) -> list[str]:
    """Return `key = [...]` on one line where it fits, else one value a line."""
    one = f"{key} = [{', '.join(map(_text, values))}]"
    if len(one) <= width:
        return [one]
    return [f"{key} = [", *(f"    {_text(value)}," for value in values), "]"]


def _text(value: str) -> str:
    """Return a TOML basic string: JSON's escapes are all TOML's too, but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
