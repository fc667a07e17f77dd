"""What a training script does with processes and signals, each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.watching.loops import MODEL, WRONG, command, process, write

WORKERS = """\
from torch.utils.data import DataLoader, Dataset

class Data(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        from torch.overrides import _get_current_function_mode_stack
        watching = [m for m in _get_current_function_mode_stack() if type(m).__module__.startswith("freezecheck")]
        return torch.randn(4), index % 2, len(watching)

if __name__ == "__main__":
    loader = DataLoader(Data(), batch_size=4, num_workers=2, multiprocessing_context="{context}")
    for epoch in range(2):
        for x, y, watched in loader:
            assert not watched.any(), "a worker is watched"
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
"""
SPAWN = """\
import torch.multiprocessing as mp

def work(rank):
    print("worker", rank, __name__)
    step()

if __name__ == "__main__":
    mp.spawn(work, nprocs=2)
{after}
"""


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_a_data_loader_are_left_alone(tmp_path, context):
    """A loader's workers run without our hooks, end, and what trains is judged."""
    write(tmp_path, MODEL + WORKERS.format(context=context))
    done = process(tmp_path, "--format", "json", "train.py")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["findings"] == []


def test_a_script_that_spawns_goes_on(tmp_path):
    """Spawned processes find the script as their main module; what the script itself trains is judged."""
    write(tmp_path, WRONG + SPAWN.format(after="    step()"))
    done = process(tmp_path, "--format", "json", "train.py")
    assert done.returncode == 1, done.stderr
    assert [finding["code"] for finding in json.loads(done.stdout)["findings"]] == ["FZ401"]
    assert done.stderr.count("__mp_main__") == 2


def test_a_training_in_spawned_processes_is_told_to_use_torchrun(tmp_path):
    """What trains elsewhere is not seen, and is not called right: exit code 2 with the way to watch it."""
    write(tmp_path, MODEL + SPAWN.format(after=""))
    done = process(tmp_path, "train.py")
    assert done.returncode == 2
    assert "torchrun" in done.stderr


def test_ctrl_c_tells_what_was_seen(tmp_path):
    """An interrupt ends the script as in Python, with 130, and the steps so far are judged."""
    waiting = "step()\nprint('waiting', flush=True)\nimport time\ntime.sleep(60)\n"
    write(tmp_path, WRONG + waiting)
    running = subprocess.Popen(
        command("--format", "json", "train.py"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert running.stderr is not None
    for line in running.stderr:
        if "waiting" in line:
            break
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "KeyboardInterrupt" in err
    assert [finding["code"] for finding in json.loads(out)["findings"]] == ["FZ401"]


def test_leaving_at_once_still_writes_the_report(tmp_path):
    """`os._exit` in the training loop ends the script with its status, after the report is written."""
    write(tmp_path, WRONG + "import os\nstep()\nprint('leaving', flush=True)\nos._exit(4)\n")
    done = process(tmp_path, "--format", "json", "train.py")
    assert done.returncode == 4
    assert [finding["code"] for finding in json.loads(done.stdout)["findings"]] == ["FZ401"]


def test_leaving_at_once_from_a_thread_leaves(tmp_path):
    """A watchdog's `os._exit` in a thread of its own ends the process, as it must."""
    dog = "import os, threading, time\nthreading.Timer(0.5, os._exit, (6,)).start()\ntime.sleep(60)\n"
    write(tmp_path, MODEL + "step()\n" + dog)
    assert process(tmp_path, "train.py", timeout=50).returncode == 6
