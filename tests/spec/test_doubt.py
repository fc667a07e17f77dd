"""Selectors that a description cannot settle: containers of unknown length, layers of unknown class.

Only a checkpoint gives such descriptions. What a selector may or may not select is then unchecked, never guessed.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from handmade import model
from hypothesis import given
from hypothesis import strategies as st
from strategies import lists, models

from freezecheck.errors import SpecError
from freezecheck.records import Description, Expected, Layer, Plan, Rows, Tensor
from freezecheck.spec import Spec
from freezecheck.spec.match import match
from freezecheck.spec.selectors import Index

LETTERS = {Expected.TRAINABLE: "T", Expected.FROZEN: "F", Expected.UNCHECKED: "-"}


def blurred(net: Description, *open_ended: str, classes: bool = True) -> Description:
    """The model as a checkpoint tells of it: these containers may go on, and classes are unknown, batch norms aside."""

    def dim(layer: Layer) -> Layer:
        more = layer.name in open_ended
        if classes and "Norm" not in layer.type:
            return replace(layer, type="", bases=("Module",), more=more)
        return replace(layer, bases=("BatchNorm", "BatchNorm2d", "Module") if classes else layer.bases, more=more)

    return Description(net.tensors, tuple(dim(layer) for layer in net.layers))


NET = blurred(
    model(
        "net.0.weight",
        "net.2.weight",
        "net.3.weight",
        "~net.3.running_mean",
        "blocks.0.fc.weight",
        "blocks.1.fc.weight",
        "head.weight",
        items={"net": 4, "blocks": 2},
        types={"net.3": "BatchNorm2d"},
    ),
    "net",
)


def planned(net: Description = NET, **keys: object) -> Plan:
    return match(Spec.of(**keys), net)  # type: ignore[arg-type]  # a test gives keys by name


def letters(plan: Plan) -> str:
    """One letter a tensor: T, F or -."""
    return "".join(LETTERS[said] for said in plan.expected.values())


# ---- what is certain all the same


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("net[0]", "TFFFFFF"),
        ("net[2:]", "FTTTFFF"),
        ("net[2:9]", "FTTTFFF"),
        ("net[::2]", "TTFFFFF"),
        ("net[:3]", "TTFFFFF"),
        ("net[0:].w*", "TTTFFFF"),
        ("blocks[-1]", "FFFFFTF"),
        ("blocks[-2:]", "FFFFTTF"),
        ("type:BatchNorm*", "FFTTFFF"),
        ("type:BatchNorm2d", "FFTTFFF"),
        ("type:Module", "TTTTTTT"),
        ("type:*", "TTTTTTT"),
    ],
)
def test_what_does_not_hang_on_the_unknown_is_decided(text: str, wanted: str) -> None:
    """From the front an index means what it means; an exact container and a known class are as in any model."""
    plan = planned(trainable=[text])
    assert (letters(plan), plan.doubts, plan.in_doubt, plan.unmatched) == (wanted, (), frozenset(), ())


def test_a_selector_of_unknown_items_alone_is_no_mistake() -> None:
    """Items behind the last known one have no tensors: nothing is selected, which is told and is no FZ001."""
    plan = planned(trainable=["head", "net[7]", "net[4:6]"])
    assert letters(plan) == "FFFFFFT"
    assert plan.unmatched == ()
    assert [one.selector.text for one in plan.doubts] == ["net[7]", "net[4:6]"]


def test_what_a_stronger_list_says_for_certain_stands() -> None:
    """`unchecked` and `trainable` beat a `frozen` that is in doubt."""
    plan = planned(trainable=["net[0]", "head"], frozen=["net[-4:]", "type:Linear"], rest="frozen")
    assert letters(plan) == "TFFFFFT"
    assert plan.in_doubt == frozenset()


@pytest.mark.parametrize(
    "text", ["net[2:2]", "net[3:1]", "net[-1:-2]", "net[-1:0]", "blocks[2]", "blocks[-3]", "head[-1]"]
)
def test_what_no_length_makes_right_is_still_refused(text: str) -> None:
    """A slice that is empty whatever the length, an exact container's bounds, and what takes no index."""
    with pytest.raises(SpecError):
        planned(trainable=[text])


@pytest.mark.parametrize("text", ["net[0:].wieght", "net[1]", "blocks[0].wieght"])
def test_what_certainly_selects_nothing_is_unmatched(text: str) -> None:
    """No tensor has that name whatever is unknown: a misspelling stays one."""
    assert [one.selector.text for one in planned(trainable=["head", text]).unmatched] == [text]


@given(st.data())
def test_a_model_that_is_known_has_no_doubts(data: st.DataObject) -> None:
    """Of a real model every selector is decided."""
    net = data.draw(models())
    try:
        plan = planned(net, **{key: data.draw(lists(net)) for key in ("trainable", "frozen", "unchecked", "eval")})
    except SpecError:
        return
    assert (plan.doubts, plan.in_doubt) == ((), frozenset())


# ---- what is in doubt


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({"trainable": ["net[-1]"]}, "FF--FFF"),
        ({"trainable": ["net[-3:]"]}, "F---FFF"),
        ({"trainable": ["net[-9:]"]}, "----FFF"),
        ({"trainable": ["net[:-1]"]}, "TT--FFF"),
        ({"trainable": ["net[-3:-1]"]}, "F---FFF"),
        ({"trainable": ["net[-4:2]"]}, "-FFFFFF"),
        ({"trainable": ["net", "!net[-1]"]}, "TT--FFF"),
        ({"frozen": ["net[-1]"]}, "TT--TTT"),
        ({"frozen": ["net[-1]"], "unchecked": ["net[-1]"]}, "TT--TTT"),
        ({"trainable": ["*[-1]"]}, "FF--FTF"),
        ({"trainable": ["type:Linear"]}, "--FF---"),
        ({"trainable": ["*", "!type:Linear"]}, "--TT---"),
        ({"frozen": ["type:Embedding"]}, "--TT---"),
        ({"trainable": ["type:*Norm*"]}, "--TT---"),
        ({"trainable": ["type:Batch*"]}, "--TT---"),
        ({"trainable": ["head"], "frozen": ["type:Linear"]}, "------T"),
    ],
)
def test_what_hangs_on_the_unknown_is_unchecked(keys: dict[str, list[str]], wanted: str) -> None:
    """Tensors of which a list may or may not speak, and the selectors in doubt are no unmatched ones."""
    plan = planned(**keys)
    assert letters(plan) == wanted
    assert plan.unmatched == ()
    unsure = {name for name, letter in zip(plan.expected, wanted, strict=True) if letter == "-"}
    assert plan.in_doubt <= unsure
    assert plan.doubts


def test_the_reasons_are_given() -> None:
    """Each selector in doubt is recorded with what is not known."""
    doubts = {one.selector.text: one.why for one in planned(trainable=["net[-1]", "type:Linear"]).doubts}
    assert doubts == {
        "net[-1]": "a checkpoint does not say how many layers `net` has",
        "type:Linear": "a checkpoint does not say of which class a layer is",
    }
    root = blurred(model("0.weight", "1.weight", items={"": 2}), "")
    assert planned(root, trainable=["[-1]"]).doubts[0].why == "a checkpoint does not say how many layers the model has"


def test_of_a_tied_tensor_one_name_in_doubt_is_enough() -> None:
    """It is frozen as one and perhaps trainable as the other: no certain contradiction, and nothing expected."""
    net = blurred(model("net.0.weight=out.weight", "head.weight", items={"net": 1}), "net")
    plan = planned(net, trainable=["net[-1]"], frozen=["out"])
    assert letters(plan) == "--"
    assert (plan.contradictions, plan.in_doubt) == ((), {"net.0.weight"})


def test_a_contradiction_that_is_not_certain_is_none() -> None:
    """Frozen as one name and trainable as the other, unless it is the layer that is unchecked."""
    net = blurred(model("net.0.weight=out.weight", items={"net": 1}), "net")
    assert planned(net, trainable=["net"], frozen=["out"]).contradictions
    assert planned(net, trainable=["net"], frozen=["out"], unchecked=["net[-1]"]).contradictions == ()


def test_of_the_items_in_doubt_those_that_lack_the_next_step_are_passed_over() -> None:
    """`net[-2:]` may be net.0, which has a second block, and net.1, which has one only."""
    names = ("net.0.sub.0.fc.weight", "net.0.sub.1.fc.weight", "net.1.sub.0.fc.weight")
    net = blurred(model(*names, items={"net": 2, "net.0.sub": 2, "net.1.sub": 1}), "net")
    assert letters(planned(net, trainable=["net[-2:].sub[1]"])) == "F-F"


def test_rows_of_a_layer_in_doubt_are_unchecked() -> None:
    """Only those rows: the others are expected what they are without the selector."""
    net = blurred(model("net.0.weight", items={"net": 1}), "net")
    net = replace(net, tensors=(Tensor("net.0.weight", "parameter", shape=(10, 4)),))
    plan = planned(net, trainable=["net[-1].weight[8:]"])
    assert plan.rows == {"net.0.weight": (Rows(0, 8, Expected.FROZEN), Rows(8, 10, Expected.UNCHECKED))}


def test_buffers_in_doubt_may_move() -> None:
    """Who may have been allowed to move is not accused; buffers that are certainly not meant stay."""
    assert planned(trainable=["head"], buffers_may_move=["net[-1]"]).buffers_may_move == {"net.3.running_mean"}
    assert planned(trainable=["head"], buffers_may_move=["net[:-3]"]).buffers_may_move == {"net.3.running_mean"}
    known = planned(trainable=["head"], buffers_may_move=["net", "!net[3]"])
    assert known.buffers_may_move == frozenset()


@given(
    st.tuples(st.none() | st.integers(-6, 6), st.none() | st.integers(-6, 6), st.integers(1, 3)).map(
        lambda bounds: Index(*bounds)
    )
    | st.integers(-6, 6).map(lambda n: Index(n, single=True)),
    st.integers(1, 5),
)
def test_what_an_index_takes_holds_for_every_length(index: Index, known: int) -> None:
    """Certain is what every possible length takes; what any takes is possible; where none is right it is refused."""
    taken = []
    for length in range(known, known + 20):
        try:
            taken.append({position for position in index.positions(length) if position < known})
        except IndexError:
            continue
    try:
        certain, possible = index.among(known)
    except IndexError:
        assert taken == []
        return
    assert taken
    assert set(certain) <= set.intersection(*taken)
    assert set.union(*taken) <= set(possible)
    if index.from_the_front:
        assert set(certain) == set(possible) == set.intersection(*taken)
