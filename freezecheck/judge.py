"""From the table of facts to findings: every rule, causes before their effects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from .discover import rules
from .errors import UsageError
from .records import Case, Finding, Hit, Need, Rule, Skipped

NOT_SELECTED = "not among the rules selected"
"""Why a rule was not run when others were asked for."""


@dataclass
class _Judged:
    """A rule that ran: what it found, and the codes that each of its hits made superfluous."""

    rule: Rule
    hits: list[Hit]
    effects: dict[int, set[str]] = field(default_factory=dict)
    """By the hit's place in `hits`."""


def judge(
    case: Case, *, select: Sequence[str] = (), ignore: Sequence[str] = (), phase: str | None = None
) -> tuple[tuple[Finding, ...], tuple[Skipped, ...]]:
    """Run every rule on the table and return its findings, gravest first, and what was not judged and why.

    `select` and `ignore` are prefixes of codes (`FZ4`); an empty `select` takes all. A rule that is not run swallows
    nothing. A finding that explains others carries their codes in `evidence["effects"]`.
    """
    for prefix in (*select, *ignore):
        if not any(rule.code.startswith(prefix) for rule in rules()):
            raise UsageError(f"`{prefix}` is no rule's code or the beginning of one", hint="such as FZ4, or FZ501")
    running, skipped = _choose(case, select, ignore)
    judged: list[_Judged] = []
    for rule in in_order(running):
        _judge_one(case, rule, judged)
    findings = [
        _finding(one.rule, hit, one.effects.get(place, set()), phase)
        for one in judged
        for place, hit in enumerate(one.hits)
    ]
    return tuple(sorted(findings, key=_gravest_first)), tuple(skipped)


def codes_run(case: Case, *, select: Sequence[str] = (), ignore: Sequence[str] = ()) -> tuple[str, ...]:
    """The codes of the rules that `judge` runs, in their order."""
    return tuple(rule.code for rule in _choose(case, select, ignore)[0])


def in_order(every: Iterable[Rule]) -> list[Rule]:
    """The rules with each cause before its effects. Raises graphlib.CycleError when two swallow each other."""
    by_code = {rule.code: rule for rule in every}
    sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(by_code, ()))
    for rule in by_code.values():
        for effect in rule.swallows:
            if effect in by_code:
                sorter.add(effect, rule.code)
    return [by_code[code] for code in sorter.static_order()]


def _judge_one(case: Case, rule: Rule, judged: list[_Judged]) -> None:
    """Run one rule on what its causes leave, and tell the causes what they took away."""
    causes = [one for one in judged if rule.code in one.rule.swallows and one.hits]
    covered = {name for one in causes for hit in one.hits for name in _covers(hit)}
    hits = list(rule.check(case.without(covered)))
    judged.append(_Judged(rule, hits))
    if not covered:
        return
    would_fire = {name for hit in rule.check(case) for name in hit.tensors} - {n for hit in hits for n in hit.tensors}
    for one in causes:
        for place, hit in enumerate(one.hits):
            if would_fire.intersection(_covers(hit)):
                one.effects.setdefault(place, set()).add(rule.code)


def _covers(hit: Hit) -> tuple[str, ...]:
    return hit.tensors if hit.covers is None else hit.covers


def _finding(rule: Rule, hit: Hit, effects: set[str], phase: str | None) -> Finding:
    evidence = {**hit.evidence, "effects": sorted(effects)} if effects else dict(hit.evidence)
    return Finding(
        rule.code, rule.name, rule.severity, hit.tensors, hit.message, hit.fix, evidence, hit.location, phase
    )


def _gravest_first(finding: Finding) -> tuple[int, str, bool, str, int, tuple[str, ...]]:
    place = finding.location
    where = (place is None, place.file if place else "", place.line if place else 0)
    return (-finding.severity.rank, finding.code, *where, finding.tensors)


def _choose(case: Case, select: Sequence[str], ignore: Sequence[str]) -> tuple[list[Rule], list[Skipped]]:
    """The rules to run, and the rest by reason, in the words of `Skipped`."""
    running: list[Rule] = []
    reasons: dict[str, list[str]] = {}
    for rule in rules():
        why = _reasons(case.missing, rule, select, ignore)
        for reason in filter(None, why):  # an empty reason: the rule is out of place here, not left out
            reasons.setdefault(reason, []).append(rule.code)
        if not why:
            running.append(rule)
    return running, [Skipped(spell(codes), why, tuple(codes)) for why, codes in reasons.items()]


def _reasons(missing: Mapping[Need, str], rule: Rule, select: Sequence[str], ignore: Sequence[str]) -> list[str]:
    if select and not rule.code.startswith(tuple(select)):
        return [NOT_SELECTED]
    if rule.code.startswith(tuple(ignore)):
        return ["ignored, as the spec or the caller wants it"]
    return list(dict.fromkeys(missing[need] for need in sorted(rule.needs) if need in missing))


def spell(codes: Iterable[str]) -> str:
    """`FZ108, FZ302, FZ401–FZ405`: codes in order, three or more neighbours as a range."""
    runs: list[list[str]] = []
    for code in sorted(codes):
        if runs and int(code[2:]) == int(runs[-1][-1][2:]) + 1:
            runs[-1].append(code)
        else:
            runs.append([code])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)
