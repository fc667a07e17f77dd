"""From the table of facts to findings: every rule, causes before their effects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from .discover import rules
from .errors import UsageError
from .records import Case, Description, Expected, Finding, Hit, Need, Rule, Skipped, Unmatched
from .rules.unmatched_selector import misjudged, misnamed
from .spec.selection import Selection
from .spec.selectors import parse_selector

if TYPE_CHECKING:
    from .spec import Spec

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


def told_of(case: Case, spec: Spec | None) -> Case:
    """Return the case with the reason why there is nothing to judge by, where a spec is given that says nothing."""
    if spec is None or Need.SPEC not in case.missing:
        return case
    named = spec.path or "the spec"
    why = f"{named} says nothing of what should train: the requires_grad flags were taken as the intent"
    return replace(case, missing={**case.missing, Need.SPEC: why})


def settled(case: Case, spec: Spec | None, *, select: Sequence[str] = (), ignore: Sequence[str] = ()) -> Case:
    """Return the case to judge: where a selector selects nothing, without what is expected of unnamed tensors.

    What a misspelled selector under `trainable` or `frozen` means falls to the rest, and what is expected of the rest
    may be the opposite of what is meant. Of tensors that no other selector names nothing is then expected; that is
    put among the case's `skipped`. The tensors that the nearest name means are left to FZ001, whose effects they are.
    Whoever leaves FZ001 out, by `select`, `ignore` or in the spec, knows of such selectors, and all is judged.
    """
    if spec is None or not case.plan.unmatched:
        return case
    if "FZ001" not in codes_run(case, select=select, ignore=(*ignore, *spec.ignore)):
        return case
    told = list(misnamed(case))
    doubtful = [one for one in told if one.selector.list in ("trainable", "frozen") and one.selector.text[:1] != "!"]
    if not doubtful:
        return case
    named = _named(case, spec)
    rest = [f.name for f in case.facts if f.expected is not Expected.UNCHECKED and named.isdisjoint(f.tensor.names)]
    left = frozenset(rest).difference(*(misjudged(case, one) for one in told))
    aliases = {f.name: f.tensor.names for f in case.facts}
    layers = {path for name in rest for alias in aliases[name] for path in _around(alias)}
    return replace(
        case,
        facts=tuple(replace(f, expected=Expected.UNCHECKED) if f.name in left else f for f in case.facts),
        layers=tuple(replace(one, expected="unchecked") if one.name in layers else one for one in case.layers),
        skipped=(*case.skipped, *_in_doubt([name for name in rest if name in left], doubtful)),
    )


def _named(case: Case, spec: Spec) -> set[str]:
    """Every name that a selector of the spec selects, or takes away with `!`."""
    description = Description(tuple(f.tensor for f in case.facts), tuple(one.layer for one in case.layers))
    selection = Selection(description)
    every = (*spec.trainable, *spec.frozen, *spec.unchecked)
    return {name for one in every for name in selection.names(parse_selector(one.text))}


def _around(name: str) -> Iterable[str]:
    """Every layer around a tensor, the root last."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def _in_doubt(names: Sequence[str], doubtful: Sequence[Unmatched]) -> Iterable[Skipped]:
    """Say which tensors are not judged, and which selectors have to be right first."""
    if not names:
        return
    number, they = (f"{len(names):,} tensors", "them") if len(names) > 1 else ("one tensor", "it")
    shown = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
    wrong = " and ".join(f"`{one.selector.text}` under `{one.selector.list}`" for one in doubtful)
    select = "selects" if len(doubtful) == 1 else "select"
    yield Skipped(
        f"what the spec expects of {number} that it does not name ({shown})",
        f"{wrong} {select} nothing, and may have been meant for {they}",
    )


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
