"""The pytest fixture `freezecheck`. pytest loads this wherever freezecheck is installed: no torch here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from .check import Result
    from .spec import Spec


class Freezecheck:
    """What the fixture gives: assertions about what a model trains."""

    def verify(self, model: nn.Module, spec: Spec | str | os.PathLike[str] | None = None, **options: Any) -> Result:
        """Train `model` a step or a few, put everything back, and assert that it trains what `spec` says.

        `spec` is a `freezecheck.Spec`, or the path of its file; None takes the `requires_grad` flags as the intent.
        The options are those of `freezecheck.verify`: optimizer, inputs, loss, steps, seed, select, ignore, fail_on.
        Raises FreezeError, an AssertionError that shows the text report.
        """
        __tracebackhide__ = True
        from .check import verify
        from .errors import FreezeError
        from .spec import Spec

        if isinstance(spec, (str, os.PathLike)):
            spec = Spec.load(os.fspath(spec))
        result = verify(model, spec, **options)
        if not result.ok:
            heads = dict.fromkeys(f"{finding.code} {finding.name}" for finding in result.findings)
            raise FreezeError(f"{', '.join(heads)}\n{result}", result.findings)  # pytest's summary shows the first line
        return result

    def assert_only_trains(
        self,
        model: nn.Module,
        *trainable: str,
        optimizer: Optimizer | Sequence[Optimizer] | None = None,
        inputs: Any = None,
        loss: Callable[[nn.Module, Any], Any] | None = None,
        **options: Any,
    ) -> Result:
        """Assert that a step trains what these selectors name, and moves no byte of anything else.

        Selectors are those of a freeze spec, such as "fc", "layer4", "!layer4.*.bn*"; none at all means that nothing
        trains. Raises FreezeError, as `verify` does.
        """
        __tracebackhide__ = True
        from .spec import Spec

        spec = Spec.of(trainable=list(trainable)) if trainable else Spec.of(frozen=["*"])
        return self.verify(model, spec, optimizer=optimizer, inputs=inputs, loss=loss, **options)


@pytest.fixture
def freezecheck() -> Freezecheck:
    """Assertions about what a model trains: `verify` and `assert_only_trains`."""
    return Freezecheck()
