"""`python -m freezecheck` and the `freezecheck` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from .cli import main as cli
    from .guard import stdout_is_written

    try:
        cli()
    finally:
        stdout_is_written()


if __name__ == "__main__":
    main()
