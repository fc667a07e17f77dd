"""What the documentation must name: every command, option, format and rule, and no option that there is not."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise

import click
import pytest

from freezecheck.cli import main
from freezecheck.discover import renderers, rules
from freezecheck.render._renderer import EVERY_COMMAND
from tests.readme import READMES, ROOT, commands, filled, first_sentence

README = (ROOT / "README.md").read_text(encoding="utf-8")
SAID = re.compile(r"(?:^|[`$(]|run: |&& |bin/)\s*freezecheck\s+(?P<words>[^`\n|>]*)", re.M)


def page_of(command: str) -> str:
    """The README's folded help page of a command."""
    return README.partition(f"<summary><code>{command}</code></summary>")[2].partition("</details>")[0]


def options(command: click.Command) -> list[click.Option]:
    return [one for one in command.params if isinstance(one, click.Option)]


def unknown(text: str) -> list[str]:
    """The options in a text's `freezecheck COMMAND …` that this command does not have."""
    found = []
    for match in SAID.finditer(text):
        words = re.split(r"\s+", match["words"].strip())
        if words[0] not in main.commands:
            continue
        if words[0] == "run":  # what follows the script is the script's own
            words = words[: next((i for i, word in enumerate(words) if word.endswith(".py")), len(words))]
        command = main.commands[words[0]]
        known = {name for one in options(command) for name in (*one.opts, *one.secondary_opts)} | {"--help", "-h"}
        given = [word.partition("=")[0].rstrip(".,;:)") for word in words[1:] if re.match(r"--?[a-z]", word)]
        found += [f"{words[0]} {word}" for word in given if word not in known]
    return found


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option_is_documented(name):
    """Each has its page with a sentence for every option, and the README names the command."""
    page = page_of(f"freezecheck {name}")
    for option in options(main.commands[name]):
        for spelling in (*option.opts, *option.secondary_opts):
            assert re.search(rf"^  .*{re.escape(spelling)}\b", page, re.M), spelling
        assert option.get_help_record(click.Context(main.commands[name], info_name=name))[1], option.name
    assert main.commands[name].help
    assert main.commands[name].short_help
    assert f"freezecheck {name}" in README


def test_every_format_is_in_the_readme():
    """With a sentence of its own, which is its module's."""
    for name in renderers():
        assert re.search(rf"^\| `{name}` \| .+ \| For .+\. \|$", README, re.M), name


def test_every_rule_is_in_the_readme():
    """Under its code and name, with the first sentence of its page."""
    for rule in rules():
        assert f"| {rule.code} | `{rule.name}` | {rule.severity} | {first_sentence(rule.doc)} |" in README


def test_no_format_serves_a_command_that_is_not_meant():
    """The commands that formats name are those that end in a report."""
    assert {name for one in renderers().values() for name in one.commands} <= EVERY_COMMAND


@pytest.mark.parametrize("path", READMES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_document_shows_an_option_that_there_is_not(path):
    """Every `freezecheck COMMAND --option` that is written anywhere is one."""
    assert unknown(path.read_text(encoding="utf-8")) == []


def test_such_an_option_would_be_noticed():
    """The test above can fail, in prose, in a shell block and in a workflow."""
    for shown in (
        "`freezecheck verify --wrong`",
        "$ freezecheck verify x.py --wrong=3",
        "- run: freezecheck verify --wrong",
    ):
        assert unknown(shown) == ["verify --wrong"]
    assert unknown("`freezecheck verify --spec x.toml -q`") == []


def test_a_changed_page_would_be_noticed():
    """The generated parts are written by the program and by nobody else."""
    for name in ("formats", "commands"):
        stale = f"<!-- {name} -->\nold\n<!-- /{name} -->\n"
        assert "old\n" not in filled(stale, ROOT).partition("freezecheck")[0]


def test_the_workflow_of_the_readme_is_understood():
    """The formats in the README's GitHub steps are formats, and no two go to one place."""
    from freezecheck.cli.outputs import placed, read

    (line,) = re.findall(r"run: freezecheck (verify .*--format github.*)", README)
    words = shlex.split(line)
    values = [value for word, value in pairwise(words) if word == "--format"]
    context = click.Context(main.commands["verify"], info_name="verify")
    wanted = placed(read(context, main.commands["verify"].params[0], values), None)
    assert [(one.format, one.path) for one in wanted] == [
        ("github", None),
        ("markdown", "freeze.md"),
        ("sarif", "freeze.sarif"),
    ]
