"""What holds for every test."""

import os
import sys
import tempfile

import pytest
from hypothesis import settings

TEMPORARY = os.path.realpath(tempfile.gettempdir()) + os.sep

# Before torch is imported, here and in every subprocess: the models are too small for more threads to help.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

# Never judge by time; in CI look at the same cases each run, so that a red run means a change and not luck.
settings.register_profile("freezecheck", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("freezecheck")


@pytest.fixture(autouse=True)
def forget_the_users_modules():
    """Take away what a test imported from a temporary folder: the next test has a `model.py` of its own."""
    known, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - known:
        ours = name.partition(".")[0] in ("freezecheck", "tests")  # even of a checkout that lies there
        if not ours and str(getattr(sys.modules[name], "__file__", None)).startswith(TEMPORARY):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def nothing_of_ours_stays_in_torch():
    """Fail the test that leaves a watch, a patched function or a mode behind: what runs after it would be watched."""
    yield
    torch = sys.modules.get("torch")
    assert torch is None or _ours_in(torch) == {}


def _ours_in(torch):
    """What of torch's own comes from freezecheck now, by its name."""
    stack = torch.overrides._get_current_function_mode_stack()
    there = {f"mode {depth}": type(mode) for depth, mode in enumerate(stack)}
    for owner in (torch.autograd, torch.nn.Module, torch.nn.Parameter, torch.autograd.Function, torch.optim.Optimizer):
        there |= {f"{owner.__name__}.{name}": value for name, value in vars(owner).items()}
    for owner in ("torch.nn.modules.module", "torch.optim.optimizer"):
        for name, hooks in vars(sys.modules[owner]).items():
            if name.startswith("_global_") and isinstance(hooks, dict):
                there |= {f"{name}[{key}]": hook for key, hook in hooks.items()}
    there["torch.compile"] = torch.compile
    homes = {name: getattr(getattr(value, "__func__", value), "__module__", None) for name, value in there.items()}
    return {name: home for name, home in homes.items() if isinstance(home, str) and home.startswith("freezecheck")}
