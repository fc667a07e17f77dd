"""The shape of the package: what may import what, how long things may be, and what must not be imported to start."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import freezecheck
from freezecheck.discover import rules

PACKAGE = Path(freezecheck.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py"))
TEXTS = {path: path.read_text(encoding="utf-8") for path in FILES}
TREES = {path: ast.parse(text) for path, text in TEXTS.items()}

# From the bottom up. A part may import parts of its own layer and of those below; `test_nothing_goes_in_a_circle` holds
# the order inside a layer.
LAYERS = (
    {"records", "errors"},
    {"discover", "guard", "places", "schema", "subject"},
    {"checkpoint", "inputs", "loaders", "probe", "rules", "source", "spec"},
    {"arguments", "assemble", "check", "differ", "freezing", "judge", "loading", "objects", "phases", "pretrained"}
    | {"render", "watching"},
    {"cli", "callbacks", "pytest_plugin"},
    {"__main__", "__init__"},
)
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
ONLY_IN = {
    "torch": {"checkpoint", "inputs", "loaders", "loading", "objects", "probe", "check", "freezing", "phases"}
    | {"watching"},
    "torchvision": {"loaders.torchvision_name"},
    "timm": {"loaders.timm_name"},
    "click": {"cli"},
    "jinja2": {"render._picture_page"},
    "markupsafe": {"render._picture_page", "render.html"},
    "tabulate": {"render.text", "render.markdown"},
    "pytest": {"pytest_plugin"},
    "lightning": {"callbacks.lightning"},
    "transformers": {"callbacks.transformers"},
    "pydantic": {"spec.schema"},
}
HEADINGS = ("## What it does", "## Why is this bad", "## Example", "## Use instead")


def module_of(path: Path) -> str:
    """Return a file's dotted name below the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Give (absolute dotted name, whether only for the type checker) for every import of a file, wherever it stands."""
    typing_only = {
        id(node)
        for block in ast.walk(TREES[path])
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for statement in block.body
        for node in ast.walk(statement)
    }
    package = ["freezecheck", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{name}.{alias.name}", id(node) in typing_only) for alias in node.names)


def ours(name: str) -> str | None:
    """Return the module of this package that an imported name lies in."""
    if name.partition(".")[0] != "freezecheck":
        return None
    inner = name.removeprefix("freezecheck").removeprefix(".")
    while inner and inner not in MODULES:
        inner = inner.rpartition(".")[0]
    return inner or "__init__"


def part(module: str) -> str:
    return module.partition(".")[0]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def lines_without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return a function's length in lines, its decorators and docstring left out."""
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        doc = node.body[0]
        length -= (doc.end_lineno or doc.lineno) - doc.lineno + 1
    return length


def test_every_part_has_its_layer():
    """A new part of the package is placed in the layers before it can be imported."""
    assert {part(module) for module in MODULES} - set(RANK) == set()


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_points_up(path):
    """A module imports only from its own layer and from those below, for the type checker too."""
    here = module_of(path)
    up = [
        name
        for name, _ in imports(path)
        if (there := ours(name)) is not None
        and part(there) != "__init__"
        and here not in ("__init__", "__main__")
        and RANK[part(there)] > RANK[part(here)]
    ]
    assert up == []


def test_nothing_goes_in_a_circle():
    """The modules can be put in an order in which each imports only earlier ones."""
    graph = {
        module_of(path): {
            there
            for name, typing_only in imports(path)
            if not typing_only and (there := ours(name)) is not None and there not in ("__init__", module_of(path))
        }
        for path in FILES
    }
    tuple(graphlib.TopologicalSorter(graph).static_order())


def test_rules_know_nothing_but_the_records():
    """A rule is a predicate over the table: it imports no other part of the package."""
    wrong = {
        (module_of(path), name)
        for path in FILES
        if part(module_of(path)) == "rules"
        for name, _ in imports(path)
        if (there := ours(name)) is not None and part(there) not in {"records", "rules"}
    }
    assert wrong == set()


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_library_stays_where_it_belongs(library):
    """Each library is imported by the one part that is made for it."""
    users = {
        module_of(path)
        for path in FILES
        for name, typing_only in imports(path)
        if name.partition(".")[0] == library and not typing_only
    }
    allowed = ONLY_IN[library]
    assert {user for user in users if user not in allowed and part(user) not in allowed} == set()


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_and_functions_stay_short(path):
    """No file has more than 400 lines, and no function more than 50 beside its docstring."""
    assert len(TEXTS[path].splitlines()) <= 400
    long = {node.name: size for node in functions(TREES[path]) if (size := lines_without_docstring(node)) > 50}
    assert long == {}


def test_most_files_and_functions_are_much_shorter():
    """The usual file is a page or two, the usual function a dozen lines."""
    lengths = sorted(len(text.splitlines()) for text in TEXTS.values())
    assert lengths[len(lengths) // 2] <= 150
    sizes = sorted(lines_without_docstring(node) for tree in TREES.values() for node in functions(tree))
    assert sizes[len(sizes) // 2] <= 15


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_everything_public_has_a_docstring(path):
    """Every module, and every public class, function and method, says what it is."""
    tree = TREES[path]
    holders = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))]
    silent = [
        node.name
        for holder in holders
        for node in holder.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]
    assert silent == []
    assert ast.get_docstring(tree) is not None


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.code)
def test_every_rule_has_its_headings(rule):
    """A rule's docstring has the headings that `freezecheck rule` and the README build on, in their order."""
    places = [rule.doc.find(heading) for heading in HEADINGS]
    assert -1 not in places
    assert places == sorted(places)


# ---- what starting must not cost

WATCHER = """\
import sys
{before}
sys.argv = ["freezecheck", *{arguments!r}]
try:
    {body}
    code = 0
except SystemExit as stop:
    code = stop.code or 0
heavy = {{"torch", "numpy", "torchvision", "timm", "transformers"}} & set(sys.modules)
print("imported:", *sorted(heavy), file=sys.stderr)
sys.exit(77 if heavy else code)
"""
MAIN = "from freezecheck.__main__ import main; main()"


def start(body: str, *arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter, which ends with 77 when it imported something heavy."""
    code = WATCHER.format(before=before, body=body, arguments=list(arguments))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ("import freezecheck", ()),
        (MAIN, ("--help",)),
        (MAIN, ("--version",)),
        (MAIN, ("verify", "--help")),
        (MAIN, ("rule",)),
        (MAIN, ("rule", "FZ501")),
        (MAIN, ("rule", "--json-schema")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_starting_does_not_import_torch(body, arguments):
    """What needs no model imports neither torch nor anything as heavy."""
    done = start(body, *arguments)
    assert done.returncode == 0, done.stderr
    assert bool(arguments) == bool(done.stdout)


def test_the_watcher_would_see_torch():
    """The test above can fail: the same command after an `import torch` is found out."""
    done = start(MAIN, "--help", before="import torch")
    assert done.returncode == 77
    assert "torch" in done.stderr
