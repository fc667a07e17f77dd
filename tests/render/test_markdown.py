"""Markdown, read by a parser of it: what a reviewer sees is what was meant."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from freezecheck.errors import TargetError
from freezecheck.records import Location
from freezecheck.render._renderer import Style
from freezecheck.render.markdown import RENDERER, code, escaped, fenced
from tests.render.golden import failed, reported
from tests.render.samples import DRIFT, DROPOUT, Sketch, bert, keeping, tied, verified

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
LINE = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs", "Cn", "Co", "Cf")), min_size=1)


def rendered(report, **style) -> str:
    return RENDERER.render(report, Style(**style))


def shown(text: str) -> list[str]:
    """The visible text of each paragraph, heading and table cell."""
    inline = [token for token in READER.parse(text) if token.type == "inline"]
    return ["".join(one.content if one.type != "softbreak" else "\n" for one in token.children) for token in inline]


def fences(text: str) -> list[tuple[str, str]]:
    return [(token.info, token.content.rstrip("\n")) for token in READER.parse(text) if token.type == "fence"]


def table(text: str) -> list[list[str]]:
    """The cells of the only table, row by row."""
    lines: list[list[str]] = []
    for token in READER.parse(text):
        if token.type == "tr_open":
            lines.append([])
        elif token.type == "inline" and token.level == 5 - 1:
            lines[-1].append("".join(one.content for one in token.children))
    return [line for line in lines if line]


def test_ok_is_a_heading_and_the_layers_folded():
    """Nothing to read but the verdict; the table is there for whoever opens it."""
    text = rendered(verified())
    assert shown(text)[0].startswith("✅ freezecheck: ok — 2 trainable tensors got gradients and moved")
    assert text.count("<details>") == text.count("</details>") == 1


def test_findings_are_told_with_their_line_and_mend():
    """The verdict first; each finding with tensors, message, quoted line and the line to write instead."""
    text = rendered(failed())
    assert shown(text)[0].startswith("❌ freezecheck: 1 error, 1 warning, 1 note — train.py does not train")
    assert "error FZ501 frozen-buffer-moved" in shown(text)
    assert DRIFT.message in shown(text)
    assert ("python", "x = F.relu(self.bn(self.conv(x)))") in fences(text)
    assert ("", "model.bn.eval()   # after every model.train()") in fences(text)
    assert "train.py:17 in Net.forward" in shown(text)


def test_notes_are_folded_unless_verbose():
    """A note is one click away; -v opens it, and -q leaves out everything but what decides."""
    assert "<summary>1 note</summary>" in rendered(verified([DROPOUT]))
    assert "<summary>1 note" not in rendered(verified([DROPOUT]), verbose=True)
    assert "FZ503" in rendered(verified([DROPOUT]), verbose=True)
    assert shown(rendered(verified([DROPOUT]), quiet=True)) == shown(rendered(verified([DROPOUT])))[:1]


def test_the_table_is_a_table():
    """As many cells in each row as in the head, equal siblings in one row, a row of totals."""
    lines = table(rendered(reported(bert(), "bert.py")))
    assert {len(line) for line in lines} == {len(lines[0])}
    assert lines[0][:4] == ["layer", "type", "trainable", "frozen"]
    assert any("encoder.layer.0–5" in line[0] for line in lines)
    assert lines[-1][0] == "total"


def test_what_is_kept_for_backward_is_a_column():
    """Where it was measured."""
    lines = table(rendered(verified(sketch=keeping())))
    assert "kept" in lines[0]
    assert lines[-1][lines[0].index("kept")] == "3.0 MiB"


def test_report_shows_the_layers_unfolded():
    """For `report` they are the matter itself; a model without tensors has no table."""
    assert "<details>" not in rendered(reported(tied(), "lm.py", "freeze.toml"))
    assert "has no parameters" in rendered(reported(Sketch("Identity"), "x.py"))


def test_an_error_says_what_and_what_to_do():
    """The message as it stands, the user's frames, the hint."""
    text = RENDERER.error(TargetError("a|b <c>", hint="use *this*", frames=("  a.py:3 in f", "    f()")))
    assert fences(text) == [("", "a|b <c>\n  a.py:3 in f\n    f()")]
    assert shown(text) == ["❌ freezecheck: could not check (target)", "hint: use *this*"]
    assert "at a.py:3" in shown(RENDERER.error(TargetError("no", location=Location("a.py", 3, text="x"))))


def test_a_layer_may_be_called_anything():
    """Pipes, backticks, tags and comment ends of a module's name stay in their cell, as text."""
    net = Sketch("Net")
    names = ["a|b", "`c`", "<script>alert(1)</script>", "d*e*_f_", "-->", "[x](http://y)"]
    for name in names:
        net.linear(name, 2, 2)
    text = rendered(reported(net, "x.py"))
    assert [line[0] for line in table(text)[1:-1]] == names
    assert not any(token.type.startswith("html") for token in READER.parse(text))


@given(LINE)
def test_escaped_prose_is_shown_as_written(text):
    """Nothing of what Markdown or HTML would read as markup is lost, but for backticks, which make code."""
    text = text.replace("`", "")
    assert shown(f"x {escaped(text)}") in ([f"x {text}"], ["x"])


@given(LINE, LINE)
def test_code_is_shown_as_written(inline, block):
    """Whatever backticks it holds."""
    assert shown(f"x {code(inline)} y") == [f"x {inline} y"]
    assert fences(fenced(block)) == [("", block)]


def test_several_reports_stand_one_below_the_other():
    """With an empty line between them, or the second heading would be text."""
    text = RENDERER.join([rendered(failed()), rendered(replace(verified(), spec="b.toml"))])
    assert [one[0] for one in shown(text) if one.startswith(("✅", "❌"))] == ["❌", "✅"]


def test_a_fix_in_words_is_prose_and_a_line_of_code_is_code():
    """Only what Python or TOML can read stands in a block."""
    prose = 'model.bn.eval() after every model.train(); in the spec `eval = ["bn"]` if the loop does that already'
    text = rendered(verified([replace(DRIFT, fix=prose, location=None)]))
    assert not fences(text)
    assert "fix: model.bn.eval() after every model.train(); in the spec " in "\n".join(shown(text))
    for line in ("model.bn.eval()  # after every model.train()", 'eval = ["bn"]'):
        assert ("", line) in fences(rendered(verified([replace(DRIFT, fix=line)])))
