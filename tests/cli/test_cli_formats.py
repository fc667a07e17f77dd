"""Several formats at once, each to its own place."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from freezecheck.discover import renderers
from freezecheck.errors import ProbeError
from freezecheck.render._renderer import EVERY_COMMAND
from tests.cli.runner import run
from tests.render.golden import failed, reported
from tests.render.samples import tied, verified

SPEC = 'target = "train.py"\ntrainable = ["head"]\n'


class TestSeveralFormats:
    """`--format` may be given several times, each with its own file."""

    def test_each_goes_to_its_place(self, fakes, tmp_path):
        """Files get theirs, stdout the one without a file; one check serves all."""
        fakes.answers = [failed()]
        words = ("--format", "sarif=out.sarif", "--format=junit=out.xml", "--format", "text")
        result = run("verify", "train.py", *words)
        assert result.exit_code == 1
        assert result.stdout.startswith("error FZ501")
        assert json.loads((tmp_path / "out.sarif").read_text())["version"] == "2.1.0"
        assert ElementTree.fromstring((tmp_path / "out.xml").read_bytes()).tag == "testsuites"
        assert len(fakes.checked) == 1

    def test_with_files_alone_stdout_stays_empty(self, fakes, tmp_path):
        """Nothing is written that was not asked for."""
        assert run("verify", "train.py", "--format", "json=out.json").stdout == ""
        assert json.loads((tmp_path / "out.json").read_text())["ok"]

    def test_output_is_for_the_one_without_a_file(self, fakes, tmp_path):
        """`--output` names the file of the format that names none, also when others do."""
        run("verify", "train.py", "--format", "json=out.json", "--format", "markdown", "--output", "out.md")
        assert (tmp_path / "out.md").read_text().startswith("### ✅")
        run("verify", "train.py", "--output", "out.txt")
        assert "freezecheck: ok" in (tmp_path / "out.txt").read_text()

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("--format text --format json", "2 formats would be written to stdout"),
            ("--format text --format json=-", "2 formats would be written to stdout"),
            ("--format text=x --format json=./x", "2 formats would be written to"),
            ("--format text --format json=x --output x", "2 formats would be written to"),
            ("--format json=x --output y", "--output y has nothing to write"),
            ("--format json=", "names no file after the equals sign"),
            ("--format yaml=x", "'yaml' is not one of"),
        ],
    )
    def test_what_cannot_be_meant_is_2_before_any_check(self, fakes, words, said):
        """Two documents in one place, and a place without a document."""
        result = run("verify", "train.py", *words.split())
        assert (result.exit_code, fakes.loaded) == (2, [])
        assert said in result.stderr

    def test_a_file_that_cannot_be_written_is_2_before_any_check(self, fakes, tmp_path):
        """The model is not even loaded, and the other files are not begun."""
        (tmp_path / "good.json").write_text("old")
        result = run("verify", "train.py", "--format", "json=good.json", "--format", "sarif=no/such/x.sarif")
        assert (result.exit_code, fakes.loaded) == (2, [])
        assert "cannot write no/such/x.sarif" in result.stderr
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"good.json": "old", "train.py": ""}


class TestErrors:
    """A check that could not be made is told in each format that has a form for it."""

    def test_it_is_in_each_file(self, fakes, tmp_path):
        """A step that uploads the file has one to upload, and it does not say ok."""
        fakes.answers = [ProbeError("it raised")]
        formats = {"json": "a.json", "sarif": "a.sarif", "junit": "a.xml", "markdown": "a.md", "github": "-"}
        result = run(
            "verify", "train.py", *[w for name, file in formats.items() for w in ("--format", f"{name}={file}")]
        )
        assert result.exit_code == 2
        assert result.stdout.startswith("::error title=freezecheck could not check (probe)::it raised")
        for file in ("a.json", "a.sarif", "a.xml", "a.md"):
            assert "it raised" in (tmp_path / file).read_text()

    def test_a_file_that_is_written_is_not_spoken_of(self, fakes, tmp_path):
        """Nor what goes to stdout, where a reader sees that nothing came."""
        fakes.answers = [ProbeError("it raised")]
        result = run("verify", "train.py", "--format", "json=a.json", "--format", "svg")
        assert result.exit_code == 2
        assert result.stderr.endswith("freezecheck: could not check: it raised\n")
        (tmp_path / "a.toml").write_text(SPEC)
        fakes.answers = [ProbeError("it raised"), verified()]
        two = run("verify", "--spec", "a.toml", "--spec", "a.toml", "--format", "svg=b.svg")
        assert "it raised" in two.stderr
        assert "b.svg" not in two.stderr
        assert (tmp_path / "b.svg").exists()

    @pytest.mark.parametrize("name", ["svg", "text"])
    def test_a_file_that_is_not_written_is_named(self, fakes, tmp_path, name):
        """A picture of nothing says nothing, and one of an earlier check is not taken for this one's."""
        (tmp_path / "old").write_text("old")
        fakes.answers = [ProbeError("it raised")]
        result = run("verify", "train.py", "--format", f"{name}=old")
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1] == (
            f"freezecheck: old was not written: {name} has no form for a check that could not be made"
        )
        assert (tmp_path / "old").read_text() == "old"

    def test_a_usage_error_is_told_on_stdout_where_a_format_goes_there(self, fakes):
        """Options that cannot be parsed leave the files alone."""
        assert json.loads(run("verify", "--nope", "--format", "json").stdout)["error"]["kind"] == "usage"
        assert run("verify", "--nope", "--format", "json=x.json").stdout == ""
        assert run("verify", "--nope", "--format", "github").stdout.startswith("::error title=")


@pytest.mark.parametrize("name", [name for name, one in renderers().items() if "verify" in one.commands])
def test_several_specs_are_one_document(fakes, tmp_path, name):
    """In every format `verify` writes, both reports and the error between them are found."""
    for file in ("a.toml", "c.toml"):
        (tmp_path / file).write_text(SPEC)
    fakes.answers = [replace(verified(), spec="a.toml"), replace(failed(), spec="c.toml")]
    result = run("verify", "--format", name, *[w for one in "abc" for w in ("--spec", f"{one}.toml")])
    assert result.exit_code == 2
    assert "c.toml" in result.stdout
    assert ("b.toml" in result.stdout) == (renderers()[name].error is not None)


@pytest.mark.parametrize("name", list(renderers()))
def test_every_format_serves_a_command(fakes, name):
    """Each is offered by the help page of the commands it serves and writes something for `report` or `verify`."""
    served = renderers()[name].commands
    assert served
    assert served <= EVERY_COMMAND
    command = "report" if "report" in served else "verify"
    assert name in run(command, "--help").stdout
    fakes.answers = [replace(reported(tied(), "train.py"), command=command)]
    assert run(command, "train.py", "--format", name).stdout


def test_csv_serves_report_alone(fakes):
    """`verify` has more to say than a table of layers holds."""
    result = run("verify", "train.py", "--format", "csv")
    assert result.exit_code == 2
    assert "'csv' is not one of" in result.stderr
    fakes.answers = [reported(tied(), "train.py")]
    assert run("report", "train.py", "--format", "csv").stdout.startswith("name,type,depth,")


class TestMeta:
    """`--meta` builds and trains on the meta device."""

    @pytest.mark.parametrize("command", ["report", "verify"])
    @pytest.mark.parametrize("words", [(), ("--device", "meta")])
    def test_the_model_is_loaded_on_it(self, fakes, command, words):
        """As `--device meta` does, which may stand beside it."""
        run(command, "train.py", "--meta", *(words if command == "verify" else ()))
        assert fakes.loaded[0]["device"] == "meta"

    def test_another_device_contradicts_it(self, fakes):
        """Which of the two is meant nobody can know."""
        result = run("verify", "train.py", "--meta", "--device", "cpu")
        assert (result.exit_code, fakes.loaded) == (2, [])
        assert "--meta and --device cpu contradict each other" in result.stderr


def test_verbose_measures_what_is_kept_for_backward(fakes):
    """It costs one more forward, so only -v asks for it."""
    run("verify", "train.py", "-v")
    run("verify", "train.py")
    assert [one["memory"] for one in fakes.checked] == [True, False]
