"""One report over all ranks of a distributed training.

Each rank judges what it sees: gradients and weights as it holds them, of DTensor shards its own part, compared locally.
Twice the ranks talk to one another, through the key-value store with which they found each other, never by a
collective: a rank that has gone, or that trains something else, is waited for and then done without.

- Before the first backward every rank tells which parameters require grad and what its optimizers hold. Ranks that
  disagree on that do not fail, they hang in the next collective; here it is finding FZ109, and the training is stopped.
- After the last watched step every rank tells its findings. Rank 0 merges them and reports; all ranks end with the
  same exit code.

What it costs. A watched step costs a rank what it costs a training of one process, over the shards that it holds; no
step has a collective of ours in it. Each of the two talks is once a training: every rank but the first writes one key
and reads two, rank 0 reads one for each rank. A table of P parameters travels as a digest of 32 bytes; only a rank
whose digest differs from rank 0's sends the table itself. So time grows with the number of ranks at rank 0 and hardly
with P. Measured with `tests/benchmarks/ranks.py`, all ranks as threads of one process on two cores, seconds:

    ranks   P = 200   P = 20,000   one rank differs   merging 60-name findings
        2     0.001        0.008              0.061                      0.001
        8     0.002        0.013              0.057                      0.003
       64     0.017        0.028              0.048                      0.025
      512     0.199        0.255              0.263                      0.226

The digest itself takes each rank 0.023 s for 20,000 parameters. Many nodes make no difference but the network's delay:
the store is the one that torchrun's rendezvous already reaches from every node.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

import torch.distributed as dist

from ..records import Finding, Report
from ..rules.ranks_disagree import disagreements

_PATIENCE = timedelta(seconds=30)
"""How long the slowest rank is waited for."""


@dataclass(frozen=True)
class Table:
    """What must be the same on every rank, by tensor name."""

    flags: Mapping[str, bool]
    """`requires_grad`."""
    groups: Mapping[str, tuple[int, ...]]
    """Parameter groups, counted through all optimizers."""

    @cached_property
    def digest(self) -> bytes:
        """The same on two ranks when their tables are (names sorted)."""
        return hashlib.sha256(repr((sorted(self.flags.items()), sorted(self.groups.items()))).encode()).digest()


class Ranks:
    """The processes of this training: one, unless `torch.distributed` says otherwise."""

    def __init__(self) -> None:
        self.number, self.size = 0, 1
        self._store: Any = None
        self._round = 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.size > 1

    def join(self) -> None:
        """Find the others, if the script has joined a distributed training by now; to be called again is harmless."""
        if self._store is None and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self.number, self.size = dist.get_rank(), dist.get_world_size()
            from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

            with suppress(Exception):  # a backend without a store: each rank then reports what it saw itself
                self._store = PrefixStore("freezecheck", _get_default_store())

    def compare(self, table: Table) -> tuple[Finding, ...]:
        """Return what the ranks disagree on; the same on every rank. Waits for the others a while."""
        self._round += 1
        if self.number == 0:
            self._tell("digest", 0, table.digest)
        reference = self._told("digest", 0)
        differs = reference is not None and (self.number == 0 or reference != table.digest)
        self._tell("table", self.number, table if differs else None)
        if self.number == 0:
            others = [self._told("table", rank) for rank in range(1, self.size)]
            differing = [(0, table), *((rank, other) for rank, other in enumerate(others, 1) if other is not None)]
            found = _disagreements(differing) if len(differing) > 1 else ()
            self._tell("found", 0, found)
        return tuple(self._told("found", 0) or ())

    def merged(self, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """Return the findings of all ranks; each once, with the ranks that have it where not all do."""
        self._round += 1
        self._tell("own", self.number, findings)
        if self.number == 0:
            every = [findings, *(self._told("own", rank) for rank in range(1, self.size))]
            self._tell("merged", 0, _merged(every))
        together = self._told("merged", 0)
        return findings if together is None else tuple(together)

    def _tell(self, what: str, rank: int, value: object) -> None:
        with suppress(Exception):  # whoever holds the store has gone
            self._store.set(f"{self._round}/{what}/{rank}", pickle.dumps(value))

    def _told(self, what: str, rank: int) -> Any:
        """What a rank told, None where it does not answer. The store is written by this very training's ranks."""
        key = f"{self._round}/{what}/{rank}"
        try:
            self._store.wait([key], _PATIENCE)
            return pickle.loads(self._store.get(key))
        except Exception:  # a time-out, or a store that has gone; torch raises several kinds
            return None


def agreed(report: Report, ranks: Ranks) -> Report:
    """Return the report over all ranks; the report itself where there is but one."""
    if not ranks.several:
        return report
    table = Table(
        {f.name: f.tensor.requires_grad for f in report.case.parameters},
        {f.name: tuple(m.group for m in f.memberships) for f in report.case.parameters},
    )
    found = ranks.compare(table)
    known = {(f.code, f.tensors) for f in found}
    every = [f for f in ranks.merged(report.findings) if (f.code, f.tensors) not in known]
    return replace(report, findings=(*found, *every))


def _disagreements(tables: Sequence[tuple[int, Table]]) -> tuple[Finding, ...]:
    numbers = [number for number, _ in tables]
    return disagreements([table.flags for _, table in tables], [table.groups for _, table in tables], numbers)


def _merged(every: Sequence[Sequence[Finding] | None]) -> tuple[Finding, ...]:
    merged: dict[tuple[str, tuple[str, ...]], tuple[Finding, list[int]]] = {}
    for number, findings in enumerate(every):
        for finding in findings or ():
            merged.setdefault((finding.code, finding.tensors), (finding, []))[1].append(number)
    answered = sum(findings is not None for findings in every)
    together = [
        finding if len(ranks) == answered else replace(finding, evidence={**finding.evidence, "on_ranks": ranks})
        for finding, ranks in merged.values()
    ]
    return tuple(sorted(together, key=lambda finding: (-finding.severity.rank, finding.code)))
