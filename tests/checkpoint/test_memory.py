"""Memory stays small whatever the files' size."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.diff import write_pair

# The peak of this process alone; ru_maxrss would count from what its parent had.
PEAK = """\
import sys
from freezecheck.cli import main
try:
    main(["diff", sys.argv[1], sys.argv[2], "--quiet"])
except SystemExit as stop:
    status = open("/proc/self/status").read()
    print(stop.code or 0, int(status.partition("VmHWM:")[2].split()[0]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["safetensors", "pt"])
@pytest.mark.parametrize("equal", [True, False], ids=["equal", "changed"])
def test_a_pair_of_4_gb_needs_less_than_500_mb(form, equal, tmp_path):
    """A pair of 4 GB files, equal or with every tensor changed, is compared within 500 MB, torch itself included."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's account of a process's memory")
    if shutil.disk_usage(tmp_path).free < 12 * 2**30:
        pytest.skip("needs 12 GB of free disk")
    first, second = write_pair(tmp_path, 4 * 2**30, form=form, equal=equal)
    command = [sys.executable, "-c", PEAK, str(first), str(second)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=True)
    code, peak = map(int, done.stdout.split()[-2:])
    assert code == 0, done.stderr
    assert peak < 500e6
