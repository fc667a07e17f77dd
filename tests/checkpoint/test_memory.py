"""Memory stays small whatever the files' size."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.diff import write_pair

DIFF = """\
import sys
from freezecheck.cli import main
try:
    main(["diff", sys.argv[1], sys.argv[2], "--quiet"])
except SystemExit as stop:
    assert not stop.code
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["safetensors", "pt"])
@pytest.mark.parametrize("equal", [True, False], ids=["equal", "changed"])
def test_a_pair_of_4_gb_needs_less_than_500_mb(form, equal, tmp_path):
    """A pair of 4 GB files, equal or with every tensor changed, is compared within 500 MB.

    A plain file of torch.save is read without torch, whose import alone takes that much where it is built for CUDA.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's account of a process's memory")
    if shutil.disk_usage(tmp_path).free < 14 * 2**30:
        pytest.skip("needs 14 GB of free disk")
    first, second = write_pair(tmp_path, 4 * 2**30, form=form, equal=equal)
    used = peak(DIFF, str(first), str(second))
    first.unlink(), second.unlink()
    assert used < 500e6


def peak(code: str, *arguments: str) -> int:
    """Run code in a process of its own and return the most bytes it had in memory."""
    # Of this process alone; ru_maxrss would count from what its parent had.
    told = "\nprint(int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]) * 1024)"
    command = [sys.executable, "-c", code + told, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=True)
    return int(done.stdout.split()[-1])
