"""Whole outputs, kept under tests/golden: `python -m tests.render.golden --write` writes them anew; read the diff."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

from freezecheck.records import Report, Severity
from freezecheck.render._renderer import Style
from freezecheck.render.csv_format import RENDERER as CSV
from freezecheck.render.github import RENDERER as GITHUB
from freezecheck.render.json_format import RENDERER as JSON
from freezecheck.render.junit import RENDERER as JUNIT
from freezecheck.render.markdown import RENDERER as MARKDOWN
from freezecheck.render.text import RENDERER as TEXT
from tests.render.samples import (
    DRIFT,
    DROPOUT,
    IN_OPTIMIZER,
    NO_OPTIMIZER,
    Sketch,
    bert,
    keeping,
    resnet50,
    tied,
    trained,
    verified,
)

FOLDER = Path(__file__).resolve().parents[1] / "golden"


def reported(sketch: Sketch, target: str, spec: str | None = None) -> Report:
    return Report("report", target, spec, sketch.case(spec=spec is not None))


def text(report: Report, **style: object) -> str:
    return TEXT.render(report, Style(**style))  # type: ignore[arg-type]  # a test names each option itself


def failed() -> Report:
    return verified([DRIFT, IN_OPTIMIZER, DROPOUT], trained(moved=False), skipped=tuple(NO_OPTIMIZER))


def in_the_checkout(render: Callable[[Report, Style], str]) -> str:
    """Paths for code review count from the repository's root."""
    with contextlib.chdir(FOLDER.parents[1]):
        return render(failed(), Style())


GOLDEN: dict[str, Callable[[], str]] = {
    "report_resnet50.txt": lambda: text(reported(resnet50(), "torchvision:resnet50")),
    "report_resnet50_depth_1.txt": lambda: text(reported(resnet50(), "torchvision:resnet50"), depth=1),
    "report_bert.txt": lambda: text(reported(bert(), "bert.py:build_model")),
    "report_tied_with_spec.txt": lambda: text(reported(tied(), "lm.py", "freeze.toml")),
    "report_empty.txt": lambda: text(reported(Sketch("Identity"), "empty.py")),
    "verify_failed.txt": lambda: text(failed()),
    "verify_failed_quiet.txt": lambda: text(failed(), quiet=True),
    "verify_failed_verbose.txt": lambda: text(failed(), verbose=True),
    "verify_failed_color.txt": lambda: text(failed(), color=True, width=60),
    "verify_ok.txt": lambda: text(verified()),
    "verify_ok_with_notes.txt": lambda: text(verified([DROPOUT], skipped=tuple(NO_OPTIMIZER))),
    "verify_ok_forgiven.txt": lambda: text(verified([IN_OPTIMIZER], fail_on=Severity.ERROR)),
    "verify_ok_kept.txt": lambda: text(verified(sketch=keeping()), verbose=True),
    "verify_failed.json": lambda: JSON.render(failed(), Style()),
    "verify_failed.md": lambda: MARKDOWN.render(failed(), Style()),
    "verify_failed_github.txt": lambda: in_the_checkout(GITHUB.render),
    "verify_failed_junit.xml": lambda: in_the_checkout(JUNIT.render),
    "report_tied.csv": lambda: CSV.render(reported(tied(), "lm.py", "freeze.toml"), Style()),
}


def main() -> None:
    """Write every golden file, or say which would change."""
    for name, made in GOLDEN.items():
        path = FOLDER / name
        new = made()
        if not path.exists() or path.read_text(encoding="utf-8") != new:
            print(name, "written" if "--write" in sys.argv else "is stale")
            if "--write" in sys.argv:
                path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
