"""The twenty training scripts of `tests/cases`, run unchanged: what `run` must find, may find, and must not."""

from __future__ import annotations

import json

import pytest

from tests.readme import freezecheck_command
from tests.test_cases import CASES, NAMES, RIGHT, check, expected

RUN = ("run", "--spec", "freeze.toml", "--format", "json")


@pytest.mark.parametrize("name", [*RIGHT, *(name for name in NAMES if name not in RIGHT)])
def test_run_finds_what_is_wrong_and_nothing_else(name):
    """Each script's mistake is found in its tensors and at its line; no other rule fires, and the exit code says it."""
    ran = freezecheck_command(*RUN, "train.py", folder=CASES / name)
    assert ran.code == expected(name, "run")["exit"], ran.out + ran.err
    check(name, json.loads(ran.out), "run")


def test_run_leaves_the_process_as_it_was():
    """After a run torch's hooks, the patched functions and the stack of modes are what they were."""
    import torch
    from torch.nn.modules import module
    from torch.optim import optimizer
    from torch.overrides import _get_current_function_mode_stack

    def state():
        return (
            torch.autograd.backward,
            torch.nn.Module.eval,
            torch.optim.Optimizer.add_param_group,
            torch.compile,
            torch.nn.Parameter.__new__,
            len(module._global_forward_pre_hooks),
            len(module._global_forward_hooks),
            len(optimizer._global_optimizer_pre_hooks),
            len(optimizer._global_optimizer_post_hooks),
            len(_get_current_function_mode_stack()),
        )

    before = state()
    freezecheck_command(*RUN, "train.py", folder=CASES / "q_correct")
    assert state() == before
