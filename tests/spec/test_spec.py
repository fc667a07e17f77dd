"""The freeze spec: where it is found, what it means, and every mistake of it with its line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import lists, models

from freezecheck.errors import SpecError
from freezecheck.records import Counts, Expected, Location, Selector
from freezecheck.spec import InputSpec, Spec

EVERYTHING = """\
target    = "model.py"
trainable = [
  "fc",          # the head
  "!fc.bias",
]
frozen    = ["*"]
unchecked = ["teacher"]
rest      = "frozen"
buffers_may_move = ["layer4"]
eval      = ["backbone"]
optimizer = { name = "AdamW", lr = 1e-3 }
inputs    = [{ shape = [2, 3], dtype = "int64", low = 0, high = 9 }, { shape = [] }]
loss      = "train.py:compute_loss"
steps     = 3
ignore    = ["FZ0"]

[expect]
trainable_parameters = 8_398_858
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the two files that EVERYTHING names."""
    monkeypatch.chdir(tmp_path)
    for name in ("model.py", "train.py"):
        (tmp_path / name).touch()
    return tmp_path


def mistakes(text: str) -> list[str]:
    """What is said of a text, line by line."""
    with pytest.raises(SpecError) as caught:
        Spec.parse(text, "freeze.toml")
    return caught.value.message.splitlines()


class TestMeaning:
    """What is read when all is right."""

    def test_everything(self, folder: Path) -> None:
        """Each key of the contract's example comes out, selectors with the line of their own."""
        (folder / "freeze.toml").write_text(EVERYTHING)
        spec = Spec.load("freeze.toml")
        assert (spec.path, spec.folder, spec.target) == ("freeze.toml", folder, "model.py")
        assert spec.trainable == (
            Selector("fc", "trainable", Location("freeze.toml", 3, text='"fc",          # the head')),
            Selector("!fc.bias", "trainable", Location("freeze.toml", 4, text='"!fc.bias",')),
        )
        assert [s.text for s in (*spec.frozen, *spec.unchecked, *spec.buffers_may_move, *spec.eval)] == [
            *("*", "teacher", "layer4", "backbone"),
        ]
        assert spec.optimizer == {"name": "AdamW", "lr": 1e-3}
        assert spec.inputs == (InputSpec((2, 3), "int64", 0, 9), InputSpec(()))
        assert (spec.rest, spec.loss, spec.steps, spec.ignore) == ("frozen", "train.py:compute_loss", 3, ("FZ0",))
        assert spec.expect == Counts(8_398_858, None, Location("freeze.toml", 17, text="[expect]"))
        assert str(spec.locations["loss"]) == "freeze.toml:13"

    @pytest.mark.parametrize(
        ("text", "rest"),
        [
            ("", "unchecked"),
            ("trainable = []", "frozen"),
            ("frozen = []", "trainable"),
            ("trainable = []\nfrozen = []", "unchecked"),
            ('trainable = []\nrest = "trainable"', "trainable"),
        ],
    )
    def test_rest(self, text: str, rest: str) -> None:
        """The opposite when only one of trainable and frozen is given, else unchecked."""
        assert Spec.parse(text).rest is Expected(rest)

    @given(st.data())
    def test_python_lists_mean_the_same(self, data: st.DataObject) -> None:
        """`Spec.of` and the TOML text of the same lists differ in nothing but the places."""
        net = data.draw(models())
        keys = {key: data.draw(lists(net)) for key in ("trainable", "frozen", "unchecked", "eval")}
        text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
        assert shape(Spec.parse(text)) == shape(Spec.of(**keys))

    def test_of_takes_tuples_and_leaves_out_none(self) -> None:
        """Python's own sequences serve, and None is a key left out."""
        spec = Spec.of(trainable=("fc",), frozen=None, inputs={"shape": (2, 3)}, folder="/somewhere")  # type: ignore[typeddict-item]  # None is let through on purpose
        assert (spec.rest, spec.inputs, spec.folder) == (Expected.FROZEN, (InputSpec((2, 3)),), Path("/somewhere"))
        assert spec.trainable[0].location is None


def shape(spec: Spec) -> dict[str, Any]:
    """A spec without its places."""
    lists = ("trainable", "frozen", "unchecked", "eval")
    return {"rest": spec.rest, **{key: [s.text for s in getattr(spec, key)] for key in lists}}


class TestFinding:
    """Where a spec is looked for."""

    def test_discover(self, folder: Path) -> None:
        """freezecheck.toml goes before the table in pyproject.toml, and a pyproject.toml without it is no spec."""
        assert Spec.discover(folder) is None
        (folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
        assert Spec.discover(folder) is None
        (folder / "pyproject.toml").write_text("[project]\nname = 'x'\n\n[tool.freezecheck]\nfrozen = ['a']\n")
        found = Spec.discover(folder)
        assert found is not None
        assert (found.path, str(found.frozen[0].location)) == ("pyproject.toml", "pyproject.toml:5")
        (folder / "freezecheck.toml").write_text("")
        assert Spec.load(folder).path == "freezecheck.toml"

    def test_pyproject_mistakes_have_their_line(self, folder: Path) -> None:
        """In pyproject.toml the lines are those of the whole file."""
        (folder / "pyproject.toml").write_text(
            "[project]\nname = 'x'\n[tool.freezecheck]\nsteps = 0\n[tool.x]\na = 1\n"
        )
        with pytest.raises(SpecError, match=r"^pyproject\.toml:4: `steps` must be at least 1, not 0$"):
            Spec.load(folder / "pyproject.toml")

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("", None, ".: the folder holds no freezecheck.toml and no pyproject.toml with [tool.freezecheck]"),
            ("no.toml", None, "no.toml: the spec cannot be read: No such file or directory"),
            ("pyproject.toml", b"", "pyproject.toml: it has no [tool.freezecheck] table"),
            (
                "pyproject.toml",
                b"[tool]\nfreezecheck = 3",
                "pyproject.toml:2: `tool.freezecheck` must be a table, not 3",
            ),
            ("a.toml", b"\na = '\xff'", "a.toml:2: not UTF-8 text: byte 0xff at position 6"),
            ("a.toml", b"a = 1\nb = = 2", "a.toml:2: not valid TOML: invalid value (column 5)"),
            ("a.toml", b"a = [\n1\n\n", "a.toml:2: not valid TOML: unclosed array"),
        ],
    )
    def test_no_spec(self, folder: Path, name: str, content: bytes | None, said: str) -> None:
        """Not found, not readable, not UTF-8 and not TOML are said with the place, never with a traceback."""
        if content is not None:
            (folder / name).write_bytes(content)
        with pytest.raises(SpecError) as caught:
            Spec.load(name or ".")
        assert caught.value.message.replace(f"{folder}:", ".:") == said

    def test_a_byte_order_mark_is_no_mistake(self, folder: Path) -> None:
        """Editors on Windows write one."""
        (folder / "freezecheck.toml").write_bytes(b"\xef\xbb\xbfsteps = 2\r\nfrozen = ['a']\r\n")
        spec = Spec.load("freezecheck.toml")
        assert (spec.steps, str(spec.frozen[0].location)) == (2, "freezecheck.toml:2")


class TestMistakes:
    """Every mistake of a spec is reported at once, each with its line."""

    def test_all_at_once_in_the_order_of_their_lines(self, folder: Path) -> None:
        """Mistakes of every kind in one text, found together."""
        text = (
            'steps = "3"\ntarget = "modl.py"\nfroze = ["x"]\n[optimizer]\nnam = "SGD"\n[[phase]]\nsetup = "tran.py:f"\n'
        )
        assert mistakes(text) == [
            'freeze.toml:1: `steps` must be a whole number, not the string "3"',
            "freeze.toml:2: `target` names a file that does not exist: `modl.py`; did you mean `model.py`?",
            "freeze.toml:3: unknown key `froze`; did you mean `frozen`?",
            "freeze.toml:4: `optimizer` needs the key `name`",
            "freeze.toml:6: `phase[0]` needs the key `name`",
            "freeze.toml:7: `phase[0].setup` names a file that does not exist: `tran.py`; did you mean `train.py`?",
        ]

    def test_the_error_points_at_the_first(self) -> None:
        """Its location is the first mistake's."""
        with pytest.raises(SpecError) as caught:
            Spec.parse("\nrest = 1\nsteps = 0", "a/b.toml")
        assert str(caught.value.location) == "a/b.toml:2"

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ('trainable = "fc"', 'must be a list of selectors, not the string "fc"; write `trainable = ["fc"]`'),
            ("trainable = [3]", "`trainable[0]` must be a string, not 3"),
            ('trainable = [""]', "`trainable` has an empty selector"),
            ('trainable = ["!"]', "`!` in `trainable` is an empty selector"),
            ('trainable = ["a", "!!b"]', "`!!b` in `trainable` has more than one `!`"),
            ('trainable = ["!a"]', "`trainable` holds only `!` selectors and so selects nothing; name first what they"),
            ('trainable = ["re:("]', "`re:(` in `trainable` is not a regular expression: missing ), unterminated"),
            ('trainable = ["re:("]', "subpattern at position 0 of the expression"),
            ('trainable = ["re:"]', "has no regular expression after `re:`"),
            ('trainable = ["type:"]', "names no class after `type:`"),
            ('trainable = ["type:nn.Linear"]', "must give the class's bare name after `type:`"),
            (
                'eval = ["a[b]"]',
                "`a[b]` in `eval` has `[b]`, which is no index or slice: write `[2]`, `[-1]` or `[0:6]`",
            ),
            ('eval = ["a[1"]', "has a bracket without its partner"),
            ('eval = ["a[1]b"]', "needs a dot between an index and the name after it"),
            ('eval = ["a[1:2:0]"]', "has the step 0"),
            ('eval = ["layer.1."]', "ends in a dot; leave it out, `layer.1` never selects `layer.10`"),
            ('eval = ["a..b"]', "has an empty part between dots"),
            ('eval = [" a"]', "has a space at its beginning or end"),
            ('rest = "none"', '`rest` must be "frozen", "trainable" or "unchecked", not the string "none"'),
            ("steps = 0", "`steps` must be at least 1, not 0"),
            ("steps = true", "`steps` must be a whole number, not true"),
            ("target = 1979-05-27", "`target` must be a string, not `1979-05-27`"),
            ('target = ""', "`target` is empty"),
            ("inputs = [2, 3]", "`inputs` is a bare list of numbers; a shape is written `inputs = { shape = [2, 3] }`"),
            ("inputs = []", "`inputs` is an empty list"),
            ("inputs = 3", "`inputs` must be a table, a list of tables or a string, not 3"),
            ("inputs = [{ shap = [1] }]", "`inputs[0]` needs the key `shape`"),
            ("inputs = { shap = [1] }", "unknown key `shap` in `inputs`; did you mean `shape`?"),
            ("inputs = { shape = [0] }", "`inputs.shape[0]` must be at least 1, not 0"),
            ("inputs = { shape = 3 }", "`inputs.shape` must be a list of whole numbers, not 3"),
            ('inputs = { shape = [1], dtype = "long" }', 'or "uint8", not the string "long"'),
            ("inputs = { shape = [1], low = 2, high = 2 }", "`inputs` needs low < high, and has low = 2, high = 2"),
            ('optimizer = ["SGD"]', "`optimizer` must be a string or a table, not a list"),
            ("optimizer = { name = 3 }", "`optimizer.name` must be a string, not 3"),
            ('ignore = ["FZ999"]', "`FZ999` in `ignore` is no rule's code or beginning of one"),
            ('ignore = ["unmatched-selector"]', "its code is `FZ001`; `freezecheck rule` lists all"),
            ('ignore = "FZ001"', '`ignore` must be a list of rule codes, not the string "FZ001"'),
            ("expect = { frozen_parameters = -1 }", "`expect.frozen_parameters` must be at least 0, not -1"),
            (
                "expect = { steps = 1 }",
                "unknown key `steps` in `expect`; `steps` itself belongs at the top, before any",
            ),
            ("dtype = 1", "unknown key `dtype`; `dtype` itself belongs in `inputs`"),
            ("zzz = 1", "unknown key `zzz`; known are `trainable`, `frozen`"),
            ('pretrained = "a.pt"', "`pretrained` names a file that does not exist: `a.pt`"),
            ('pretrained = { file = "a.pt", key = "ema" }', "`pretrained` names a file that does not exist: `a.pt`"),
            (
                'pretrained = { fil = "train.py", key = "ema" }',
                "unknown key `fil` in `pretrained`; did you mean `file`?",
            ),
            ('pretrained = { file = "train.py" }', "`pretrained` needs the key `key`"),
            ("pretrained = 3", "`pretrained` must be a string or a table, not 3"),
            ("phase = []", "`phase` is an empty list"),
            ("phase = [3]", "`phase[0]` must be a table, not 3"),
            ('[phase]\nname = "a"', "`phase` must be a list of tables, not a table; write `[[phase]]`"),
            ('phase = [{ name = "a", target = "model.py" }]', "`target` itself belongs at the top, before any table"),
            (
                'phase = [{ name = "a", trainabl = ["x"] }]',
                "unknown key `trainabl` in `phase[0]`; did you mean `trainable`?",
            ),
            ('phase = [{ name = "a", eval = ["b["] }]', "`b[` in `phase[0].eval` has a bracket without its partner"),
            ('phase = [{ name = "a", frozen = [""] }]', "`phase[0].frozen` has an empty selector"),
            ('phase = [{ name = "a", expect = { frozn = 1 } }]', "unknown key `frozn` in `phase[0].expect`"),
            ('phase = [{ name = "a" }, { name = "b" }, { name = "a" }]', "`a` is the name of more than one phase"),
            (
                'phase = [{ name = "a", setup = "no.py:f" }]',
                "`phase[0].setup` names a file that does not exist: `no.py`",
            ),
            ('setup = "train.py:f"', "`setup` itself belongs in `[[phase]]`"),
            ("[tool.freezecheck]", "`[tool.freezecheck]` belongs in pyproject.toml; in a file of its own the keys"),
            ('loss = "no/train.py:loss"', "`loss` names a file that does not exist: `no/train.py`"),
            ('optimizer = "no.py"', "`optimizer` names a file that does not exist: `no.py`"),
            ('inputs = "no.py:f"', "`inputs` names a file that does not exist: `no.py`"),
        ],
    )
    def test_each(self, folder: Path, line: str, said: str) -> None:
        """Each mistake is one line that names the key, what came and what was meant."""
        found = mistakes(f"\n{line}\n")
        assert all(one.startswith("freeze.toml:2: ") for one in found)
        assert [said in one for one in found].count(True) == 1

    @pytest.mark.parametrize(
        "line",
        [
            'target = "torchvision:resnet18"',
            'target = "package.module:NAME"',
            'optimizer = "AdamW"',
            "optimizer = { name = 'NoSuch', anything = [1] }",
            'ignore = ["FZ001", "FZ0", "FZ"]',
            'trainable = ["a[0][1].b", "[2]", "*[:]", "b[ 1 : -1 ]", "?", "re: ", "!c", "type:*"]',
        ],
    )
    def test_silent(self, line: str) -> None:
        """What cannot be checked without the model or an import is left to those who load it."""
        Spec.parse(line)

    def test_python_mistakes_name_the_key(self) -> None:
        """From Python there is no line; the key is said all the same."""
        with pytest.raises(SpecError) as caught:
            Spec.of(trainable="fc", stepss=3)  # type: ignore[call-arg, arg-type]  # both are the mistakes to find
        assert caught.value.location is None
        assert caught.value.message.splitlines() == [
            '`trainable` must be a list of selectors, not the string "fc"; write `trainable = ["fc"]`',
            "unknown key `stepss`; did you mean `steps`?",
        ]

    @given(st.one_of(st.text(), st.text(alphabet="[]{}=\"'.,#\n a1e-:!")))
    def test_any_text(self, text: str) -> None:
        """Whatever stands in the file: a spec, or a SpecError in which every line has its place."""
        said = ["x.toml:1: nothing"]
        try:
            Spec.parse(text, "x.toml")
        except SpecError as error:
            said = str(error).split("\n")
        assert all(line.startswith("x.toml:") for line in said)


def test_importing_is_cheap() -> None:
    """Neither pydantic nor tree-sitter nor torch comes with the import; reading a file brings the first two only."""
    code = (
        "import sys, freezecheck.spec, freezecheck.spec.match\n"
        "heavy = {'pydantic', 'tree_sitter', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "freezecheck.spec.Spec.parse('frozen = [\"a\"]')\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines() == ["[]", "['pydantic', 'tree_sitter']"]


@pytest.mark.parametrize("text", ["trainable = [fc]", "trainable = fc", 'trainable = ["fc"', "= 3"])
def test_what_is_no_toml_is_told_how_toml_is_written(text: str) -> None:
    """The line, and how lists and texts look: what people forget is quotes and brackets."""
    with pytest.raises(SpecError) as caught:
        Spec.parse(f"steps = 2\n{text}\n", "x.toml")
    assert caught.value.message.startswith("x.toml:")
    assert 'trainable = ["fc", "layer4"]' in caught.value.hint
