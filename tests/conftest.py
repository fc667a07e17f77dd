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
        if str(getattr(sys.modules[name], "__file__", None)).startswith(TEMPORARY):
            del sys.modules[name]
