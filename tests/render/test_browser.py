"""The page in a real browser: pointer, keyboard, search, colours, and names that try to be more than names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from freezecheck.records import Expected, Report, Severity
from freezecheck.render._paint import printable
from freezecheck.render._picture import Picture
from freezecheck.render._picture_layout import place
from freezecheck.render.html import join
from tests.render.browser import NAMES, browser, chromium
from tests.render.pictures import EVIL, evil, finding, huge, rendered
from tests.render.samples import DRIFT, Sketch, bert, resnet50, tied, trained, verified

pytestmark = pytest.mark.skipif(chromium() is None, reason=f"none of {', '.join(NAMES)} is installed")
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture
def show(running: Any, tmp_path: Path) -> Iterator[Open]:
    """Open a page from disk; at the end nothing may have been complained of or asked of a network."""
    complaints: list[str] = []
    contexts = []

    def opened(text: str, **options: Any) -> Any:
        path = tmp_path / f"page{len(contexts)}.html"
        path.write_text(text, encoding="utf-8")
        context = running.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: None if request.url == path.as_uri() else complaints.append(request.url))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def failed() -> Report:
    """The small classifier whose norm's statistics drift, and whose head does not train."""
    head = finding("FZ402", "head.weight", "head.bias", message="`head.weight` and `head.bias` are in no optimizer.")
    return verified([DRIFT, head], trained(moved=False))


def box(page: Any, path: str) -> Any:
    return page.locator(f'[role=treeitem][aria-label^="{path},"]')


def focused(page: Any) -> str:
    return page.evaluate("document.activeElement.getAttribute('aria-label') ?? ''").partition(",")[0]


def visible_findings(page: Any) -> list[str]:
    return page.locator(".finding:visible .code").all_text_contents()


def table_names(page: Any) -> list[str]:
    return page.locator("tbody th").all_text_contents()


# ---- by pointer


def test_a_layer_shows_expected_and_actual_under_the_pointer(show):
    """Hovering a layer shows what is expected, what was seen and what is wrong; leaving it hides that again."""
    page = show(rendered(failed()))
    tip = page.locator(".tip")
    assert not tip.is_visible()
    box(page, "bn").hover()
    said = tip.inner_text()
    for words in ("expected", "frozen", "buffers should stay, but move", "changed by up to 0.25", "FZ501"):
        assert words in said
    page.locator("h1").hover()
    assert not tip.is_visible()


def test_a_layer_filters_its_findings_and_tensors(show):
    """A click on a layer leaves its findings and tensors; a second click, or `show all`, brings the others back."""
    page = show(rendered(failed()))
    box(page, "bn").click()
    assert visible_findings(page) == ["FZ501"]
    assert {name.partition(".")[0] for name in table_names(page)} == {"bn"}
    assert "1 finding of 2 about bn" in page.locator(".chosen").inner_text()
    box(page, "bn").click()
    assert visible_findings(page) == ["FZ501", "FZ402"]
    page.wait_for_timeout(600)  # two clicks in quick succession are a double click
    box(page, "conv").click()
    assert "Nothing found about conv" in page.locator(".chosen").inner_text()
    page.get_by_role("button", name="show all").click()
    assert visible_findings(page) == ["FZ501", "FZ402"]


def test_a_finding_highlights_its_layers_and_tensors(show):
    """A click on a finding marks its layers, dims the others and leaves its tensors in the table."""
    page = show(rendered(failed()))
    page.locator(".finding .head", has_text="FZ402").click()
    assert "hit" in box(page, "head").get_attribute("class")
    assert "dim" in box(page, "bn").get_attribute("class")
    assert table_names(page) == ["head.weight", "head.bias"]
    assert page.locator(".finding.picked .code").all_text_contents() == ["FZ402"]
    page.keyboard.press("Escape")
    assert page.locator(".dim").count() == 0


def test_a_name_in_a_finding_leads_to_its_layer(show):
    """The names in a finding's message are buttons that choose the tensor in picture and table."""
    page = show(rendered(failed()))
    page.get_by_role("button", name="head.bias", exact=True).first.click()
    assert table_names(page) == ["head.bias"]
    assert "dim" not in box(page, "head").get_attribute("class")


def test_a_double_click_zooms_and_the_path_leads_back(show):
    """A double click shows a layer alone; the buttons of the path above lead out again."""
    page = show(rendered(Report("report", "x", None, bert().case())))
    box(page, "encoder.layer").dblclick()
    assert page.locator("[role=treeitem]").first.get_attribute("aria-label").startswith("encoder.layer,")
    page.locator(".path button").first.click()
    assert page.locator("[role=treeitem]").first.get_attribute("aria-label").startswith("BertModel")


# ---- by keyboard


def test_arrows_walk_the_tree(show):
    """Right goes in, left goes out, down and up go along, Home and End to the ends; every step has a visible focus."""
    page = show(rendered(Report("report", "x", None, resnet50().case())))
    page.locator("[role=treeitem][tabindex='0']").focus()
    walk = [
        ("ArrowRight", "conv1"), ("ArrowDown", "bn1"), ("ArrowDown", "layer1"), ("ArrowDown", "layer2"),
        ("ArrowDown", "layer3"), ("ArrowDown", "layer4"), ("ArrowRight", "layer4.0"), ("ArrowDown", "layer4.1"),
        ("ArrowDown", "layer4.2"), ("ArrowUp", "layer4.1"), ("ArrowLeft", "layer4"), ("ArrowUp", "layer3"),
        ("ArrowLeft", "ResNet"), ("ArrowLeft", "ResNet"), ("End", "fc.bias"), ("ArrowDown", "fc.bias"),
        ("ArrowLeft", "fc"), ("Home", "ResNet"),
    ]  # fmt: skip
    for key, expected in walk:
        page.keyboard.press(key)
        assert focused(page) == expected, key
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert page.locator(".tip").inner_text().startswith(expected)


def test_enter_zooms_and_escape_goes_back(show):
    """Enter shows the focused layer alone, Escape the one around it, and the focus stays where it was."""
    page = show(rendered(Report("report", "x", None, resnet50().case())))
    page.locator("[role=treeitem][tabindex='0']").focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    assert focused(page) == "layer1"
    assert page.locator(".path").inner_text().split() == ["ResNet", "layer1"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator(".path").inner_text().split() == ["ResNet", "layer1", "0"]
    page.keyboard.press("Escape")
    assert focused(page) == "layer1.0"
    page.keyboard.press("Escape")
    assert focused(page) == "layer1"
    assert page.locator(".out").is_hidden()


def test_space_chooses_as_a_click_does(show):
    """Space on a layer filters its findings, and Escape takes that back before it zooms."""
    page = show(rendered(failed()))
    box(page, "head").focus()
    page.keyboard.press(" ")
    assert visible_findings(page) == ["FZ402"]
    page.keyboard.press("Escape")
    assert visible_findings(page) == ["FZ501", "FZ402"]


def test_the_tree_speaks(show):
    """A screen reader hears of each layer its name, type, expectation, state and mistake, and where it stands."""
    page = show(rendered(failed()))
    said = box(page, "bn").get_attribute("aria-label")
    for words in ("bn, BatchNorm2d, expected frozen", "wrong buffers should stay, but move", "findings FZ501"):
        assert words in said
    assert box(page, "bn").get_attribute("aria-level") == "2"
    assert box(page, "bn").get_attribute("aria-posinset") == "2"
    assert page.locator("[role=tree]").get_attribute("aria-label")
    assert page.locator("[role=treeitem][tabindex='0']").count() == 1


# ---- the table


def test_search_and_sort(show):
    """Words narrow the table together, a head sorts it both ways, and what is not known stays last."""
    page = show(rendered(Report("verify", "x", "s", resnet50().case(spec=True))))
    search = page.get_by_role("searchbox")
    search.fill("layer4 conv2 weight")
    assert table_names(page) == [f"layer4.{n}.conv2.weight" for n in range(3)]
    assert "3 of 320 tensors" in page.locator(".shown").inner_text()
    search.fill("")
    page.get_by_role("button", name="elements").click()
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("elements")
    page.get_by_role("button", name="elements").click()
    assert table_names(page)[0] == "layer4.0.conv2.weight"
    search.fill("no such tensor")
    assert table_names(page) == []
    assert "0 of 320 tensors" in page.locator(".shown").inner_text()


def test_what_is_wrong_comes_first(show):
    """Until it is sorted the table begins with errors, then warnings, then the rest in the model's order."""
    warning = finding("FZ202", "conv.weight", severity=Severity.WARNING)
    names = list(trained().facts)
    page = show(rendered(verified([warning, finding("FZ402", "head.bias")])))
    rest = [name for name in names if name not in ("head.bias", "conv.weight")]
    assert table_names(page) == ["head.bias", "conv.weight", *rest]


def test_none_is_told_from_what_cannot_be(show):
    """A parameter in no optimizer has `none` there, a buffer a dash; the optimizer is in sight without scrolling."""
    page = show(rendered(verified()))
    row = page.locator("tbody tr", has=page.locator("th", has_text="bn.running_mean"))
    assert row.locator("td.optimizer").inner_text() == "–"
    assert row.locator("td.requiresGrad").inner_text() == "–"
    optimizers = set(page.locator("td.optimizer").all_inner_texts())
    assert optimizers == {"group 0", "none", "–"}
    edge = page.locator("td.optimizer").first.bounding_box()
    assert edge["x"] + edge["width"] <= 1280


def test_bars_are_of_parameters(show):
    """A buffer that moved where it should not is said in words, without a bar; one that may move is not said."""
    page = show(rendered(failed()))
    value = page.locator(f'.value[data-box="{box(page, "bn").get_attribute("data-box")}"]').last
    assert value.inner_text() == "buffers 0.25"
    assert value.locator("i").count() == 0
    page = show(rendered(verified([], trained(moved=False))))
    assert "buffers" not in page.locator(".beside").inner_text()


def test_what_is_not_known_is_sorted_last(show):
    """A tensor without a gradient stands below those with one, whichever way the table is sorted."""
    page = show(rendered(huge(2)))
    head = page.get_by_role("button", name="gradient", exact=True)
    for _ in range(2):
        head.click()
        assert table_names(page)[0].startswith("layers.1.")


def test_ten_thousand_tensors(show):
    """A huge model has few elements in the document, scrolls to its last tensor, and finds any by search."""
    page = show(rendered(huge()))
    assert page.evaluate("document.querySelectorAll('*').length") < 1500
    assert page.locator("[role=treeitem]").count() > 20
    page.locator(".scroll").evaluate("scroll => { scroll.scrollTop = scroll.scrollHeight }")
    page.locator("tbody th", has_text="layers.99.projection_49.bias").wait_for()
    page.get_by_role("searchbox").fill("layers.57.projection_3.weight")
    assert table_names(page) == ["layers.57.projection_3.weight"]
    page.locator("tbody th button").click()
    assert "layers.57.projection_3.weight" in page.locator(".chosen").inner_text()
    assert page.locator(".box:not(.dim)").count() >= 1


# ---- what could go wrong


def test_evil_names_do_nothing(show):
    """A layer called `<script>` is a layer called `<script>`, wherever it is shown, hovered, chosen and searched."""
    page = show(rendered(evil()))
    first = page.locator("[role=treeitem]").nth(1)
    first.hover()
    assert printable(EVIL[0]) in page.locator(".tip").inner_text()
    first.click()
    page.locator(".finding .head:visible").first.click()
    page.get_by_role("searchbox").fill("script")
    for index in range(page.locator("[role=treeitem]").count()):
        page.locator("[role=treeitem]").nth(index).focus()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("report", [verified(), Report("report", "x", None, Sketch("Empty").case()),
                                    Report("verify", "x", "s", tied().case(spec=True))])  # fmt: skip
@pytest.mark.parametrize("width", [1280, 390])
def test_every_kind_of_report_opens(show, report, width):
    """Reports with, without and with tied tensors open without a complaint, and nothing is wider than the screen."""
    page = show(rendered(report), viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1").is_visible()


def test_both_colour_schemes_can_be_read(show):
    """By system setting and by button; the text of each state stands out from its ground by 4.5 to 1 or more."""
    colours = """() => [...document.querySelectorAll('.box:not(.wrong) .name, h1, .finding p')].map(one => {
        const parse = (text) => text.match(/[\\d.]+/g).map(Number);
        let at = one;
        while (at && (parse(getComputedStyle(at).backgroundColor)[3] ?? 1) === 0) at = at.parentElement;
        return [parse(getComputedStyle(one).color), parse(getComputedStyle(at ?? document.body).backgroundColor)];
    })"""
    grounds = []
    for scheme in ("light", "dark"):
        page = show(rendered(failed()), color_scheme=scheme)
        pairs = page.evaluate(colours)
        assert len(pairs) > 5
        assert min(contrast(*pair) for pair in pairs) >= 4.5
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        button = page.locator("button.theme")
        button.click()
        assert button.inner_text() == "colours: light"
        button.click()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != grounds[0]
    assert grounds[0] != grounds[1]


def contrast(one: list[float], other: list[float]) -> float:
    """The contrast ratio of two colours, as WCAG 2 defines it."""
    low, high = sorted(luminance(colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: list[float]) -> float:
    parts = [part / 255 for part in colour[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_frozen_and_trainable_differ_without_colour(show):
    """In grey alone the two states are told apart by lightness, 3 to 1 or more, in both schemes."""
    for scheme in ("light", "dark"):
        page = show(rendered(verified()), color_scheme=scheme)
        fill = "made => getComputedStyle(made).backgroundColor.match(/[\\d.]+/g).map(Number)"
        states = [page.locator(f".box.{state}").first.evaluate(fill) for state in ("frozen", "trainable")]
        assert contrast(*states) >= 3


def test_it_prints(show):
    """On paper the colours are light, every tensor's row is there, and buttons are not."""
    page = show(rendered(Report("verify", "x", "s", resnet50().case(spec=True))), color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("tbody th").count() == 320
    assert not page.locator("button.theme").is_visible()
    assert len(page.pdf()) > 10_000


def test_several_reports_each_have_their_picture(show):
    """In a page of two reports each picture follows its own findings, and the head leads to both."""
    page = show(join([rendered(failed()), rendered(verified())]))
    first, second = page.locator("article").all()
    assert page.locator(".jumps a").all_text_contents()[1].startswith("✓ verify train.py")
    first.locator(".finding .head").first.click()
    assert first.locator(".dim").count() > 0
    assert second.locator(".dim").count() == 0


@pytest.mark.parametrize("make", [resnet50, bert, trained, tied])
def test_the_browser_lays_out_as_python_does(show, make):
    """The script that zooms and the code that draws the SVG put every box in the same place."""
    net = make()
    wrong = [name for name in net.facts if name.endswith("1.weight")]
    report = Report("verify", "x", "s", net.case(spec=True), (finding("FZ101", *wrong),))
    boxes = Picture(report).boxes
    page = show("<!doctype html><title>empty</title>")
    script = (files("freezecheck.render") / "templates" / "layout.js").read_text(encoding="utf-8")
    plain = [
        {key: getattr(one, key) for key in ("kind", "children", "problems", "wrong", "state", "size")} for one in boxes
    ]
    for root, columns, height in ((0, 5, 500), (0, 3, 300), (boxes[0].children[-1], 9, 700)):
        there = page.evaluate(f"() => {{ {script}; return place({json.dumps(plain)}, {root}, {columns}, {height}) }}")
        here = place(boxes, root, columns, height)
        assert [(one["box"], one["depth"], one["row"]) for one in there] == [(p.box, p.depth, p.row) for p in here]
        assert [one["top"] for one in there] == pytest.approx([p.top for p in here])
        assert [one["height"] for one in there] == pytest.approx([p.height for p in here])


def test_an_expectation_is_named_by_its_source(show):
    """Without a spec the card says that the flags were taken as the intent."""
    net = Sketch("Net")
    net.linear("fc", 4, 4, expected=Expected.TRAINABLE)
    page = show(rendered(Report("verify", "x", None, net.case())))
    assert "trainable (its requires_grad flags)" in box(page, "fc").get_attribute("aria-label")
