"""Which tensors and layers of the model each finding is about."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..records import Finding, Json, Report

QUOTED = re.compile(r"`([^`]+)`")
"""A name or a piece of code in a finding's message."""

Subjects = tuple[tuple[str, ...], ...]
"""For each finding the canonical names of tensors, and the paths of layers, that it is about."""


def subjects(report: Report) -> Subjects:
    """Return for each finding what it is about.

    These are the tensors that it lists; where it lists none of the model's (an optimizer holds a replaced head), those
    named in its evidence, else in its message.
    """
    names = {name: facts.name for facts in report.case.facts for name in facts.tensor.names}
    names |= {layer.name: layer.name for layer in report.case.layers if layer.name}
    return tuple(_about(finding, names) for finding in report.findings)


def _about(finding: Finding, names: dict[str, str]) -> tuple[str, ...]:
    for said in (finding.tensors, _strings(finding.evidence), QUOTED.findall(finding.message)):
        if found := tuple(dict.fromkeys(names[name] for name in said if name in names)):
            return found
    return ()


def _strings(value: Json) -> Iterator[str]:
    """Give every string in a piece of evidence, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
