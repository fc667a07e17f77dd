"""The straight line: what it says while it walks, and what a report says of the rules."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from freezecheck.check import report_subject, verify_subject
from freezecheck.errors import ProbeError
from freezecheck.judge import judge, settled
from freezecheck.records import Expected, Hidden, Leaf, Need, Plan, Selector, Skipped, Unmatched
from freezecheck.spec import Spec
from freezecheck.subject import PYTHON, Subject
from tests.rules.tables import buffer, frozen, layer, line, table, trained

torch.set_num_threads(1)

SPEC = 'trainable = ["1"]\nfrozen = ["0", "nothing"]\n'


def subject(**known) -> Subject:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    return Subject(model, "model.py", files=("model.py",), **known)


class TestProgress:
    """A caller is told what is about to be done."""

    def test_the_steps_are_told_in_their_order(self):
        """From the search for inputs to the judgement."""
        said: list[str] = []
        verify_subject(subject(), Spec.of(trainable=["1"]), progress=said.append)
        assert said == [
            "looking for inputs that fit",
            "training step 1 of at most 3",
            "comparing every tensor with what it was",
            "judging",
        ]

    def test_inputs_that_are_given_are_not_looked_for_and_memory_is_told(self):
        """Only what is done is said."""
        said: list[str] = []
        verify_subject(subject(make_inputs=lambda: torch.randn(4, 2)), memory=True, progress=said.append)
        assert "looking for inputs that fit" not in said
        assert "measuring what each layer keeps for the backward pass" in said


class Norms(nn.Module):
    """A backbone with statistics, frozen and left in train mode by mistake; a head that trains, and a neck between."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.neck = nn.Linear(3, 3)
        self.fc = nn.Linear(3, 2)
        self.backbone.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.neck(self.backbone(x)))


def told(model: nn.Module, spec: str, **given) -> tuple[list[tuple[str, tuple[str, ...]]], list[str]]:
    """What verify finds, and what it leaves out."""
    trains = [p for p in model.parameters() if p.requires_grad]
    known = {"optimizers": [torch.optim.SGD(trains, lr=0.1)], "make_inputs": lambda: torch.randn(4, 2)}
    report = verify_subject(Subject(model, "model.py", **known), Spec.parse(spec, "s.toml"), **given)
    return [(f.code, f.tensors) for f in report.findings], [f"{item.what}: {item.why}" for item in report.skipped]


class TestASelectorThatSelectsNothing:
    """While one does, nobody knows what is expected of what no other selector names."""

    STATISTICS = ("backbone.1.running_mean", "backbone.1.running_var", "backbone.1.num_batches_tracked")

    def test_without_one_the_rest_is_judged(self):
        """Also where what selects nothing takes away, or lets be: the rest is what it is."""
        for spec in (
            'trainable = ["fc", "neck"]',
            'trainable = ["fc", "neck", "!fcc"]',
            'trainable = ["fc", "neck"]\nunchecked = ["teacher"]',
        ):
            found, left = told(Norms(), spec)
            assert ("FZ501", self.STATISTICS) in found, spec
            assert left == [], spec

    def test_whoever_ignores_the_rule_has_the_rest_judged(self):
        """One spec for several models: what it names and this one lacks is known, and no doubt."""
        for asked in ({"ignore": ("FZ001",)}, {"select": ("FZ5",)}):
            assert told(Norms(), 'trainable = ["fcc", "neck", "fc"]', **asked)[0] == [("FZ501", self.STATISTICS)]
        assert told(Norms(), 'trainable = ["fcc", "neck", "fc"]\nignore = ["FZ001"]')[0] == [("FZ501", self.STATISTICS)]

    def test_a_selector_that_means_an_unregistered_layer_leaves_the_rest_in_no_doubt(self):
        """It is right, and the model is not: FZ105 tells that, and the rest is judged."""

        class Listed(Norms):
            def __init__(self) -> None:
                super().__init__()
                self.extra = [nn.Linear(3, 3)]

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.fc(self.neck(self.extra[0](self.backbone(x))))

        found, left = told(Listed(), 'trainable = ["fc", "neck", "extra"]')
        assert [code for code, _ in found] == ["FZ105", "FZ501"]
        assert not any("selects nothing" in one for one in left)

    def test_what_falls_to_the_rest_is_not_judged_and_that_is_said(self):
        """No advice that would undo a right freezing, and none on what may be meant otherwise."""
        found, left = told(Norms(), 'trainable = ["fcc", "neck"]')
        assert found == [("FZ001", ())]
        assert left == [
            "what the spec expects of 7 tensors that it does not name (backbone.0.weight … "
            "backbone.1.num_batches_tracked): `fcc` under `trainable` selects nothing, and may have been meant for them"
        ]

    def test_a_class_of_containers_does_not_turn_the_model_around(self):
        """`type:Sequential` under `frozen` names none of its tensors; they are not told to train."""
        found, left = told(Norms(), 'frozen = ["type:Sequential"]')
        assert found == [("FZ001", ())]
        assert len(left) == 1

    def test_what_a_selector_names_is_judged_all_the_same(self):
        """A named layer that does not do as it is told is found beside the selector that selects nothing."""
        model = Norms()
        model.neck.requires_grad_(False)
        found, _ = told(model, 'trainable = ["fcc", "neck"]')
        assert found == [("FZ001", ()), ("FZ102", ("neck.weight", "neck.bias"))]
        found, _ = told(Norms(), 'trainable = ["fcc"]\nfrozen = ["backbone"]\nrest = "frozen"')
        assert found == [("FZ001", ()), ("FZ501", self.STATISTICS)]

    def test_a_dropout_in_what_nobody_names_is_not_told(self):
        """A note on a layer rests on the same expectation."""
        model = nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5)), nn.Linear(3, 2))
        model[0].requires_grad_(False)
        assert [code for code, _ in told(model, 'trainable = ["1"]')[0]] == ["FZ503"]
        assert [code for code, _ in told(model, 'trainable = ["1", "fc"]')[0]] == ["FZ001"]


class TestSettled:
    """While a selector selects nothing, what is expected of tensors that nobody names is not judged."""

    FACTS = (frozen("stem.weight"), frozen("embed.weight", shape=(4, 2)), trained("head.weight"), buffer("stem.mean"))

    def case(self, *wrong, **known):
        unmatched = tuple(Unmatched(Selector(text, key), (), meant=meant) for text, key, meant in wrong)
        plan = Plan({fact.name: fact.expected for fact in self.FACTS}, unmatched=unmatched)
        return table(*self.FACTS, plan=plan, **known)

    def unchecked(self, case):
        return [fact.name for fact in case.facts if fact.expected is Expected.UNCHECKED]

    def test_nothing_is_taken_from_a_case_without_doubt(self):
        """No selector that selects nothing, one that takes away or lets be, one of a hidden layer, or no spec."""
        spec = Spec.of(trainable=["head"])
        hidden = Hidden("teacher.0", "Sequential", "Net.teacher, a list")
        leaf = Leaf("blocks.0.weight", "Net.blocks, a list")
        for case in (
            self.case(),
            self.case(("!backbon", "trainable", ()), ("backbon", "unchecked", ()), ("backbon", "eval", ())),
            self.case(("teacher", "frozen", ()), hidden=(hidden,)),
            self.case(("blocks", "trainable", ()), leaves=(leaf,)),
        ):
            assert settled(case, spec) is case
        doubtful = self.case(("haed", "trainable", ()))
        assert settled(doubtful, None) is doubtful

    def test_what_a_selector_names_keeps_what_is_expected(self):
        """By any list, by one row, by another name of a tied tensor, or by what `!` takes away."""
        case = self.case(("haed", "trainable", ()))
        every = ["stem.weight", "embed.weight", "head.weight", "stem.mean"]
        assert self.unchecked(settled(case, Spec.of(trainable=["haed"]))) == every
        for said in (
            {"trainable": ["embed.weight[2:]"]},
            {"unchecked": ["embed"]},
            {"trainable": ["head", "!embed"]},
            {"frozen": ["embed"]},
        ):
            assert "embed.weight" not in self.unchecked(settled(case, Spec.of(**said))), said
        tied = replace(case, facts=(frozen("embed.weight", aliases=("out.weight",)), *case.facts[2:]))
        assert self.unchecked(settled(tied, Spec.of(frozen=["out"]))) == ["head.weight", "stem.mean"]

    def test_it_is_said_which_tensors_and_which_selectors(self):
        """One line for all of them."""
        one = settled(self.case(("haed", "trainable", ())), Spec.of(trainable=["stem", "head"]))
        assert one.skipped == (
            Skipped(
                "what the spec expects of one tensor that it does not name (embed.weight)",
                "`haed` under `trainable` selects nothing, and may have been meant for it",
            ),
        )
        case = self.case(("haed", "trainable", ()), ("setm", "frozen", ()))
        (left,) = settled(case, Spec.of(trainable=["head"])).skipped
        assert left.what == "what the spec expects of 3 tensors that it does not name (stem.weight … stem.mean)"
        assert left.why == (
            "`haed` under `trainable` and `setm` under `frozen` select nothing, and may have been meant for them"
        )

    def test_what_the_nearest_name_means_is_left_to_the_finding(self):
        """It is swallowed there, whatever rule would fire, and told as its effect."""
        meant = ("stem.weight", "stem.mean")
        case = self.case(("setm", "trainable", meant))
        assert self.unchecked(settled(case, Spec.of(trainable=["head"]))) == ["embed.weight"]
        wrong = frozen("stem.weight", flipped=line(3), moved=True, requires_grad=True)
        findings, _ = judge(replace(case, facts=(wrong,), missing={Need.TRAINING: "a real training was not watched"}))
        assert [(f.code, f.evidence["effects"]) for f in findings] == [("FZ001", ["FZ301"])]
        findings, _ = judge(replace(case, facts=(wrong,), missing={}))
        assert [(f.code, f.evidence["effects"]) for f in findings] == [("FZ001", ["FZ106", "FZ301"])]

    def test_layers_around_them_are_unchecked_too(self):
        """Rules on layers rest on the same; a layer that is named whole keeps what is expected."""
        layers = (layer("", "Net", "mixed"), layer("stem", "Stem"), layer("head", "Linear", "trainable"))
        done = settled(self.case(("haed", "trainable", ()), layers=layers), Spec.of(trainable=["head"]))
        assert {one.name: one.expected for one in done.layers} == {
            "": "unchecked",
            "stem": "unchecked",
            "head": "trainable",
        }


class TestRulesOfAReport:
    """A report knows which rules were run and which were left out."""

    def test_report_runs_the_rules_of_the_spec_alone(self):
        """And says nothing of the others, which have no place there."""
        report = report_subject(subject(), Spec.parse(SPEC, "s.toml"))
        assert report.ran == ("FZ001", "FZ002", "FZ003", "FZ004")
        assert [finding.code for finding in report.findings] == ["FZ001"]
        assert report.skipped == ()

    def test_report_heeds_what_the_spec_ignores_and_says_so(self):
        """A rule left out by the spec is not silently gone."""
        report = report_subject(subject(), Spec.parse('ignore = ["FZ001", "FZ5"]\n' + SPEC, "s.toml"))
        assert report.findings == ()
        assert [item.codes for item in report.skipped] == [("FZ001",)]
        assert "FZ001" not in report.ran

    def test_without_a_spec_report_runs_and_misses_nothing(self):
        """There is no intent to judge by."""
        report = report_subject(subject())
        assert (report.ran, report.findings, report.skipped) == ((), (), ())

    def test_verify_runs_or_skips_every_rule_that_has_a_place(self):
        """No rule is both run and skipped, and what it found it also ran."""
        report = verify_subject(subject(), Spec.parse(SPEC, "s.toml"), ignore=("FZ503",))
        skipped = {code for item in report.skipped for code in item.codes}
        assert "FZ503" in skipped
        assert not skipped & set(report.ran)
        assert {finding.code for finding in report.findings} <= set(report.ran)
        assert report.files == ("model.py",)


class TestASpecThatSaysNothing:
    """A spec that is there and says nothing of what trains is not said to be missing."""

    FLAGS = "the requires_grad flags were taken as the intent"

    def reasons(self, report) -> set[str]:
        return {item.why for item in report.skipped if "FZ001" in item.codes}

    def test_a_spec_that_says_something_is_not_spoken_of(self):
        """Be it that the rest trains, or a count alone."""
        for text in ('rest = "trainable"', "[expect]\ntrainable_parameters = 8"):
            assert self.reasons(report_subject(subject(), Spec.parse(text, "s.toml"))) == set()

    def test_no_spec_is_said_to_be_none(self):
        """Nobody gave one."""
        assert self.reasons(verify_subject(subject())) == {f"no freeze spec was given: {self.FLAGS}"}

    def test_an_empty_spec_is_named(self):
        """All of it commented out, or only an optimizer in it: the file is named, by verify and by report."""
        for text in ("", '# trainable = ["1"]', 'optimizer = { name = "SGD", lr = 0.1 }'):
            spec = Spec.parse(text, "s.toml")
            said = {f"s.toml says nothing of what should train: {self.FLAGS}"}
            assert self.reasons(verify_subject(subject(), spec)) == said
            assert self.reasons(report_subject(subject(), spec)) == said
        assert self.reasons(report_subject(subject(), Spec.of())) == {
            f"the spec says nothing of what should train: {self.FLAGS}"
        }


class TestLazyLayers:
    """Before the first forward a lazy layer's parameters have no sizes."""

    @staticmethod
    def lazy() -> Subject:
        model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))
        return Subject(model, "model.py", make_inputs=lambda: torch.randn(4, 2))

    LOCKED = Spec.parse('trainable = ["*"]\n[expect]\ntrainable_parameters = 17', "s.toml")

    def test_a_model_without_any_says_nothing_of_sizes(self):
        """Nor does one of which a parameter is empty on purpose, or a single number."""
        model = nn.Linear(2, 2)
        model.none, model.scale = nn.Parameter(torch.empty(0, 3)), nn.Parameter(torch.tensor(1.0))
        assert report_subject(Subject(model, "model.py")).skipped == ()

    def test_verify_gives_them_their_sizes(self):
        """Its forward brings them to life: there is nothing to say, and the counts are judged."""
        assert [f.code for f in verify_subject(self.lazy(), self.LOCKED).findings] == []
        wrong = Spec.parse('trainable = ["*"]\n[expect]\ntrainable_parameters = 16', "s.toml")
        report = verify_subject(self.lazy(), wrong)
        assert [f.code for f in report.findings] == ["FZ003"]
        assert not any("size" in item.what for item in report.skipped)

    def test_report_says_that_sizes_are_not_known(self):
        """Two parameters that count as nothing, and a lock that cannot be held against them."""
        for spec in (None, Spec.of(trainable=["*"])):
            (item,) = report_subject(self.lazy(), spec).skipped
            assert item.what == "the sizes of 2 tensors (0.weight, 0.bias)"
            assert item.why == "they are not known before the first forward of their lazy layers: they count as 0"
        report = report_subject(self.lazy(), self.LOCKED)
        assert report.findings == ()
        assert report.skipped[0].what == "the sizes of 2 tensors (0.weight, 0.bias), and the counts under [expect]"


class TestAModelOnTheMetaDevice:
    """A model that its own file builds on the meta device, checked as if it were on the CPU."""

    @staticmethod
    def checked(build_on: str, compute=lambda model, x: model(x).sum(), **known) -> str:
        with torch.device(build_on):
            model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        known = {"make_inputs": lambda: torch.randn(4, 2), "compute_loss": compute, **known}
        with pytest.raises(ProbeError) as caught:
            verify_subject(Subject(model, "model.py", **known))
        return caught.value.hint

    def test_other_failures_keep_their_hint(self):
        """On the CPU, put on the meta device by --meta, or an error that has nothing to do with it."""

        def fails(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("no such depth")

        assert "--meta" not in self.checked("cpu", fails)
        assert "--meta" not in self.checked("meta", fails)
        assert "leave --meta out" in self.checked("meta", lambda model, x: model(x).sum().cpu().numpy(), device="meta")

    def test_the_hint_is_to_add_meta(self):
        """Leaving out what was not given mends nothing."""
        assert self.checked("meta") == (
            "the model is on the meta device as it was built, and the inputs are not: add --meta, which puts both there"
        )

    def test_what_needs_values_needs_another_device(self):
        """With --meta it would fail as it does without."""
        hint = self.checked("meta", lambda model, x: model[0].weight.sum().item() * model(x).sum())
        assert hint.startswith("the meta device holds no values to decide by, and the model's own code builds it there")

    def test_in_python_it_is_to_give_inputs_that_are_there(self):
        """There is no such option to a call."""
        assert self.checked("meta", asking=PYTHON) == (
            "the model is on the meta device, and the inputs are not: pass inputs that are there too, as in "
            'inputs=torch.randn(2, 3, device="meta")'
        )
