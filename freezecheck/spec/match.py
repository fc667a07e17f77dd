"""Selectors and a model's description → `Plan`: what is expected of each tensor. Pure; no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from typing import TYPE_CHECKING

from ..records import Contradiction, Description, Expected, Location, Overlap, Plan, Selector, Tensor, Unmatched
from ..records.plan import Doubt
from .flags import plan_from_flags
from .mistakes import Mistake, spec_error
from .nearest import explain
from .rows import Cuts
from .selection import OutOfRange, Selection
from .selectors import Pattern, parse_selector

if TYPE_CHECKING:
    from .spec import Spec

_STRENGTH = (("unchecked", Expected.UNCHECKED), ("trainable", Expected.TRAINABLE), ("frozen", Expected.FROZEN))
"""The lists that may overlap, the strongest first."""


@dataclass(frozen=True)
class _List:
    """One of the spec's lists, resolved: what each selector selects, and what is left after its `!` selectors."""

    selected: Mapping[Selector, frozenset[str]]
    names: frozenset[str]
    """Names of tensors, or for `eval` paths of modules."""
    least: frozenset[str]
    """What is left whichever way the selectors in doubt turn out."""
    most: frozenset[str]
    """What may be left."""

    def ways(self) -> tuple[_List, ...]:
        """The list as it turns out one way and the other; where nothing is in doubt, the list alone."""
        if self.least == self.most:
            return (self,)
        return replace(self, names=self.least), replace(self, names=self.most)

    def chosen(self) -> Iterable[tuple[Selector, frozenset[str]]]:
        """Each selector that adds, with what the list really takes by it."""
        for selector, names in self.selected.items():
            if not selector.text.startswith("!"):
                yield selector, names & self.names


@dataclass
class _Resolver:
    """Resolves the lists of one spec and gathers what is wrong with them."""

    selection: Selection
    cuts: Cuts
    mistakes: list[Mistake] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)

    def resolve(self, selectors: Iterable[Selector]) -> _List:
        """One list."""
        selected: dict[Selector, frozenset[str]] = {}
        sure: dict[bool, set[str]] = {False: set(), True: set()}
        perhaps: dict[bool, set[str]] = {False: set(), True: set()}
        for selector in selectors:
            pattern = parse_selector(selector.text)
            names = self._names(selector, pattern)
            selected[selector] = names
            sure[pattern.negated].update(names)
            perhaps[pattern.negated].update(names, self._in_doubt(selector, pattern, names))
        return _List(
            selected,
            frozenset(sure[False] - sure[True]),
            least=frozenset(sure[False] - perhaps[True]),
            most=frozenset(perhaps[False] - sure[True]),
        )

    def _names(self, selector: Selector, pattern: Pattern) -> frozenset[str]:
        try:
            return self._selected(selector, pattern)
        except OutOfRange as error:
            self.mistakes.append(Mistake(f"`{selector.text}` in `{selector.list}` {error}", selector.location))
            return frozenset()

    def _in_doubt(self, selector: Selector, pattern: Pattern, names: frozenset[str]) -> frozenset[str]:
        """What a selector may select beside `names`; where that is something or there are none, it is noted."""
        why = self.selection.unknown(pattern)
        if not why:
            return frozenset()
        try:
            doubtful = self._selected(selector, pattern, possible=True) - names
        except OutOfRange:
            return frozenset()
        if doubtful or not names:
            self.doubts.append(Doubt(selector, why))
        return doubtful

    def _selected(self, selector: Selector, pattern: Pattern, *, possible: bool = False) -> frozenset[str]:
        if selector.list == "eval":
            return frozenset(self.selection.subtrees(self.selection.modules(pattern, possible=possible)))
        if selector.list == "buffers_may_move":
            return frozenset(self.selection.names(pattern, possible=possible) & self.selection.buffers)
        return frozenset(self.cuts.selected(pattern, possible=possible))


def match(spec: Spec | None, description: Description) -> Plan:
    """Say what the spec expects of each tensor; without a spec the `requires_grad` flags are the intent.

    Of a spec with phases the first is meant: that is how a training begins. For another take `Spec.phase(name)`.
    Raises SpecError when an index or slice lies outside its module, or the module cannot be indexed; all such
    mistakes at once, each with its selector's line. A selector that selects nothing is not raised but stands in
    `Plan.unmatched`. What a checkpoint's description cannot settle is in `Plan.doubts`, and its tensors are unchecked.
    """
    if spec is None:
        return plan_from_flags(description)
    if spec.phases:
        spec = spec.phases[0].spec
    selection = Selection(description)
    cuts = Cuts(selection, (*spec.trainable, *spec.frozen, *spec.unchecked))
    resolver = _Resolver(selection, cuts)
    every = (spec.trainable, spec.frozen, spec.unchecked, spec.buffers_may_move, spec.eval)
    trainable, frozen, unchecked, may_move, in_eval = resolved = [resolver.resolve(selectors) for selectors in every]
    if resolver.mistakes:
        raise spec_error(resolver.mistakes, hint="Correct the index, or select the items by their names.")
    lists = {"unchecked": unchecked, "trainable": trainable, "frozen": frozen}
    said, contradictions, in_doubt = _settled(cuts.description, lists, spec.rest)
    contradictions = tuple({c.tensor: c for c in (_of_the_whole(c, cuts) for c in contradictions)}.values())
    expected, rows = cuts.together(said)
    for contradiction in contradictions:
        expected[contradiction.tensor] = Expected.UNCHECKED
        rows.pop(contradiction.tensor, None)
    plan = Plan(
        expected,
        buffers_may_move=frozenset(description.by_name[name].name for name in may_move.most),
        eval_layers=selection.covering(in_eval.names),
        unmatched=tuple(_unmatched(resolved, resolver)),
        overlaps=tuple(_overlaps(cuts, lists)),
        contradictions=contradictions,
        counts=spec.expect,
        rows=rows,
        said_at={cuts.whole(unit): place for unit, place in _said_at(cuts.description, lists, spec).items()},
        doubts=tuple(dict.fromkeys(resolver.doubts)),
        in_doubt=frozenset(cuts.whole(unit) for unit in in_doubt),
    )
    if _says_what_trains(spec):
        return plan
    return replace(plan, expected=plan_from_flags(description).expected, from_spec=False, said_at={})


def _unmatched(lists: Iterable[_List], resolver: _Resolver) -> Iterable[Unmatched]:
    doubtful = {doubt.selector for doubt in resolver.doubts}
    for one in lists:
        for selector, names in one.selected.items():
            if not names and selector not in doubtful:
                yield explain(selector, resolver.selection)


def _says_what_trains(spec: Spec) -> bool:
    """Whether a spec expects anything; one that only names inputs or an optimizer leaves the flags as the intent."""
    lists = spec.trainable or spec.frozen or spec.unchecked
    return bool(lists) or spec.rest is not Expected.UNCHECKED or spec.rest_said


def _said_at(description: Description, lists: Mapping[str, _List], spec: Spec) -> dict[str, Location]:
    """By canonical name the line that says what is expected: its selector's, else that the rest follows from."""
    by_name: dict[str, Location] = {}
    for key, _ in reversed(_STRENGTH):
        for selector, names in lists[key].chosen():
            if selector.location:
                by_name.update(dict.fromkeys(names, selector.location))
    rest = next((spec.locations[key] for key in ("rest", "trainable", "frozen") if key in spec.locations), None)
    places = {
        tensor.name: next((by_name[name] for name in tensor.names if name in by_name), rest)
        for tensor in description.tensors
    }
    return {name: place for name, place in places.items() if place}


def _settled(
    description: Description, lists: Mapping[str, _List], rest: Expected
) -> tuple[dict[str, Expected], tuple[Contradiction, ...], frozenset[str]]:
    """As `_expected`, whichever way the lists turn out; also the tensors of which that makes a difference."""
    ways = product(*(one.ways() for one in lists.values()))
    (first, contradictions), *others = [
        _expected(description, dict(zip(lists, way, strict=True)), rest) for way in ways
    ]
    in_doubt = {name for name, said in first.items() if any(other[name] is not said for other, _ in others)}
    always = set.intersection({c.tensor for c in contradictions}, *({c.tensor for c in found} for _, found in others))
    said = {name: Expected.UNCHECKED if name in in_doubt else one for name, one in first.items()}
    return said, tuple(c for c in contradictions if c.tensor in always), frozenset(in_doubt)


def _expected(
    description: Description, lists: Mapping[str, _List], rest: Expected
) -> tuple[dict[str, Expected], tuple[Contradiction, ...]]:
    """By canonical name what is expected, and the tied tensors of which two things are."""
    listed: dict[str, Expected] = {}
    for key, expected in reversed(_STRENGTH):
        listed.update(dict.fromkeys(lists[key].names, expected))
    plan: dict[str, Expected] = {}
    contradictions = []
    for tensor in description.tensors:
        if not tensor.aliases:
            plan[tensor.name] = listed.get(tensor.name, rest)
            continue
        outcome = _tied(tensor, listed, rest)
        if isinstance(outcome, Expected):
            plan[tensor.name] = outcome
        else:
            plan[tensor.name] = Expected.UNCHECKED
            contradictions.append(_contradiction(tensor, *outcome, lists["trainable"]))
    return plan, tuple(contradictions)


def _tied(tensor: Tensor, listed: Mapping[str, Expected], rest: Expected) -> Expected | tuple[str, str]:
    """What is expected of a tied tensor, or the names under which it is expected frozen and trainable.

    `unchecked` settles it only where a list says so: a rest that nothing is expected of cannot overrule the
    name that a list does give.
    """
    by_name = {name: listed.get(name, rest) for name in tensor.names}
    if Expected.UNCHECKED in (listed.get(name) for name in tensor.names):
        return Expected.UNCHECKED
    frozen = next((name for name, said in by_name.items() if said is Expected.FROZEN), None)
    trainable = next((name for name, said in by_name.items() if said is Expected.TRAINABLE), None)
    if frozen is not None and trainable is not None:
        return frozen, trainable
    if frozen is None and trainable is None:
        return Expected.UNCHECKED
    return Expected.TRAINABLE if frozen is None else Expected.FROZEN


def _contradiction(tensor: Tensor, frozen_as: str, trainable_as: str, trainable: _List) -> Contradiction:
    said = (selector.location for selector, names in trainable.chosen() if trainable_as in names)
    return Contradiction(tensor.name, frozen_as, trainable_as, next(said, None))


def _of_the_whole(contradiction: Contradiction, cuts: Cuts) -> Contradiction:
    return replace(contradiction, tensor=cuts.whole(contradiction.tensor))


def _overlaps(cuts: Cuts, lists: Mapping[str, _List]) -> Iterable[Overlap]:
    tensors = cuts.description.tensors
    order = {name: n for n, tensor in enumerate(tensors) for name in tensor.names}
    for (strong, _), (weak, _) in combinations(_STRENGTH, 2):
        if lists[strong].names.isdisjoint(lists[weak].names):
            continue
        for stronger, by_stronger in lists[strong].chosen():
            for weaker, by_weaker in lists[weak].chosen():
                both = sorted({order[name] for name in by_stronger & by_weaker})
                if both and "*" not in (stronger.text, weaker.text):
                    named = dict.fromkeys(cuts.whole(tensors[n].name) for n in both)
                    yield Overlap(stronger, weaker, tuple(named))
