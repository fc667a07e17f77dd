"""Selectors and precedence, held against a slow oracle that works letter by letter and name by name."""

from __future__ import annotations

import random
from functools import cache

import pytest
from handmade import model, prefixes
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import lists, models, paths

from freezecheck.errors import SpecError
from freezecheck.records import Counts, Description, Expected
from freezecheck.spec import Spec
from freezecheck.spec.match import match

LETTERS = {Expected.TRAINABLE: "T", Expected.FROZEN: "F", Expected.UNCHECKED: "-"}


def expected(description: Description, **keys: object) -> str:
    """One letter a tensor: T, F or -."""
    plan = match(Spec.of(**keys), description)  # type: ignore[arg-type]  # a test gives keys by name
    return "".join(LETTERS[plan.expected[tensor.name]] for tensor in description.tensors)


@cache
def glob(pattern: str, text: str) -> bool:
    """Whether a glob matches, letter by letter."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(glob(pattern[1:], text[start:]) for start in range(len(text) + 1))
    if not text or (text[0] != pattern[0] and (pattern[0] != "?" or text[0] == ".")):
        return False
    return glob(pattern[1:], text[1:])


def written_out(description: Description, text: str) -> set[str] | None:
    """The selector without indices: each replaced by the names of the items. None: an index lies outside."""
    texts = {text}
    wild = False
    while any("[" in one for one in texts):
        after: set[str] = set()
        hosts = failed = 0
        for one in texts:
            head, _, tail = one.partition("[")
            inside, _, tail = tail.partition("]")
            wild = wild or "*" in head or "?" in head
            for layer in description.layers:
                if glob(head, layer.name):
                    hosts += 1
                    items = taken(layer.items, inside)
                    failed += items is None
                    after |= {f"{layer.name}.{item}{tail}".removeprefix(".") for item in items or ()}
        if failed and (not wild or failed == hosts):
            return None
        texts = after
    return texts


def taken(items: tuple[str, ...] | None, inside: str) -> list[str] | None:
    """What Python's own list gives for an index or slice; None where it lies outside or gives nothing."""
    if items is None:
        return None
    bounds = [int(bound) if bound else None for bound in inside.split(":")]
    if len(bounds) == 1:
        return [items[bounds[0]]] if -len(items) <= (bounds[0] or 0) < len(items) else None
    if any(bound is not None and abs(bound) > len(items) for bound in bounds):
        return None
    return list(items[bounds[0] : bounds[1]]) or None


def oracle(description: Description, text: str) -> set[str] | None:
    """The names a path selector selects, by trying every module above every name."""
    globs = written_out(description, text)
    if globs is None:
        return None
    return {n for n in description.by_name for above in prefixes(n) if any(glob(one, above) for one in globs)}


@given(st.data())
def test_a_path_selects_what_the_oracle_selects(data: st.DataObject) -> None:
    """Paths, globs, indices and slices select what a letter-by-letter search finds, or are refused where it is."""
    description = data.draw(models(tied=False))
    text = data.draw(paths(description))
    wanted = oracle(description, text)
    if wanted is None:
        with pytest.raises(SpecError):
            match(Spec.of(trainable=[text]), description)
        return
    plan = match(Spec.of(trainable=[text]), description)
    assert {name for name, said in plan.expected.items() if said is Expected.TRAINABLE} == wanted
    assert [u.selector.text for u in plan.unmatched] == ([] if wanted else [text])


@given(st.data())
def test_lists_and_precedence_follow_the_oracle(data: st.DataObject) -> None:
    """`!` takes from the whole list, unchecked beats trainable beats frozen, and every tensor is expected once."""
    description = data.draw(models(tied=False))
    texts = {key: data.draw(st.lists(paths(description), max_size=3)) for key in ("unchecked", "trainable", "frozen")}
    minus = {key: data.draw(st.lists(paths(description), max_size=2)) if texts[key] else [] for key in texts}
    rest = data.draw(st.sampled_from(Expected))
    found = {text: oracle(description, text) for group in (*texts.values(), *minus.values()) for text in group}
    assume(None not in found.values())
    named = {
        key: {n for t in texts[key] for n in found[t] or ()} - {n for t in minus[key] for n in found[t] or ()}
        for key in texts
    }
    spec = Spec.of(rest=rest.value, **{key: [*(f"!{t}" for t in minus[key]), *texts[key]] for key in texts})
    wanted = {
        name: next((Expected(key) for key in ("unchecked", "trainable", "frozen") if name in named[key]), rest)
        for name in description.by_name
    }
    assert dict(match(spec, description).expected) == wanted


@given(st.data(), st.randoms(use_true_random=False))
def test_the_order_within_a_list_is_nothing(data: st.DataObject, shuffled: random.Random) -> None:
    """However a list is ordered, the plan says the same, and covers every tensor exactly once."""
    description = data.draw(models())
    keys = {
        key: data.draw(lists(description)) for key in ("trainable", "frozen", "unchecked", "buffers_may_move", "eval")
    }
    other = {key: shuffled.sample(texts, len(texts)) for key, texts in keys.items()}
    try:
        one = match(Spec.of(**keys), description)
    except SpecError:
        with pytest.raises(SpecError):
            match(Spec.of(**other), description)
        return
    two = match(Spec.of(**other), description)
    assert list(one.expected) == [tensor.name for tensor in description.tensors]
    assert (one.expected, one.buffers_may_move, one.eval_layers) == (
        two.expected,
        two.buffers_may_move,
        two.eval_layers,
    )
    assert {u.selector for u in one.unmatched} == {u.selector for u in two.unmatched}
    assert [c.tensor for c in one.contradictions] == [c.tensor for c in two.contradictions]


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_number_is_a_whole_component(one: int, other: int) -> None:
    """`layer.1` never selects `layer.10`, whatever the numbers."""
    assume(one != other)
    description = model(f"layer.{one}.weight", f"layer.{other}.weight")
    assert expected(description, trainable=[f"layer.{one}"]) == "TF"


class TestSelectors:
    """The table of selectors, line by line."""

    NET = model(
        "stem.bn1.weight",
        "~stem.bn1.running_mean",
        "blocks.0.bn1.weight",
        "blocks.1.bn1.weight",
        "blocks.2.conv.weight",
        "fc.weight",
        items={"blocks": 3},
        types={"stem.bn1": "BatchNorm2d", "blocks.0.bn1": "BatchNorm2d", "blocks.1.bn1": "BatchNorm2d"},
    )

    @pytest.mark.parametrize(
        ("texts", "wanted"),
        [
            (["stem"], "TTFFFF"),
            (["stem.bn1.weight"], "TFFFFF"),
            (["*.bn?"], "TTTTFF"),
            (["*"], "TTTTTT"),
            (["blocks.*"], "FFTTTF"),
            (["*.weight"], "TFTTTT"),
            (["?locks.?.bn*"], "FFTTFF"),
            (["blocks[0:2]"], "FFTTFF"),
            (["blocks[-1]"], "FFFFTF"),
            (["blocks[1:]"], "FFFTTF"),
            (["blocks[::2]"], "FFTFTF"),
            (["bl*[0].*"], "FFTFFF"),
            (["blocks[0:3].bn?"], "FFTTFF"),
            (["type:BatchNorm*"], "TTTTFF"),
            (["type:_BatchNorm2d"], "TTTTFF"),
            (["re:bn1.w"], "TFTTFF"),
            (["*", "!fc", "!blocks[0]"], "TTFTTF"),
            (["!*.bn1", "*"], "FFFFTT"),
        ],
    )
    def test_selects(self, texts: list[str], wanted: str) -> None:
        """Each form selects what the contract's table says, buffers included."""
        assert expected(self.NET, trainable=texts) == wanted

    def test_type_is_the_owner_only(self) -> None:
        """`type:` of a container does not reach what its submodules own, and the hint says so."""
        plan = match(Spec.of(trainable=["type:Block"]), self.NET)
        assert set(plan.expected.values()) == {Expected.FROZEN}
        assert "own no tensors themselves" in plan.unmatched[0].hint

    def test_indexing_the_model_itself(self) -> None:
        """`[1]` is the second item when the model is a Sequential."""
        assert expected(model("0.weight", "1.weight", items={"": 2}), trainable=["[1]"]) == "FT"

    def test_out_of_range_is_an_error_with_every_place(self) -> None:
        """All bad indices are reported at once, each with its line and what the module has."""
        text = 'trainable = [\n  "blocks[3]",\n  "fc[0]",\n  "blocks[0:4]",\n  "blocks[2:2]",\n]\n'
        with pytest.raises(SpecError) as caught:
            match(Spec.parse(text), self.NET)
        assert caught.value.message.splitlines() == [
            "<text>:2: `blocks[3]` in `trainable` is out of range: `blocks` has 3 items, [0] to [2]",
            "<text>:3: `fc[0]` in `trainable` cannot be indexed: `fc` is a Linear,"
            " and only a ModuleList or Sequential takes an index",
            "<text>:4: `blocks[0:4]` in `trainable` is out of range: `blocks` has 3 items, [0] to [2]",
            "<text>:5: `blocks[2:2]` in `trainable` takes no item: `blocks` has 3 items, [0] to [2]",
        ]
        assert caught.value.location is not None
        assert caught.value.location.line == 2

    def test_a_glob_searches_for_modules_with_such_an_item(self) -> None:
        """After a glob, modules without the item are passed over as long as one has it."""
        net = model("a.0.weight", "b.0.weight", "b.1.weight", items={"a": 1, "b": 2})
        assert expected(net, trainable=["*[1]"]) == "FFT"
        nested = model("a.0.x.0.weight", "b.0.x.0.weight", "b.0.x.1.weight")
        indexed = {"a": 1, "b": 1, "a.0.x": 1, "b.0.x": 2}
        assert expected(model(*nested.by_name, items=indexed), trainable=["?[0].x[1]"]) == "FFT"

    @pytest.mark.parametrize("text", ["blocks?0", "a", "a?b"])
    def test_components_hold(self, text: str) -> None:
        """`?` is no dot, and a name that merely begins alike is not below."""
        net = model("a.weight", "a-b.weight", "a!.weight", "blocks.0.weight")
        wanted = {"blocks?0": "FFFF", "a": "TFFF", "a?b": "FTFF"}[text]
        assert expected(net, trainable=[text]) == wanted


class TestRest:
    """`rest` defaults to the opposite when only one of trainable and frozen is given, else to unchecked."""

    NET = model("a.weight", "b.weight", "c.weight")

    @pytest.mark.parametrize(
        ("keys", "wanted"),
        [
            ({"trainable": ["a"]}, "TFF"),
            ({"frozen": ["a"]}, "FTT"),
            ({"trainable": ["a"], "frozen": ["b"]}, "TF-"),
            ({"unchecked": ["a"]}, "---"),
            ({"trainable": []}, "FFF"),
            ({"trainable": ["a"], "frozen": ["b"], "rest": "trainable"}, "TFT"),
            ({"trainable": ["a", "b"], "frozen": ["*"], "unchecked": ["b"]}, "T-F"),
        ],
    )
    def test_rest(self, keys: dict[str, object], wanted: str) -> None:
        """Each default, and each list beating the weaker one."""
        assert expected(self.NET, **keys) == wanted


class TestTied:
    """A tied tensor carries all its names."""

    NET = model("emb.weight=head.weight", "body.weight")

    @pytest.mark.parametrize(
        ("keys", "wanted"),
        [
            ({"trainable": ["emb", "head"]}, "TF"),
            ({"trainable": ["head"], "frozen": ["body"]}, "TF"),
            ({"frozen": ["emb"], "trainable": ["body"]}, "FT"),
            ({"trainable": ["head"], "unchecked": ["emb"]}, "-F"),
        ],
    )
    def test_one_expectation(self, keys: dict[str, object], wanted: str) -> None:
        """No contradiction where no name is expected otherwise, or where a list leaves one unchecked."""
        assert expected(self.NET, **keys) == wanted
        assert not match(Spec.of(**keys), self.NET).contradictions  # type: ignore[arg-type]  # keys by name

    @pytest.mark.parametrize("text", ['trainable = ["head"]\nfrozen = ["emb"]', 'trainable = ["head"]'])
    def test_contradiction(self, text: str) -> None:
        """Frozen under one name, by a list or by the rest, and trainable under the other: said with both names."""
        plan = match(Spec.parse(text), self.NET)
        (found,) = plan.contradictions
        assert (found.tensor, found.frozen_as, found.trainable_as) == ("emb.weight", "emb.weight", "head.weight")
        assert found.location is not None
        assert found.location.line == 1
        assert plan.expected["emb.weight"] is Expected.UNCHECKED

    def test_type_knows_each_owner(self) -> None:
        """`type:` selects a tied tensor under the name whose owner has that class only."""
        net = model("emb.weight=head.weight", types={"emb": "Embedding"})
        assert match(Spec.of(trainable=["type:Embedding"]), net).contradictions[0].trainable_as == "emb.weight"


class TestOverlaps:
    """FZ004: two lists name the same tensor, a bare `*` aside."""

    NET = model("a.weight", "a.bias", "b.weight")

    def test_silent(self) -> None:
        """A bare `*`, lists apart, and what `!` took away are no overlap."""
        for keys in (
            {"trainable": ["a"], "frozen": ["*"]},
            {"trainable": ["a"], "frozen": ["b"]},
            {"trainable": ["a", "!a.bias"], "frozen": ["a.bias"]},
        ):
            assert match(Spec.of(**keys), self.NET).overlaps == ()  # type: ignore[arg-type]  # keys by name

    def test_grouped_by_pair(self) -> None:
        """All tensors of one pair of selectors stand together, the stronger list's selector first."""
        plan = match(Spec.of(trainable=["a"], frozen=["*.weight", "a", "*"]), self.NET)
        said = [(o.stronger.text, o.stronger.list, o.weaker.text, o.tensors) for o in plan.overlaps]
        assert said == [
            ("a", "trainable", "*.weight", ("a.weight",)),
            ("a", "trainable", "a", ("a.weight", "a.bias")),
        ]


def test_counts_come_through() -> None:
    """`[expect]` stands in the plan with its place."""
    plan = match(Spec.parse("trainable = []\n[expect]\nfrozen_parameters = 3\n"), model("a.weight"))
    assert plan.counts is not None
    assert plan.counts.location is not None
    assert (plan.counts.frozen_parameters, plan.counts.location.line) == (3, 2)
    assert plan.counts != Counts()


class TestWhereItIsSaid:
    """Each tensor's line of the spec, for those who are sent there."""

    def said_at(self, text, *names):
        plan = match(Spec.parse(text, "s.toml"), model(*names))
        return {name: place.line for name, place in plan.said_at.items()}

    def test_it_is_the_line_of_the_selector_that_wins(self):
        """The stronger list's, and of two in a list the later one's."""
        text = 'frozen = ["*"]\ntrainable = [\n  "a",\n  "a.x",\n]\n'
        assert self.said_at(text, "a.x.w", "a.y.w", "b.w") == {"a.x.w": 4, "a.y.w": 3, "b.w": 1}

    def test_the_rest_is_said_by_its_key_or_the_list_it_follows_from(self):
        """`rest` where it stands, else the only list."""
        assert self.said_at('steps = 1\ntrainable = ["a"]\n', "a.w", "b.w") == {"a.w": 2, "b.w": 2}
        assert self.said_at('trainable = ["a"]\nrest = "frozen"\n', "a.w", "b.w") == {"a.w": 1, "b.w": 2}

    def test_a_tied_tensor_is_said_by_any_of_its_names(self):
        """The list that names an alias names the tensor."""
        assert self.said_at('rest = "unchecked"\nfrozen = ["head"]\n', "emb.w=head.w") == {"emb.w": 2}

    def test_a_spec_from_python_has_no_lines(self):
        """Nothing is made up."""
        assert match(Spec.of(trainable=["a"]), model("a.w")).said_at == {}
