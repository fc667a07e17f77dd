"""What holds for every test."""

import os

from hypothesis import settings

# Before torch is imported, here and in every subprocess: the models are too small for more threads to help.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

# Never judge by time; in CI look at the same cases each run, so that a red run means a change and not luck.
settings.register_profile("freezecheck", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("freezecheck")
