"""How names of two sides are brought together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezecheck.checkpoint._names import align, unwrapped
from freezecheck.checkpoint._rows import count, spans, within

BACKBONE = ["conv.weight", "conv.bias", "fc.weight"]


def test_plain_names_stay():
    """Names that no wrapper touched, and a module that is really called `module`, are left alone."""
    assert unwrapped(BACKBONE) == {name: name for name in BACKBONE}
    assert unwrapped(["module.a", "b"]) == {"module.a": "module.a", "b": "b"}


def test_wrappers_are_taken_off():
    """What DataParallel, compile and FSDP add is gone."""
    names = ["module.module._orig_mod.a", "module.module.b._fsdp_wrapped_module.c"]
    assert list(unwrapped(names).values()) == ["a", "b.c"]


def test_names_that_would_meet_stay():
    """Two names that would become one are both kept as they are."""
    names = ["a", "_orig_mod.a"]
    assert unwrapped(names) == {name: name for name in names}


def test_equal_names_need_nothing():
    """Two checkpoints of one model are not renamed."""
    assert align(BACKBONE, BACKBONE).rename == {}
    assert align(BACKBONE, BACKBONE).note == ""


def test_a_prefix_of_the_second_is_found():
    """A backbone inside a larger model is matched, and said."""
    found = align(BACKBONE, ["model.conv.weight", "model.conv.bias", "head.weight"])
    assert found.rename == {"conv.weight": "model.conv.weight", "conv.bias": "model.conv.bias"}
    assert found.note == "2 names begin with `model.` after and without it before: matched"


def test_a_prefix_of_the_first_is_found():
    """A Lightning checkpoint before, a plain one after."""
    found = align([f"model.net.{name}" for name in BACKBONE], BACKBONE)
    assert found.rename == {f"model.net.{name}": name for name in BACKBONE}
    assert "`model.net.` before and without it after" in found.note


def test_two_different_prefixes_are_exchanged():
    """Both sides have a prefix of their own."""
    found = align([f"model.{name}" for name in BACKBONE], [f"backbone.{name}" for name in BACKBONE])
    assert found.rename["model.fc.weight"] == "backbone.fc.weight"


def test_a_prefix_that_brings_no_more_together_is_left():
    """`blocks.0.weight` is no renamed `weight` where the names fit as they are."""
    names = ["weight", "blocks.0.weight", "blocks.1.weight"]
    assert align(names, names).rename == {}


@pytest.mark.parametrize(
    ("prefixes", "taken"),
    [
        (["model.", "model_ema."], "model."),
        (["model.", "ema."], "model."),
        (["net.", "teacher."], "net."),
        (["generator.", "generator_ema."], "generator."),
        (["encoder.", "target_encoder."], "encoder."),
        (["backbone.", "ema."], "backbone."),
        (["student.", "x.student."], "student."),
        (["student.", "student.old."], "student."),
        (["model.g.", "model.g_ema."], "model.g."),
    ],
    ids=" ".join,
)
def test_of_two_prefixes_the_one_that_something_speaks_for_is_taken(prefixes, taken):
    """What a training calls its model, the original of a copy, the outer of two: these have no rival."""
    for order in (prefixes, prefixes[::-1]):
        found = align(BACKBONE, [prefix + name for prefix in order for name in BACKBONE])
        assert found.rename == {name: taken + name for name in BACKBONE}
        assert found.rivals == ()


def test_few_names_that_fit_by_chance_are_no_rivals():
    """Two layers that share a name with a few tensors of another model do not make it twice."""
    found = align([*BACKBONE, *"abcdefgh"], ["x.a", "y.a", "x.b", "y.b", "c"])
    assert (len(found.rename), found.rivals) == (2, ())


@pytest.mark.parametrize(
    "prefixes",
    [["student.", "teacher."], ["encoder_k.", "encoder_q."], ["lit.student.", "lit.teacher."], ["a.", "b.", "cc."]],
    ids=" ".join,
)
def test_prefixes_that_fit_equally_well_are_rivals(prefixes):
    """Nothing says which of them is meant, whichever side has them and though a few names are not among them."""
    twice = [prefix + name for prefix in prefixes[::-1] for name in BACKBONE]
    assert (align(BACKBONE, twice).rivals, align(BACKBONE, twice).longer) == (tuple(prefixes), "after")
    assert (align(twice, BACKBONE).rivals, align(twice, BACKBONE).longer) == (tuple(prefixes), "before")
    assert align([*BACKBONE, "head.weight"], twice).rivals == tuple(prefixes)


@given(
    st.sets(st.sampled_from([*BACKBONE, "a.b", "a", "x.conv.weight", "x.x.conv.weight"])),
    st.sampled_from(["", "x.", "m."]),
)
def test_no_two_names_become_one(names, prefix):
    """Whatever is renamed, as many names come out as went in."""
    found = align(names, {f"{prefix}{name}" for name in names} | {"other"})
    assert len({found.rename.get(name, name) for name in names}) == len(names)


@given(st.binary(max_size=40).map(lambda raw: bytes(byte % 2 for byte in raw)), st.integers(0, 40), st.integers(0, 40))
def test_ranges_hold_exactly_the_marked_rows(flags, start, stop):
    """Ranges of rows, cut to a window or not, name each marked row once."""
    rows = spans(flags)
    assert [row for a, b in rows for row in range(a, b)] == [n for n, flag in enumerate(flags) if flag]
    cut = within(rows, [(start, stop)] if start < stop else [])
    assert count(cut) == sum(flags[start:stop]) if start < stop else not cut
