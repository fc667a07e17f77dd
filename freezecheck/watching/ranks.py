"""One report over all ranks of a distributed training.

Each rank judges what it sees: gradients and weights as it holds them, of DTensor shards its own part, compared
locally. At the end one small object per rank is gathered (`all_gather_object`): its findings, and a digest of every
flag and of every optimizer's content. Ranks that disagree on these do not fail, they hang or drift in real life; here
they are a finding, FZ109. Rank 0 reports; every rank ends with the same exit code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch.distributed as dist

from ..records import Finding, Report
from ..rules.ranks_disagree import disagreements


@dataclass(frozen=True)
class Seen:
    """What one rank tells the others."""

    findings: tuple[Finding, ...]
    flags: dict[str, bool]
    """`requires_grad` by tensor name."""
    groups: dict[str, tuple[int, ...]]
    """Parameter groups by tensor name."""


def rank() -> int:
    """Return the rank of this process; 0 outside of a distributed training."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def agreed(report: Report) -> Report:
    """Return the report over all ranks; the report itself where there is but one."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return report
    own = Seen(
        report.findings,
        {f.name: f.tensor.requires_grad for f in report.case.parameters},
        {f.name: tuple(m.group for m in f.memberships) for f in report.case.parameters},
    )
    every: list[Seen] = [own] * dist.get_world_size()
    dist.all_gather_object(every, own)
    return replace(report, findings=_merged(every))


def _merged(every: Sequence[Seen]) -> tuple[Finding, ...]:
    found = disagreements([seen.flags for seen in every], [seen.groups for seen in every])
    merged: dict[tuple[str, tuple[str, ...]], tuple[Finding, list[int]]] = {}
    for number, seen in enumerate(every):
        for finding in seen.findings:
            merged.setdefault((finding.code, finding.tensors), (finding, []))[1].append(number)
    findings = [
        finding if len(ranks) == len(every) else replace(finding, evidence={**finding.evidence, "ranks": ranks})
        for finding, ranks in merged.values()
    ]
    return (*found, *sorted(findings, key=lambda f: (-f.severity.rank, f.code)))
