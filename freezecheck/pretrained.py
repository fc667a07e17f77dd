"""What is frozen, held against the checkpoint that the model starts from."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING

from . import checkpoint
from .errors import UsageError
from .records import Change, Expected, Plan

if TYPE_CHECKING:
    from .probe.describe import Anatomy
    from .spec import Spec


def against_pretrained(
    spec: Spec, body: Anatomy, plan: Plan, trained: Collection[int]
) -> tuple[dict[str, Change], str, tuple[str, ...]]:
    """Compare the frozen tensors, as they are now, with the spec's checkpoint; also its name, and notes on its reading.

    By canonical name; a tied tensor is in the checkpoint when it is there under any of its names. Left out are
    buffers that no checkpoint holds (not persistent) and what was `trained` before (identities). Raises UsageError
    when the checkpoint cannot be read or is of another model.
    """
    assert spec.pretrained is not None, "asked only where the spec names one"
    passing = _passing(body)
    meant = {
        tensor.name: tensor.names
        for tensor in body.description.tensors
        if plan.expected[tensor.name] is Expected.FROZEN
        and not passing.issuperset(tensor.names)
        and id(body.tensors[tensor.name]) not in trained
    }
    every = {name: body.tensors[tensor.name] for name, tensor in body.description.by_name.items()}
    try:
        with checkpoint.open(os.path.join(spec.folder, spec.pretrained), spec.pretrained_key) as stored:
            changes = checkpoint.compare_model(stored, every)
            notes = tuple(note.replace("`--key ", "`key = ") for note in stored.notes)
    except UsageError as error:
        error.location = spec.locations.get("pretrained")
        if "--key" in error.hint:
            error.hint = f'`pretrained = {{ file = "{spec.pretrained}", key = "…" }}` names the one that is meant.'
        raise
    return {name: _best([changes[one] for one in names]) for name, names in meant.items()}, stored.said, notes


def _passing(body: Anatomy) -> set[str]:
    """Names of the buffers that a state dict leaves out."""
    return {
        f"{path}.{key}".removeprefix(".")
        for path, module in body.modules.items()
        for key in module._non_persistent_buffers_set
    }


def _best(changes: list[Change]) -> Change:
    """Of a tied tensor's names, the one that the checkpoint has."""
    return next((change for change in changes if change.before is not None), changes[0])
