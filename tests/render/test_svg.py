"""The still picture: valid XML, nothing but text in it that came from a name, and every text inside its box."""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree

import pytest

from freezecheck.records import Report
from freezecheck.render._paint import printable
from freezecheck.render._renderer import Style
from freezecheck.render.svg import RENDERER, WIDTH, join
from tests.render.pictures import EVIL, evil, finding, huge
from tests.render.samples import DRIFT, Sketch, bert, resnet50, tied, trained, verified

SVG = "{http://www.w3.org/2000/svg}"
CHARACTER = 0.602 * 12
"""Advance of DejaVu Sans Mono's letters, in pixels at the size that is used."""


def drawn(report: Report, **style) -> ElementTree.Element:
    return ElementTree.fromstring(RENDERER.render(report, Style(**style)))


def texts(image: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in image.iter(f"{SVG}text")]


def plain(sketch: Sketch) -> Report:
    return Report("report", "net.py", None, sketch.case())


REPORTS = [
    verified(),
    verified([DRIFT], trained(moved=False)),
    plain(resnet50()),
    plain(bert()),
    plain(tied()),
    evil(),
    huge(10),
]


@pytest.mark.parametrize("report", REPORTS)
def test_it_is_whole_in_itself(report):
    """Nothing is linked, run or styled from outside, and no name makes an element."""
    image = drawn(report)
    assert {one.tag.removeprefix(SVG) for one in image.iter()} <= {
        "svg", "title", "defs", "pattern", "circle", "rect", "g", "text"
    }  # fmt: skip
    assert not [name for one in image.iter() for name in one.attrib if "href" in name or name.startswith("on")]


@pytest.mark.parametrize("report", REPORTS)
def test_every_text_fits_its_box(report):
    """Each label is shortened to the clipped box that it stands in, and no box reaches over the picture's edge."""
    image = drawn(report)
    width, height = float(image.get("width")), float(image.get("height"))
    for label in image.iter(f"{SVG}svg"):
        if label is image:
            continue
        words = label.find(f"{SVG}text")
        assert float(words.get("x")) + CHARACTER * len(words.text) <= float(label.get("width")) + 1
        assert float(label.get("x")) + float(label.get("width")) <= width
    for box in image.iter(f"{SVG}rect"):
        assert float(box.get("x", 0)) + float(box.get("width")) <= width + 0.1
        assert float(box.get("y", 0)) + float(box.get("height")) <= height + 0.1


def test_a_model_that_is_right_has_no_mark():
    """No stripes and no word of a mistake where nothing is found."""
    image = drawn(plain(resnet50()))
    assert "error" not in texts(image)
    assert "url(#stripes)" not in {one.get("fill") for one in image.iter(f"{SVG}rect")}


def test_it_says_what_is_wrong_and_where():
    """Title, verdict, legend, the wrong layer, and what it should and does."""
    words = texts(drawn(verified([DRIFT], trained(moved=False))))
    for said in (
        "verify train.py against freeze.toml",
        "✗ 1 error — train.py does not train what freeze.toml says",
        "error",
        "✗ bn",
        "buffers should stay, but move",
    ):
        assert said in words


def test_layers_that_are_not_opened_count_their_mistakes():
    """A mistake in a layer that is drawn as one box is counted on it."""
    found = finding("FZ201", "encoder.layer.7.output.dense.bias")
    report = Report("verify", "x", "s", bert().case(spec=True), (found,))
    assert "! 1" in texts(drawn(report, depth=1))


def test_evil_names_are_shown_as_they_are():
    """Markup in a name is text, and control characters, which XML forbids, are written as escapes."""
    titles = [one.text for one in drawn(evil()).iter(f"{SVG}title")]
    for name in EVIL:
        assert any(title.startswith(printable(name)) for title in titles)


def test_wide_letters_take_two_places():
    """A Chinese name is cut at half as many letters as a Latin one."""
    net = Sketch("Net")
    for letter in "名n":
        net.linear(letter * 40, 2, 2)
    cut = {text[0]: len(text) for text in texts(drawn(plain(net))) if text[0] in "名n" and "…" in text}
    assert cut["名"] == pytest.approx(cut["n"] / 2, abs=1)


def test_depth_limits_the_columns():
    """`--depth 1` draws the model's children and nothing inside them."""
    titles = [one.text.partition(",")[0] for one in drawn(plain(resnet50()), depth=1).iter(f"{SVG}title")]
    assert titles[1:] == ["ResNet", "conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"]


def test_an_empty_model_has_a_title():
    """A model without tensors is an image of its title."""
    assert "0 of 0 parameters train; nothing was run" in texts(drawn(plain(Sketch("Identity"))))[1]


def test_several_are_one_image():
    """Two reports stand one below the other, each whole, and no pattern is defined twice."""
    pictures = [RENDERER.render(report, Style()) for report in (verified(), evil())]
    image = ElementTree.fromstring(join(pictures))
    parts = list(image)
    heights = [float(ElementTree.fromstring(text).get("height")) for text in pictures]
    assert [float(part.get("y")) for part in parts] == [0, heights[0]]
    assert float(image.get("height")) == sum(heights)
    assert image.get("viewBox") == f"0 0 {WIDTH} {sum(heights):g}"
    assert max(Counter(one.get("id") for one in image.iter() if one.get("id")).values()) == 1
