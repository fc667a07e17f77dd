"""From the table to findings: causes before effects, what is skipped, and in which order things are told."""

from __future__ import annotations

import graphlib
import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezecheck import judge as module
from freezecheck.discover import rules
from freezecheck.judge import codes_run, in_order, judge, spell
from freezecheck.records import (
    Case,
    Cut,
    Expected,
    Facts,
    Foreign,
    Gradient,
    Hit,
    Location,
    Loss,
    Membership,
    Need,
    Plan,
    Rule,
    Selector,
    Severity,
    Skipped,
    StrayFlag,
    Tensor,
    Unmatched,
    Update,
    Write,
)
from tests.rules.tables import SGD, buffer, frozen, leaking, line, table, trained

TRAINING = {Need.TRAINING: "a real training was not watched"}
RIGHT = (
    frozen("backbone.weight"),
    buffer("backbone.mean"),
    trained("head.weight"),
    trained("lora_A", gradient=Gradient.NONZERO),
)


def codes(case, **asked):
    return [finding.code for finding in judge(replace(case, missing={**TRAINING, **case.missing}), **asked)[0]]


def told(code, severity=Severity.ERROR, check=lambda case: [], **known):
    """A rule made for one test."""
    return Rule(code, f"rule-{code.lower()}", severity, check, "", **known)


def firing(**known):
    """A check that fires on every row of the table."""
    return lambda case: [Hit(tuple(f.name for f in case.facts), "m", "f", **known)] if case.facts else []


@pytest.fixture
def only(monkeypatch):
    """Judge by these rules alone."""
    return lambda *some: monkeypatch.setattr(module, "rules", lambda: some)


class TestSilence:
    """What is right stays silent."""

    def test_a_right_table_has_no_findings(self):
        """A frozen backbone, its buffers, a head and a LoRA matrix that woke."""
        assert codes(table(*RIGHT)) == []

    def test_an_empty_table_has_none_either(self):
        """A model without parameters is no mistake."""
        assert codes(Case(())) == []


class TestCausesBeforeEffects:
    """When one finding is the cause of another, the cause is reported and carries the effect as evidence."""

    MISSPELLED = StrayFlag("fc.weight", "parameter", "require_grad", "False", ("fc.weight",))
    LEAKING = leaking("fc.weight", memberships=(SGD,), moved=True)

    def test_the_cause_is_told_and_carries_its_effects(self):
        """A misspelled flag lets it train and move; one finding tells all three."""
        findings, _ = judge(table(self.LEAKING, strays=(self.MISSPELLED,), missing=TRAINING))
        assert [finding.code for finding in findings] == ["FZ103"]
        assert findings[0].evidence["effects"] == ["FZ101", "FZ301"]

    def test_without_an_effect_there_is_no_such_evidence(self):
        """A lone finding claims nothing."""
        findings, _ = judge(table(frozen("a", memberships=(SGD,)), missing=TRAINING))
        assert [finding.code for finding in findings] == ["FZ401"]
        assert "effects" not in findings[0].evidence

    def test_other_tensors_keep_their_finding(self):
        """The cause covers its own tensors and no more."""
        other = leaking("neck.weight", memberships=(SGD,), moved=True)
        findings, _ = judge(table(self.LEAKING, other, strays=(self.MISSPELLED,), missing=TRAINING))
        assert [(finding.code, finding.tensors) for finding in findings] == [
            ("FZ101", ("neck.weight",)),
            ("FZ103", ("fc.weight",)),
        ]
        assert findings[0].evidence["effects"] == ["FZ301"]

    def test_an_ignored_cause_swallows_nothing(self):
        """Whoever ignores FZ103 still learns that the weight trains, and, ignoring that too, that it moved."""
        case = table(self.LEAKING, strays=(self.MISSPELLED,))
        assert codes(case, ignore=("FZ103",)) == ["FZ101"]
        assert codes(case, ignore=("FZ1",)) == ["FZ301"]
        assert codes(case, select=("FZ3",)) == ["FZ301"]

    def test_a_replaced_head_explains_what_is_in_no_optimizer(self):
        """The optimizer that still holds the old head is the cause: FZ402 is its effect."""
        head = trained("head.weight", shape=(2, 8), memberships=())
        case = table(head, trained("neck.weight"), foreign=(Foreign(0, 0, (2, 8)),), missing=TRAINING)
        findings, _ = judge(case)
        assert [finding.code for finding in findings] == ["FZ403"]
        assert findings[0].evidence["effects"] == ["FZ402"]

    def test_an_empty_cover_swallows_nothing(self):
        """A written tensor that also sits in an optimizer has two findings."""
        written = frozen("a", moved=True, memberships=(SGD,), writes=(Write("mul_()", line(3)),))
        assert codes(table(written)) == ["FZ301", "FZ401"]

    def test_a_loss_without_graph_is_the_only_finding(self):
        """Sixty parameters without a gradient have one cause."""
        facts = [trained(f"{i}.w", gradient=Gradient.NONE, moved=False) for i in range(60)]
        assert codes(table(*facts, loss=Loss(reaches=False))) == ["FZ206"]

    def test_an_effect_of_an_effect_is_known_before_it(self):
        """However the rules stand in the alphabet, a cause is judged first."""
        order = [rule.code for rule in in_order(rules())]
        for rule in rules():
            assert all(order.index(rule.code) < order.index(code) for code in rule.swallows)

    def test_rules_that_swallow_each_other_are_a_bug(self):
        """A circle has no first rule."""
        circle = (told("FZ101", swallows=("FZ102",)), told("FZ102", swallows=("FZ101",)))
        with pytest.raises(graphlib.CycleError):
            in_order(circle)

    def test_every_swallowed_code_exists(self):
        """A code that was mistyped would swallow nothing, silently."""
        known = {rule.code for rule in rules()}
        assert {code for rule in rules() for code in rule.swallows} <= known


class TestWhatIsSkipped:
    """Nothing that was not judged is left out silently."""

    def test_codes_are_grouped_by_the_reason(self):
        """One line for each thing that is missing, with the codes that need it."""
        _, skipped = judge(Case((), missing={Need.OPTIMIZER: "no optimizer was given"}))
        codes = ("FZ108", "FZ302", "FZ303", "FZ401", "FZ402", "FZ403", "FZ404", "FZ405")
        assert skipped == (Skipped("FZ108, FZ302, FZ303, FZ401–FZ405", "no optimizer was given", codes),)

    def test_a_rule_that_is_out_of_place_is_not_told(self, only):
        """A need that is missing without a reason is nothing that the user could give."""
        ran = []
        only(told("FZ101", check=lambda case: ran or ran.append(1) or [], needs=frozenset({Need.TRAINING})))
        assert judge(Case((), missing={Need.TRAINING: ""})) == ((), ())
        assert ran == []

    def test_one_reason_for_two_needs_is_told_once(self, only):
        """A rule that lacks two things for one reason is listed once, and for two reasons under each."""
        only(told("FZ301", needs=frozenset({Need.PROBE, Need.VALUES})))
        missing = {Need.PROBE: "no step was run", Need.VALUES: "no step was run"}
        assert judge(Case((), missing=missing))[1] == (Skipped("FZ301", "no step was run", ("FZ301",)),)
        missing[Need.VALUES] = "the meta device holds none"
        assert len(judge(Case((), missing=missing))[1]) == 2

    def test_a_rule_that_lacks_something_does_not_run(self):
        """It would judge from what was not seen."""
        case = table(trained("a", memberships=()), missing={Need.OPTIMIZER: "no optimizer was given"})
        assert codes(case) == []

    def test_what_the_user_left_out_is_said(self, only):
        """Ignored and not selected are two reasons."""
        only(told("FZ101"), told("FZ102"), told("FZ201"), told("FZ301"))
        assert judge(Case(()), select=("FZ1", "FZ2"), ignore=("FZ102",))[1] == (
            Skipped("FZ102", "ignored, as the spec or the caller wants it", ("FZ102",)),
            Skipped("FZ301", "not among the rules selected", ("FZ301",)),
        )

    def test_what_ran_is_what_was_not_left_out(self):
        """The codes that ran and those that were skipped are all codes, each once."""
        case, asked = Case((), missing={Need.OPTIMIZER: "no optimizer was given"}), {"ignore": ("FZ5",)}
        skipped = [code for one in judge(case, **asked)[1] for code in one.codes]
        assert sorted([*codes_run(case, **asked), *skipped]) == [rule.code for rule in rules()]

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (["FZ401"], "FZ401"),
            (["FZ402", "FZ401"], "FZ401, FZ402"),
            (["FZ108", "FZ401", "FZ402", "FZ403"], "FZ108, FZ401–FZ403"),
            (["FZ001", "FZ002", "FZ003", "FZ005"], "FZ001–FZ003, FZ005"),
        ],
    )
    def test_neighbours_are_told_as_a_range(self, given, said):
        """Three or more; two are no shorter as a range."""
        assert spell(given) == said


class TestOrder:
    """Findings come gravest first, then by code, then by place."""

    def test_severity_then_code_then_place(self, only):
        """Whatever the rules' own order."""
        late, early = Location("a.py", 9), Location("a.py", 2)
        only(
            told("FZ503", Severity.NOTE, firing()),
            told("FZ401", Severity.WARNING, firing(location=late)),
            told("FZ301", Severity.WARNING, lambda case: [*firing()(case), *firing(location=late)(case)]),
            told("FZ402", Severity.ERROR, lambda case: [*firing(location=late)(case), *firing(location=early)(case)]),
        )
        findings, _ = judge(table(frozen("a")))
        assert [(finding.code, finding.location) for finding in findings] == [
            ("FZ402", early),
            ("FZ402", late),
            ("FZ301", late),
            ("FZ301", None),
            ("FZ401", late),
            ("FZ503", None),
        ]

    def test_a_finding_takes_all_of_its_rule_and_its_phase(self, only):
        """Code, name and severity are the rule's, the rest is the hit's, the phase the caller's."""
        only(told("FZ101", Severity.WARNING, firing(evidence={"lr": 0.1})))
        (finding,), _ = judge(table(frozen("a")), phase="head")
        assert (finding.code, finding.name, finding.severity) == ("FZ101", "rule-fz101", Severity.WARNING)
        assert (finding.tensors, finding.message, finding.fix) == (("a",), "m", "f")
        assert (finding.evidence, finding.phase) == ({"lr": 0.1}, "head")


LINE = line(7, "y = x.detach()")
MEMBERS = st.lists(
    st.builds(
        Membership,
        optimizer=st.integers(0, 1),
        group=st.integers(0, 2),
        lr=st.sampled_from([0.0, 0.1]),
        weight_decay=st.sampled_from([0.0, 0.01]),
        momentum=st.sampled_from([0.0, 0.9]),
    ),
    max_size=2,
).map(tuple)


@st.composite
def rows(draw, name):
    """Any row at all, also of states that no training could reach."""
    tensor = Tensor(
        name,
        draw(st.sampled_from(["parameter", "parameter", "buffer"])),
        draw(st.sampled_from([(2,), (2, 2)])),
        draw(st.sampled_from(["float32", "bfloat16", "float16"])),
        requires_grad=draw(st.booleans()),
        differentiable=draw(st.sampled_from([True, True, False])),
        had_gradient=draw(st.booleans()),
    )
    return Facts(
        tensor,
        draw(st.sampled_from(Expected)),
        draw(st.booleans()),
        draw(MEMBERS),
        draw(st.sampled_from([None, *Gradient])),
        gradient_max=draw(st.sampled_from([None, 0.0, 1.5, float("inf")])),
        moved=draw(st.sampled_from([None, True, False])),
        max_abs_change=draw(st.sampled_from([None, 0.5])),
        used=draw(st.sampled_from([None, True, False])),
        cuts=draw(st.sampled_from([(), (Cut("detach()", "", LINE),), (Cut("no_grad", "why", LINE, LINE, LINE),) * 4])),
        writes=draw(st.sampled_from([(), (Write("mul_()"),), (Write("add_()", LINE), Write("mul_()", LINE))])),
        update=draw(st.sampled_from([None, Update(0.0, 0.1), Update(1e-9, 0.1)])),
        flipped=draw(st.sampled_from([None, LINE])),
        gradient_hook=draw(st.booleans()),
        wasted=draw(st.booleans()),
    )


@st.composite
def cases(draw):
    """Any table at all."""
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=6))
    facts = tuple(draw(rows(f"{name}.weight")) for name in names)
    strays = tuple(
        StrayFlag(
            name, "module", draw(st.sampled_from(["requires_grad", "require_grad"])), "False", (f"{name}.weight",)
        )
        for name in names
        if draw(st.booleans())
    )
    return Case(
        facts,
        plan=Plan(
            {fact.name: fact.expected for fact in facts},
            unmatched=draw(st.sampled_from([(), (Unmatched(Selector("x", "frozen")),)])),
        ),
        strays=strays,
        foreign=draw(st.sampled_from([(), (Foreign(0, 0, (2, 2)),), (Foreign(1, 1, (3,), gradient=True),)])),
        loss=draw(st.sampled_from([None, Loss(), Loss(reaches=False), Loss(reaches=False, is_leaf=True)])),
        optimizers=draw(st.sampled_from([(), ("SGD",), ("SGD", "Adam")])),
        missing=draw(st.dictionaries(st.sampled_from(Need), st.just("not seen"), max_size=2)),
    )


def gist(findings):
    """What findings say, whatever their order and that of their tensors."""
    return sorted((finding.code, tuple(sorted(finding.tensors)), str(finding.location)) for finding in findings)


@given(cases())
def test_no_effect_is_told_beside_its_cause(case):
    """On the tensors that a rule's finding names, none of the codes that it swallows is reported."""
    findings, _ = judge(case)
    swallows = {rule.code: rule.swallows for rule in rules()}
    # A finding that explains less than it names says so by its hit; here only written tensors do (FZ301).
    for cause in findings:
        for effect in findings:
            if effect.code in swallows[cause.code] and cause.evidence.get("cause") not in ("write", "unknown"):
                assert not {*cause.tensors} & {*effect.tensors}


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_the_table_does_not_matter(case, random):
    """The same rows in another order give the same findings."""
    shuffled = random.sample(case.facts, len(case.facts))
    assert gist(judge(replace(case, facts=tuple(shuffled)))[0]) == gist(judge(case)[0])


@given(cases())
def test_every_rule_is_judged_or_skipped(case):
    """A rule whose needs are there runs; any other is among the skipped."""
    _, skipped = judge(case)
    lacking = [rule.code for rule in rules() if any(need in case.missing for need in rule.needs)]
    assert [one.what for one in skipped] == ([spell(lacking)] if lacking else [])


@given(cases())
def test_a_message_is_whole_sentences(case):
    """Whatever the table holds, no message has a hole or a doubled word in it."""
    for finding in judge(case)[0]:
        assert finding.message.endswith(".")
        assert finding.fix
        for text in (finding.message, finding.fix):
            words = text.replace("`", "").split()
            assert not any(a == b and a.isalpha() for a, b in pairwise(words)), text
            assert "  " not in text
            assert "``" not in text


@given(cases())
def test_evidence_can_be_written_as_json(case):
    """Strict JSON has no infinity and no NaN."""
    for finding in judge(case)[0]:
        json.dumps(finding.evidence, allow_nan=False)
