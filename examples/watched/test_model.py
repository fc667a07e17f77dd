"""What a test suite says about freezing: the fixture comes with freezecheck."""

import pytest
from model import Classifier, build_optimizer, example_inputs


@pytest.fixture
def model():
    return Classifier()


def test_only_the_head_trains(freezecheck, model):
    freezecheck.assert_only_trains(model, "head", optimizer=build_optimizer(model), inputs=example_inputs)


def test_the_spec_holds(freezecheck, model):
    freezecheck.verify(model, "freeze.toml", optimizer=build_optimizer(model), inputs=example_inputs)
