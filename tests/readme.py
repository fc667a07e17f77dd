"""Fills the READMEs from the program itself: `python -m tests.readme --write`. The tests compare instead.

Five things are filled, the rest is left alone:

- a ```console fence: what follows each line `$ COMMAND`, run in the README's own folder;
- the fence after `<!-- file: PATH -->`: that file;
- the lines between `<!-- rules -->` and `<!-- /rules -->`: the table of all rules;
- between `<!-- formats -->` and its end: the table of all output formats, from their modules' docstrings;
- between `<!-- commands -->` and its end: every help page.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from freezecheck.render._renderer import Renderer

ROOT = Path(__file__).resolve().parents[1]
READMES = (ROOT / "README.md", *sorted((ROOT / "examples").glob("*/README.md")))
CONSOLE = re.compile(r"(?<=^```console\n)(.*?)(?=^```$)", re.M | re.S)
FILE = re.compile(r"(?<=^<!-- file: )(?P<path>\S+)(?P<open> -->\n```\w*\n)(?P<body>.*?)(?=^```$)", re.M | re.S)
TABLE = re.compile(r"(?<=^<!-- )(?P<name>rules|formats|commands) -->\n.*?(?=^<!-- /(?P=name) -->$)", re.M | re.S)


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str = ""


def freezecheck_command(*arguments: str, folder: Path = ROOT, columns: int | None = None) -> Ran:
    """Run `freezecheck ARGUMENTS` in this process, as the installed command would in `folder`.

    `columns` is the width of its terminal; None, as for a file, is what the READMEs show, whoever fills them.

    The user's modules are forgotten afterwards: a process of its own would not hand them to the next one.
    """
    from freezecheck.__main__ import main

    out, err, argv, path, known = io.StringIO(), io.StringIO(), sys.argv, list(sys.path), set(sys.modules)
    code: object = 0
    width = os.environ.pop("COLUMNS", None)
    try:
        if columns is not None:
            os.environ["COLUMNS"] = str(columns)
        sys.argv = ["freezecheck", *arguments]
        with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        sys.argv, sys.path[:] = argv, path
        os.environ.pop("COLUMNS", None)
        os.environ.update({} if width is None else {"COLUMNS": width})
        for name in set(sys.modules) - known:
            if str(folder.resolve()) in str(getattr(sys.modules[name], "__file__", None)) and folder != ROOT:
                del sys.modules[name]
    return Ran(code if isinstance(code, int) else 1, out.getvalue(), err.getvalue())


def run(command: Sequence[str], folder: Path) -> Ran:
    """Run one command of a console block."""
    if command[0] == "freezecheck":
        return freezecheck_command(*command[1:], folder=folder)
    if command[0] == "python":
        done = subprocess.run(
            [sys.executable, "-B", *command[1:]], cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr)
    raise ValueError(f"a README shows a command that nobody runs: {shlex.join(command)}")


def console(block: str, folder: Path) -> str:
    """Return the block with the output of each of its commands as it is now; `$ echo $?` shows an exit code."""
    return "".join(session(re.findall(r"^\$ (.*)$", block, re.M), folder))


def session(commands: Sequence[str], folder: Path) -> Iterator[str]:
    last = Ran(0, "")
    for line in commands:
        yield f"$ {line}\n"
        command = shlex.split(line, comments=True)
        if command[0] == "cd":
            folder = folder / command[1]
        elif line == "echo $?":
            yield f"{last.code}\n"
        else:
            last = run(command, folder)
            if last.code not in (0, 1):
                raise AssertionError(f"$ {line}\nended with {last.code}:\n{last.out}{last.err}")
            shown = re.sub(r"\S*/site-packages/", "…/site-packages/", last.out)
            yield "\n".join(text.rstrip() for text in shown.strip("\n").splitlines()) + "\n"


def rule_table() -> str:
    """Return the table of all rules, in Markdown."""
    from freezecheck.discover import rules

    head = "| code | name | severity | what it finds |\n|---|---|---|---|\n"
    return head + "".join(
        f"| {rule.code} | `{rule.name}` | {rule.severity} | {first_sentence(rule.doc)} |\n" for rule in rules()
    )


def format_table() -> str:
    """Return the table of all output formats, in Markdown."""
    from freezecheck.discover import renderers

    head = "| `--format` | commands | what it is |\n|---|---|---|\n"
    return head + "".join(
        f"| `{name}` | {', '.join(c for c in commands() if c in one.commands)} | {about(one)} |\n"
        for name, one in renderers().items()
    )


def about(renderer: Renderer) -> str:
    """Return what a format's module says of itself."""
    return first_sentence(sys.modules[renderer.render.__module__].__doc__ or "")


def commands() -> list[str]:
    """Return the names of all commands, as `--help` lists them."""
    from freezecheck.cli import main

    return sorted(main.commands)


def help_pages() -> str:
    """Return a folded console block for each command; `filled` runs the blocks."""
    pages = [
        ("freezecheck", "freezecheck --help"),
        *((f"freezecheck {c}", f"freezecheck {c} --help") for c in commands()),
    ]
    return "\n".join(
        f"<details><summary><code>{name}</code></summary>\n\n```console\n$ {command}\n```\n\n</details>\n"
        for name, command in pages
    )


GENERATED = {"rules": rule_table, "formats": format_table, "commands": help_pages}


def first_sentence(doc: str) -> str:
    """Return a docstring's first paragraph on one line, fit for a table's cell."""
    return " ".join(doc.strip().split("\n\n")[0].split()).replace("|", "\\|")


def filled(text: str, folder: Path) -> str:
    """Return a README's text with everything that the program can say in it as the program says it now."""
    text = TABLE.sub(lambda m: f"{m['name']} -->\n{GENERATED[m['name']]()}", text)
    text = FILE.sub(lambda m: m["path"] + m["open"] + (folder / m["path"]).read_text(encoding="utf-8"), text)
    return CONSOLE.sub(lambda m: console(m[1], folder), text)


def comparable(text: str) -> str:
    """Take out what differs between machines and releases of torch.

    That is its version, the last digits of numbers, its own line numbers, and where a long line is broken, which hangs
    on all these.
    """
    text = re.sub(r"\btorch\s+\d+\.\d+\.\d+[^\s;]*", "torch VERSION", text)
    text = re.sub(r"(/site-packages/\S+?\.py):\d+", r"\1:LINE", text)
    text = re.sub(r"\b\d\.\d+e[-+]\d+\b|\b0\.\d+\b", "NUMBER", text)
    return re.sub(r"\s+", " ", text)


def difference(path: Path) -> str:
    """Return what in a README is not as the program says it now, line by line; empty when nothing is."""
    old = path.read_text(encoding="utf-8")
    new = filled(old, path.parent)
    if comparable(new) == comparable(old):
        return ""
    return "\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), "written", "said", lineterm=""))


def main(arguments: Sequence[str]) -> int:
    """Write the READMEs anew, or say which would change."""
    stale = 0
    for path in READMES:
        changed = difference(path)
        if not changed:
            continue
        stale = 1
        print(f"{path.relative_to(ROOT)} {'written' if '--write' in arguments else 'is stale'}")
        if "--write" in arguments:
            path.write_text(filled(path.read_text(encoding="utf-8"), path.parent), encoding="utf-8")
        else:
            print(changed)
    return 0 if "--write" in arguments else stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
