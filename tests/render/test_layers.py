"""The rows of the layer table: what is one row, what is none, and that no tensor is lost."""

from __future__ import annotations

import pytest

from freezecheck.records import Case, Expected, Facts, Layer, LayerFacts, Tensor
from freezecheck.render._layers import SCREEN, LayerTable, Row
from tests.render.samples import Sketch, bert, resnet50, tied


def rows(sketch: Sketch, depth: int, spec: bool = False, every: bool = False) -> dict[str, Row]:
    return {row.name: row for row in LayerTable(sketch.case(spec), every=every).rows(depth)}


@pytest.mark.parametrize("depth", range(1, 9))
@pytest.mark.parametrize(("sketch", "total"), [(resnet50, 25_557_032), (bert, 109_482_240)])
def test_at_every_depth_the_rows_add_up_to_the_model(sketch, total, depth):
    """Whatever the depth, each parameter is in one row: the sums are the published sizes of these models."""
    table = LayerTable(sketch().case())
    assert sum(row.trainable + row.frozen for row in table.rows(depth)) == total


def test_a_model_without_layers_below_is_one_row():
    """The root itself is shown when it has no children."""
    net = Sketch("Linear")
    net.tensor("weight", 3, 4)
    assert list(rows(net, 1)) == ["(model)"]
    assert rows(net, 1)["(model)"].trainable == 12


def test_a_model_without_tensors_has_no_rows():
    """Nothing is shown of a model that has nothing to freeze."""
    assert rows(Sketch("Identity"), 1) == {}


def test_layers_without_tensors_are_left_out_and_counted():
    """ReLU and pooling have no row; the table says how many were left out, and `every` shows them."""
    assert "relu" not in rows(resnet50(), 1)
    assert LayerTable(resnet50().case()).hidden(1) == 3
    assert "relu" in rows(resnet50(), 1, every=True)
    assert LayerTable(resnet50().case(), every=True).hidden(1) == 0


def test_what_a_container_owns_beside_its_children_has_a_row():
    """A class token of the root is not lost."""
    assert rows(tied(), 1)["(model) itself"].trainable == 32


def test_equal_siblings_are_one_row_with_their_counts_summed():
    """Blocks that differ in size only, as the first of a ResNet's stage does, are one row."""
    row = rows(resnet50(), 2)["layer1.0–2"]
    assert (row.times, row.frozen) == (3, 215_808)


def test_siblings_in_another_state_stay_apart():
    """Six frozen blocks and six that train are two rows."""
    found = rows(bert(frozen=6), 3)
    assert (found["encoder.layer.0–5"].actual, found["encoder.layer.6–11"].actual) == ("frozen", "trainable")


def test_one_odd_block_among_equals_is_seen():
    """A block that differs in mode alone breaks the run: that is what the table is read for."""
    net = Sketch("Net")
    for index in range(4):
        net.norm(str(index), 8, training=index != 2)
    assert list(rows(net, 1)) == ["0–1", "2", "3"]


def test_below_collapsed_blocks_their_layers_are_collapsed_too():
    """At a greater depth each layer of a repeated block is one row."""
    row = rows(bert(), 8)["encoder.layer.0–5.attention.self.query"]
    assert (row.times, row.type, row.frozen) == (6, "Linear", 6 * (768 * 768 + 768))


def test_numbers_after_an_underscore_count_as_indices():
    """torchvision's ViT names its blocks encoder_layer_0, encoder_layer_1 …; conv1 and conv2 are two things."""
    net = Sketch("Net")
    for name in ("block_0", "block_1", "block_2", "other_3", "conv1", "conv2"):
        net.linear(name, 2, 2)
    assert list(rows(net, 1)) == ["block_0–2", "other_3", "conv1", "conv2"]


def test_named_siblings_are_never_collapsed():
    """Only indices count as neighbours: query, key and value stay three rows."""
    found = rows(bert(), 8)
    assert {name for name in found if ".0–5.attention.self." in name} == {
        f"encoder.layer.0–5.attention.self.{name}" for name in ("query", "key", "value")
    }


def test_the_depth_fits_a_screen_and_whatever_else_is_asked():
    """The deepest depth that fits is taken, and depth 1 when none does."""
    table = LayerTable(bert().case())
    deep = table.depth(lambda rows: True)
    assert len(table.rows(deep)) <= SCREEN
    assert deep == table.deepest
    assert table.depth(lambda rows: False) == 1
    assert LayerTable(resnet50().case()).depth(lambda rows: True) == 2


def test_a_buffer_that_can_move_marks_only_a_frozen_layer():
    """BatchNorm in train mode is marked where it is expected frozen, and nowhere else."""
    net = Sketch("Net")
    net.norm("kept", 8, expected=Expected.FROZEN)
    net.norm("quiet", 8, training=False, expected=Expected.FROZEN)
    net.norm("trained", 8, expected=Expected.TRAINABLE)
    assert [name for name, row in rows(net, 1, spec=True).items() if row.drifts] == ["kept"]


def test_a_flag_that_is_not_what_the_spec_says_is_marked():
    """`wrong` needs a spec, and is not said of what something else than the flag holds."""
    net = Sketch("Net")
    net.linear("a", 2, 2, grad=True, expected=Expected.FROZEN)
    net.linear("b", 2, 2, grad=False, expected=Expected.FROZEN)
    net.linear("c", 2, 2, grad=True, expected=Expected.FROZEN)
    net.held["c"] = "no_grad"
    assert [name for name, row in rows(net, 1, spec=True).items() if row.wrong] == ["a"]
    assert not any(row.wrong for row in rows(net, 1).values())


def test_thousands_of_equal_layers_are_one_row():
    """A long stack is one row that stands for all of it, and can be opened."""
    names = [str(index) for index in range(3000)]
    tensors = [Tensor(f"{name}.weight", "parameter", (5,), numel=5) for name in names]
    layers = [
        LayerFacts(Layer(name, "Scale", tensors=(f"{name}.weight",)), actual="trainable", trainable=5) for name in names
    ]
    case = Case(tuple(map(Facts, tensors)), (LayerFacts(Layer("", "Sequential")), *layers))
    (row,) = LayerTable(case).rows(1)
    assert (row.name, row.times, row.trainable) == ("0–2999", 3000, 15_000)
    assert len(LayerTable(case, every=True).rows(1)) == 3000
