"""Row ranges of partly trained parameters: what a spec expects of each row, and what the probe sees of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

import freezecheck
from freezecheck.errors import SpecError
from freezecheck.probe.change import changed_rows
from freezecheck.records import Description, Expected, Gradient, Layer, Plan, Tensor
from freezecheck.spec import Spec
from freezecheck.spec.match import match

torch.set_num_threads(1)
STRENGTH = ("unchecked", "trainable", "frozen")


def described(*tensors: Tensor) -> Description:
    """These tensors, each owned by the module above it."""
    paths = dict.fromkeys(["", *(name.rpartition(".")[0] for tensor in tensors for name in tensor.names)])
    own = {path: tuple(n for t in tensors for n in t.names if n.rpartition(".")[0] == path) for path in paths}
    return Description(tensors, tuple(Layer(path, "Linear", tensors=own[path]) for path in paths))


def by_row(plan: Plan, tensor: Tensor) -> list[Expected]:
    """What is expected of each row."""
    rows = plan.rows.get(tensor.name)
    if rows is None:
        return [plan.expected[tensor.name]] * tensor.shape[0]
    return [run.expected for run in rows for _ in range(run.start, run.stop)]


@st.composite
def selectors(draw: st.DrawFn, names: tuple[str, ...]) -> str:
    """A name, the layer above it, or rows of it that may lie outside."""
    name = draw(st.sampled_from(names))
    bound = st.one_of(st.just(""), st.integers(-7, 7).map(str))
    return draw(
        st.sampled_from((name, name.rpartition(".")[0], "*"))
        | st.builds(lambda a, b: f"{name}[{a}:{b}]", bound, bound)
        | st.integers(-7, 7).map(lambda n: f"{name}[{n}]")
    )


def rows_of(text: str, name: str, count: int) -> set[int] | None:
    """The rows of one name that a selector selects, by Python's own list; None where it lies outside."""
    if "[" not in text:
        return set(range(count)) if text in ("*", name, name.rpartition(".")[0]) else set()
    base, _, inside = text.removesuffix("]").partition("[")
    if base != name:
        return set()
    bounds = [int(bound) if bound else None for bound in inside.split(":")]
    if any(bound is not None and not -count <= bound <= count for bound in bounds):
        return None
    items = list(range(count))
    if len(bounds) == 1:
        return {items[bounds[0]]} if bounds[0] != count else None
    return set(items[bounds[0] : bounds[1]]) or None


@given(st.data(), st.booleans())
def test_every_row_is_expected_what_a_brute_force_search_says(data: st.DataObject, tied: bool) -> None:
    """`!` takes rows away, unchecked beats trainable beats frozen row by row, and a tie must agree in each row."""
    one = Tensor("a.weight", "parameter", (6, 2), aliases=("c.weight",) if tied else ())
    other = Tensor("b.weight", "parameter", (4,))
    names = ("a.weight", "b.weight", *one.aliases)
    lists = {key: data.draw(st.lists(selectors(names), max_size=3)) for key in STRENGTH}
    minus = {key: data.draw(st.lists(selectors(names), max_size=2)) if lists[key] else [] for key in STRENGTH}
    rest = data.draw(st.sampled_from(Expected))
    spec = Spec.of(rest=rest.value, **{key: [*(f"!{text}" for text in minus[key]), *lists[key]] for key in STRENGTH})
    assume(any(lists.values()) or rest is not Expected.UNCHECKED)  # else the flags are the intent
    net = described(one, other)
    count = {name: tensor.shape[0] for tensor in (one, other) for name in tensor.names}
    every = [text for group in (*lists.values(), *minus.values()) for text in group]
    if any(rows_of(text, name, count[name]) is None for text in every for name in names):
        with pytest.raises(SpecError):
            match(spec, net)
        return

    def listed(name: str, row: int) -> str | None:
        def held(texts: list[str]) -> bool:
            return any(row in (rows_of(text, name, count[name]) or ()) for text in texts)

        return next((key for key in STRENGTH if held(lists[key]) and not held(minus[key])), None)

    plan = match(spec, net)
    for tensor in (one, other):
        said = [{listed(name, row) for name in tensor.names} for row in range(tensor.shape[0])]
        full = [{key or rest.value for key in keys} for keys in said]
        contradicts = [
            "unchecked" not in keys and {"frozen", "trainable"} <= known for keys, known in zip(said, full, strict=True)
        ]
        if any(contradicts):
            assert [c.tensor for c in plan.contradictions] == [tensor.name]
            assert by_row(plan, tensor) == [Expected.UNCHECKED] * tensor.shape[0]
            continue
        wanted = [
            "unchecked" if "unchecked" in keys else next(k for k in ("trainable", "frozen", "unchecked") if k in known)
            for keys, known in zip(said, full, strict=True)
        ]
        assert by_row(plan, tensor) == [Expected(word) for word in wanted]
        assert (tensor.name in plan.rows) == (len(set(wanted)) > 1)
        assert plan.expected[tensor.name].value == (
            "trainable" if "trainable" in wanted else wanted[0] if len(set(wanted)) == 1 else "unchecked"
        )
        assert all(a.expected is not b.expected for a, b in pairwise(plan.rows.get(tensor.name, ())))


class TestSelectors:
    """What a row range may stand on."""

    NET = Description(
        (
            Tensor("embed.weight", "parameter", (40, 4)),
            Tensor("blocks.0.weight", "parameter", (8, 4)),
            Tensor("scale", "parameter", ()),
            Tensor("embed.table", "buffer", (40,)),
        ),
        (
            Layer("", "Net", tensors=("scale",)),
            Layer("embed", "Embedding", tensors=("embed.weight", "embed.table")),
            Layer("blocks", "ModuleList", items=("0",)),
            Layer("blocks.0", "Linear", tensors=("blocks.0.weight",)),
        ),
    )

    def rows(self, **keys: list[str]) -> dict[str, list[tuple[int, int, str]]]:
        """Each parameter whose rows differ, with its runs."""
        plan = match(Spec.of(**keys), self.NET)  # type: ignore[arg-type]  # a test gives keys by name
        return {name: [(r.start, r.stop, r.expected.value) for r in runs] for name, runs in plan.rows.items()}

    def test_an_index_into_modules_stays_one(self) -> None:
        """`blocks[0]` is the first block, and a glob that meets a module means modules."""
        assert self.rows(trainable=["blocks[0]"]) == {}
        assert self.rows(trainable=["*[0]"]) == {}

    def test_rows_of_an_item(self) -> None:
        """After an index into modules a further one goes into the rows."""
        assert self.rows(trainable=["blocks[0].weight[6:]"]) == {
            "blocks.0.weight": [(0, 6, "frozen"), (6, 8, "trainable")]
        }

    def test_a_glob_takes_the_parameters_that_have_such_rows(self) -> None:
        """Of all weights only one has 40 rows."""
        assert self.rows(trainable=["*.weight[30:32]"]) == {
            "embed.weight": [(0, 30, "frozen"), (30, 32, "trainable"), (32, 40, "frozen")]
        }

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("embed.weight[50:]", "is out of range: `embed.weight` has 40 rows, [0] to [39]"),
            ("embed.weight[40]", "is out of range: `embed.weight` has 40 rows, [0] to [39]"),
            ("embed.weight[4:4]", "takes no item: `embed.weight` has 40 rows, [0] to [39]"),
            ("embed.weight[::2]", "has a step, and the rows of a parameter are neighbours: write `[start:stop]`"),
            ("scale[0]", "cannot be indexed: `scale` is a single number, and only a parameter's rows take an index"),
            ("embed.table[0:3]", "cannot be indexed: `embed.table` is a buffer, and only a parameter's rows take an"),
            ("*.weight[99]", "is out of range"),
        ],
    )
    def test_refused(self, text: str, said: str) -> None:
        """A range that the parameter does not have is an error with its line, as it is for modules."""
        with pytest.raises(SpecError) as caught:
            match(Spec.parse(f'\ntrainable = ["{text}"]\n'), self.NET)
        assert caught.value.message.startswith(f"<text>:2: `{text}` in `trainable` {said}")

    def test_a_misspelled_name_is_offered_with_its_rows(self) -> None:
        """A selector of rows that selects nothing gets an offer that can be written in its place."""
        (lost,) = match(Spec.of(trainable=["embd.weight[9:]"]), self.NET).unmatched
        assert lost.nearest[0] == "embed.weight[9:]"

    def test_lists_overlap_where_their_rows_do(self) -> None:
        """Neighbours are no overlap; rows that two lists name are one, said with the parameter's name."""
        apart = match(Spec.of(trainable=["embed.weight[9:]"], frozen=["embed.weight[:9]"]), self.NET)
        across = match(Spec.of(trainable=["embed.weight[9:]"], frozen=["embed.weight[:10]"]), self.NET)
        assert apart.overlaps == ()
        assert [(o.stronger.text, o.weaker.text, o.tensors) for o in across.overlaps] == [
            ("embed.weight[9:]", "embed.weight[:10]", ("embed.weight",))
        ]


@given(
    st.lists(st.lists(st.sampled_from((0.0, -0.0, 1.0, float("nan"), 5e-324)), min_size=2, max_size=2), max_size=6),
    st.data(),
    st.sampled_from((torch.float64, torch.float32, torch.bfloat16, torch.complex128)),
)
def test_changed_rows_are_those_with_other_bytes(
    before: list[list[float]], data: st.DataObject, dtype: torch.dtype
) -> None:
    """Row by row the bytes are compared: a NaN is itself, and -0.0 is not 0.0; strides do not matter."""
    one = torch.tensor(before, dtype=torch.float64).reshape(-1, 2).to(dtype)
    after = one.clone()
    for row in data.draw(st.sets(st.integers(0, len(before) - 1)) if before else st.just(set())):
        after[row, 0] = data.draw(st.sampled_from((0.0, -0.0, 2.0)))
    raw = [
        bytes(a.contiguous().view(torch.uint8).tolist()) != bytes(b.contiguous().view(torch.uint8).tolist())
        for a, b in zip(one, after, strict=True)
    ]
    assert changed_rows(one, after).tolist() == raw
    assert changed_rows(one.t().contiguous().t(), after).tolist() == raw


class Tokens(nn.Module):
    """An embedding of 20 tokens, of which the last four are new, below a frozen head."""

    def __init__(self, *, sparse: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 4, sparse=sparse)
        self.head = nn.Linear(4, 2).requires_grad_(False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(tokens).mean(1))


SPEC = {"trainable": ["embed.weight[16:]"]}


def mask(model: Tokens, start: int = 16) -> Tokens:
    """Let only the rows from `start` on have a gradient, as people do."""
    keep = torch.zeros(20, 1)
    keep[start:] = 1
    model.embed.weight.register_hook(lambda gradient: gradient * keep)
    return model


def verified(
    model: nn.Module, optimizer: torch.optim.Optimizer, *, high: int = 20, **keys: object
) -> freezecheck.Result:
    """Verify with random tokens below `high`."""
    spec = Spec.of(**{**SPEC, **keys})  # type: ignore[arg-type]  # a test gives keys by name
    return freezecheck.verify(model, spec, optimizer=optimizer, inputs=lambda: torch.randint(0, high, (8, 9)))


def codes(result: freezecheck.Result) -> list[str]:
    """What was found."""
    return [finding.code for finding in result.findings]


class TestProbe:
    """A training step, row by row."""

    def test_silent_with_a_masked_gradient(self) -> None:
        """Zeroed gradients and plain SGD leave the frozen rows byte for byte, and the verdict says so."""
        model = mask(Tokens())
        before = model.embed.weight.detach().clone()
        result = verified(model, torch.optim.SGD([model.embed.weight], lr=0.1))
        assert codes(result) == []
        assert "16 frozen rows stayed byte for byte" in str(result)
        assert model.embed.weight.equal(before)

    def test_silent_with_a_sparse_gradient(self) -> None:
        """Rows that a sparse gradient leaves out have none."""
        model = Tokens(sparse=True)
        spec = Spec.of(**SPEC)  # type: ignore[arg-type]  # keys by name
        result = freezecheck.verify(
            model,
            spec,
            optimizer=torch.optim.SparseAdam([model.embed.weight]),
            inputs=lambda: torch.randint(16, 20, (8, 9)),
        )
        assert codes(result) == []

    def test_silent_where_the_other_rows_may_do_as_they_like(self) -> None:
        """Unchecked rows are nobody's business."""
        model = Tokens()
        optimizer = torch.optim.AdamW([model.embed.weight])
        assert codes(verified(model, optimizer, unchecked=["embed.weight[:16]"])) == []

    def test_rows_that_no_batch_held_are_not_judged(self) -> None:
        """Tokens that never occur get no gradient: said as not checked, and no finding."""
        model = Tokens()
        result = verified(model, torch.optim.SGD([model.embed.weight], lr=0.1), high=9, unchecked=["embed.weight[:16]"])
        assert codes(result) == []
        assert "not checked: whether embed.weight[16:20] trains" in str(result)

    def test_weight_decay_moves_frozen_rows(self) -> None:
        """The classic: the gradient is masked, and AdamW decays every row all the same."""
        model = mask(Tokens())
        (found,) = verified(model, torch.optim.AdamW([model.embed.weight], lr=0.1)).findings
        assert found.code == "FZ301"
        assert found.message.startswith(
            "All 16 rows of `embed.weight` that are expected frozen (`embed.weight[0:16]`) moved by up to "
        )
        assert "their gradient is zero, but AdamW (lr 0.1, beta1 0.9, weight decay 0.01) applies" in found.message
        assert found.fix == "give `embed.weight` a parameter group of its own with weight_decay=0"
        assert found.evidence["rows"] == [[0, 16]]

    def test_without_a_mask_all_rows_train(self) -> None:
        """Rows that were in the batch moved, by a gradient of their own; the ranges name them."""
        model = Tokens()
        tokens = torch.tensor([[1, 2, 17]])
        (found,) = freezecheck.verify(
            model,
            Spec.of(**SPEC),  # type: ignore[arg-type]  # keys by name
            optimizer=torch.optim.SGD([model.embed.weight], lr=0.1),
            inputs=lambda: tokens,
        ).findings
        assert (found.code, found.evidence["cause"], found.evidence["rows"]) == ("FZ301", "trained", [[1, 3]])
        assert "2 of the 16 rows" in found.message

    def test_a_mask_upside_down(self) -> None:
        """The frozen rows train instead: found, and that the others got no gradient is said as not checked."""
        model = Tokens()
        keep = torch.ones(20, 1)
        keep[16:] = 0
        model.embed.weight.register_hook(lambda gradient: gradient * keep)
        result = verified(model, torch.optim.SGD([model.embed.weight], lr=0.1))
        assert codes(result) == ["FZ301"]
        assert "whether embed.weight[16:20] trains" in str(result)

    def test_a_write_is_named(self) -> None:
        """A forward that writes frozen rows is found with its line."""

        class Normed(Tokens):
            def forward(self, tokens: torch.Tensor) -> torch.Tensor:
                self.embed.weight.data[:3].mul_(0.5)
                return super().forward(tokens)

        model = mask(Normed())
        (found,) = verified(model, torch.optim.SGD([model.embed.weight], lr=0.1)).findings
        assert (found.code, found.evidence["cause"], found.evidence["rows"]) == ("FZ301", "write", [[0, 3]])
        assert found.location is not None
        assert "mul_(0.5)" in found.location.text

    def test_trainable_rows_that_are_put_back(self) -> None:
        """Somebody restores the wrong rows after the step: those that should train get a gradient and stand still."""

        class Restoring(torch.optim.SGD):
            def step(self, closure=None):  # type: ignore[no-untyped-def, override]  # torch's own signature
                (weight,) = self.param_groups[0]["params"]
                old = weight.detach()[16:].clone()
                super().step(closure)
                weight.data[16:] = old

        model = Tokens()
        result = verified(model, Restoring([model.embed.weight], lr=0.1), unchecked=["embed.weight[:16]"])
        assert codes(result) == ["FZ302"]
        assert "None of the 4 rows of `embed.weight` that are expected trainable" in result.findings[0].message

    def test_a_parameter_without_further_dimensions(self) -> None:
        """Rows of a bias are its elements."""
        model = nn.Linear(3, 6)
        spec = Spec.of(trainable=["weight", "bias[4:]"])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        (found,) = freezecheck.verify(model, spec, optimizer=optimizer, inputs=torch.randn(2, 3)).findings
        assert (found.tensors, found.evidence["moved_rows"]) == (("bias",), 4)

    def test_frozen_by_its_flag_nothing_moves(self) -> None:
        """Partly trained and not trainable at all: that is FZ102, and no word of rows."""
        model = Tokens()
        model.embed.requires_grad_(False)
        model.head.requires_grad_(True)
        optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
        assert codes(verified(model, optimizer, unchecked=["head"])) == ["FZ102"]

    def test_a_shard_or_no_values_is_said(self) -> None:
        """On the meta device there are no rows to compare, and that is not passed over."""
        with torch.device("meta"):
            model = Tokens()
            tokens = torch.randint(0, 20, (8, 9))
        spec = Spec.of(**SPEC)  # type: ignore[arg-type]  # keys by name
        optimizer = torch.optim.SGD([model.embed.weight], lr=0.1)
        result = freezecheck.verify(model, spec, optimizer=optimizer, inputs=tokens)
        assert codes(result) == []
        assert any(item.what == "the single rows of embed.weight" for item in result.report.skipped)

    def test_what_was_seen_is_in_the_table(self) -> None:
        """The facts carry counts, ranges and the gradient of each kind of rows."""
        model = mask(Tokens())
        case = verified(model, torch.optim.SGD([model.embed.weight], lr=0.1)).report.case
        (fact,) = [fact for fact in case.facts if fact.frozen_rows]
        assert fact.frozen_rows is not None
        assert fact.trainable_rows is not None
        assert (fact.frozen_rows.count, fact.frozen_rows.moved, fact.frozen_rows.gradient) == (16, 0, Gradient.ZERO)
        assert (fact.trainable_rows.moved, fact.trainable_rows.spans) == (4, ((16, 20),))
