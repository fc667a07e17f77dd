"""The text report: whole outputs, totals recomputed from the printed table, and the hard names."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from freezecheck.records import Case, Expected, Facts, Gradient, Report, Skipped, Tensor
from tests.render.golden import FOLDER, GOLDEN, reported, text
from tests.render.samples import DRIFT, DROPOUT, IN_OPTIMIZER, Sketch, bert, keeping, resnet50, tied, trained, verified

ANSI = re.compile(r"\x1b\[\d+m")


@pytest.mark.parametrize("name", GOLDEN)
def test_whole_outputs_are_as_kept(name):
    """Each output is letter for letter the one under tests/golden, which a person has read."""
    assert GOLDEN[name]() == (FOLDER / name).read_text(encoding="utf-8")


def test_no_golden_file_is_left_over():
    """Every file under tests/golden is compared."""
    assert {path.name for path in FOLDER.iterdir()} == set(GOLDEN)


def numbers(output: str) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Read (trainable, frozen) of every row, and of the row of totals, from a printed table."""
    lines = ANSI.sub("", output).splitlines()
    first, last = [n for n, line in enumerate(lines) if line.startswith("---")]
    start, end = (re.search(word, lines[first - 1]) for word in ("trainable", "frozen"))
    found = [
        tuple(int(part.replace(",", "")) for part in re.findall(r"(?<!\S)[\d,]+(?!\S)", line)[:2])
        for line in [*lines[first + 1 : last], lines[last + 1]]
    ]
    assert start is not None
    assert end is not None
    return found[:-1], found[-1]  # type: ignore[return-value]  # two numbers each, or the comparison fails


@pytest.mark.parametrize("sketch", [resnet50, bert, trained])
@pytest.mark.parametrize("style", [{}, {"depth": 1}, {"all": True}, {"depth": 8}, {"color": True}, {"width": 40}])
def test_the_printed_rows_add_up_to_the_printed_total(sketch, style):
    """Totals recomputed from the table as printed are those it prints, and those of the last line."""
    output = text(reported(sketch(), "x"), **style)
    rows, total = numbers(output)
    assert (sum(row[0] for row in rows), sum(row[1] for row in rows)) == total
    last = output.splitlines()[-1]
    assert last.startswith(f"trainable params: {total[0]:,} || all params: {sum(total):,} || trainable%: ")


def test_a_tied_tensor_is_in_two_rows_and_once_in_the_total():
    """The rows add up to the total and the tied tensor once more, and the note says so."""
    output = text(reported(tied(), "x", "spec.toml"))
    rows, total = numbers(output)
    assert sum(map(sum, rows)) == sum(total) + 64 * 32
    assert "lm_head.weight is tied to emb.weight: 2,048 elements, counted once in the total" in output


def test_the_last_line_is_the_one_people_know():
    """ResNet-18 with a new head of ten classes gives the line that PEFT would print."""
    net = Sketch("Net")
    net.layer("a", "A")
    net.tensor("a.w", 11_176_512, grad=False)
    net.linear("fc", 512, 10)
    assert text(reported(net, "x")).splitlines()[-1] == (
        "trainable params: 5,130 || all params: 11,181,642 || trainable%: 0.0459"
    )


def test_wide_names_keep_the_columns_in_line():
    """A name in Chinese takes two columns a sign: every row's type begins in the same column of the screen."""
    from wcwidth import wcswidth

    net = Sketch("Net")
    net.linear("主干网络", 2, 2)
    net.linear("cabeça", 2, 2)
    lines = [line for line in text(reported(net, "x")).splitlines() if "Linear" in line]
    assert len({wcswidth(line[: line.index("Linear")]) for line in lines}) == 1


@pytest.mark.parametrize("sketch", [resnet50, bert, tied, keeping])
@pytest.mark.parametrize("spec", [None, "spec.toml"])
def test_the_table_fits_the_terminal(sketch, spec):
    """At 80 columns no line of any table is longer, with and without what is expected."""
    net = sketch()
    net.linear("ein_recht_langer_name_einer_schicht_in_einem_weiten_netz", 2, 2)
    assert max(map(len, text(reported(net, "x", spec), width=80).splitlines())) <= 80


def test_wide_signs_are_wrapped_by_their_width():
    """A line of Chinese names ends where the terminal ends, and no name is broken."""
    from wcwidth import wcswidth

    names = tuple(f"编码器.{n}.线性层.weight" for n in range(30))
    lines = text(verified([replace(IN_OPTIMIZER, tensors=names)]), verbose=True, width=60).splitlines()
    named = [line for line in lines if "编码器" in line]
    assert len(named) > 5
    assert max(map(wcswidth, named)) <= 60
    assert all(name in " ".join(named) for name in names)


def test_what_is_kept_adds_up():
    """A container that keeps activations of its own has a row, so that the rows add up to the total."""
    lines = text(verified(sketch=keeping()), verbose=True).splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith("layer"))
    end = lines[head].index("kept") + 4
    units = {"B": 1, "KiB": 1024, "MiB": 1024**2}
    kept = [line[:end].split()[-2:] for line in lines[head + 2 : head + 9] if line.strip("- ")]
    *rows, total = [float(number) * units[unit] for number, unit in kept]
    assert abs(sum(rows) - total) < 0.05 * units["MiB"]
    assert total == 3 * units["MiB"]


def test_a_name_with_control_characters_cannot_break_the_table():
    """A newline or an escape in a module's name is written out, not obeyed."""
    net = Sketch("Net")
    net.linear("evil\n\x1b[31m", 2, 2)
    output = text(reported(net, "x"))
    assert "evil\\n\\x1b[31m" in output
    assert "\x1b" not in output


def test_a_long_name_is_shortened_in_the_middle_and_whole_with_all():
    """What tells names apart at their end stays; --all shows the whole name."""
    name = "backbone_of_the_whole_network_in_one_very_long_word_indeed_left"
    net = Sketch("Net")
    net.linear(name, 2, 2)
    assert name not in text(reported(net, "x"), width=70)
    assert "indeed_left" in text(reported(net, "x"), width=70)
    assert max(map(len, text(reported(net, "x"), width=80).splitlines())) <= 80
    assert name in text(reported(net, "x"), width=70, all=True)


def test_colours_come_only_when_asked_for():
    """Without colour no escape is printed; with it the words are the same."""
    report = verified([DRIFT, DROPOUT], skipped=(Skipped("a", "b"),))
    assert "\x1b" not in text(report, verbose=True)
    assert ANSI.sub("", text(report, verbose=True, color=True)) == text(report, verbose=True)


class TestVerdict:
    """The last line of `verify` says how it ended and claims no more than was seen."""

    def last(self, report: Report) -> str:
        return text(report).splitlines()[-1]

    def with_facts(self, **changed: object) -> Report:
        sketch = trained()
        for name in ("head.weight", "head.bias"):
            sketch.facts[name] = replace(sketch.facts[name], **changed)
        return verified(sketch=sketch)

    def test_ok_says_what_was_verified(self):
        """All is well: what trained, and what stayed."""
        assert self.last(verified()) == (
            "freezecheck: ok — 2 trainable tensors got gradients and moved, "
            "3 frozen tensors and 3 buffers stayed byte for byte"
        )

    def test_movement_that_was_not_watched_is_not_claimed(self):
        """On the meta device nothing moves: the verdict speaks of gradients alone."""
        assert "2 trainable tensors got gradients, " in self.last(self.with_facts(moved=None))

    def test_a_tensor_without_gradient_is_said(self):
        """An ignored finding does not turn into a claim."""
        assert "2 trainable tensors got no gradient" in self.last(self.with_facts(gradient=Gradient.NONE, moved=False))

    def test_a_zero_gradient_is_no_gradient_that_trains(self):
        """Exactly zero is not counted among what got gradients."""
        assert "got gradients" not in self.last(self.with_facts(gradient=Gradient.ZERO, moved=False))

    def test_a_frozen_tensor_that_was_not_watched_is_not_claimed(self):
        """`stayed` is said only of what was compared."""
        tensor = Facts(Tensor("a", "parameter", requires_grad=False), Expected.FROZEN)
        assert self.last(Report("verify", "x", None, Case((tensor,)))) == (
            "freezecheck: ok — 1 frozen tensor not watched for change"
        )

    def test_without_expectation_it_says_so(self):
        """A spec that expects nothing verifies nothing."""
        assert self.last(Report("verify", "x", None, Case(()))) == "freezecheck: ok — nothing is expected of any tensor"

    def test_what_was_not_checked_is_in_the_verdict(self):
        """Whoever reads one line only learns that something was left out."""
        assert self.last(verified(skipped=(Skipped("FZ401", "no optimizer"),))).endswith("; 1 thing not checked")

    def test_failure_names_the_model_and_the_intent(self):
        """A failed check says who broke what, also without a spec."""
        assert self.last(verified([DRIFT])) == ("freezecheck: 1 error — train.py does not train what freeze.toml says")
        assert self.last(verified([IN_OPTIMIZER])) == (
            "freezecheck: 1 warning — train.py may not train what freeze.toml says"
        )
        report = replace(verified([DRIFT]), spec=None)
        assert self.last(report) == "freezecheck: 1 error — train.py does not train what the spec says"
        flags = replace(report, case=replace(report.case, plan=replace(report.case.plan, from_spec=False)))
        assert self.last(flags) == "freezecheck: 1 error — train.py does not train what its requires_grad flags say"


def test_all_shows_what_its_hints_promise():
    """Every layer has its row at the deepest depth, and no hint says that --all would show more."""
    case = bert().case()
    shown = text(reported(bert(), "x"), all=True)
    names = {line.partition(" ")[0] for line in shown.splitlines()}
    children = {layer.name.rpartition(".")[0] for layer in case.layers}
    assert {layer.name for layer in case.layers if layer.name not in children} <= names
    assert "--all" not in shown


def test_all_keeps_a_depth_that_was_asked_for():
    """--all --depth 1 opens rows, not layers."""
    assert "encoder.layer" not in text(reported(bert(), "x"), all=True, depth=1)


def test_a_note_without_tensors_says_what_it_is_about():
    """Its short form gives the first clause of its message."""
    note = next(line for line in text(verified([replace(DROPOUT, tensors=())])).splitlines() if "FZ503" in line)
    assert note.startswith("note FZ503 dropout-active-in-frozen-layer: ")
    assert DROPOUT.message.startswith(note.partition(": ")[2])


def test_evidence_is_told_without_pythons_brackets():
    """A place is `file:line`, a mapping its keys and values."""
    found = replace(DRIFT, evidence={"cuts": [{"operation": "detach", "location": {"file": "a.py", "line": 3}}]})
    assert "seen: cuts [(operation detach, location a.py:3)]" in text(verified([found]), verbose=True)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_on_a_screen_the_verdict_is_wrapped_too(width):
    """No line of it is wider than the terminal; elsewhere, and with --quiet, it is one line."""
    report = verified([DRIFT], skipped=[Skipped("FZ4", "why")])
    whole = text(report, width=width).splitlines()[-1]
    lines = text(report, width=width, wrap_verdict=True, color=True).splitlines()
    begin = next(n for n, line in enumerate(lines) if "freezecheck: " in line)
    assert all(len(ANSI.sub("", line)) <= width for line in lines[begin:])
    assert " ".join(ANSI.sub("", line).strip() for line in lines[begin:]) == whole
    assert text(report, width=width, wrap_verdict=True, quiet=True).splitlines()[-1] == whole


def test_in_python_no_option_of_the_command_line_is_named():
    """Whoever prints a result asks for more by `.render(...)`."""
    said = text(reported(bert(), "x"), in_python=True, depth=3) + text(verified([DROPOUT]), in_python=True)
    assert ".render(all=True) opens them" in said
    assert ".render(verbose=True) explains it" in said
    assert not re.search(r"(?<!-)--[a-z]|\s-v\b", said)
