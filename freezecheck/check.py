"""The straight line from a model to a judgement, and the Python calls that walk it.

subject → describe → match → observe, leaving no trace → assemble → judge → Report. The command line, the tests'
examples and `freezecheck.verify` are thin callers of the two functions that take a `Subject`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .arguments import given_codes, given_count, given_severity, given_spec
from .assemble import assemble
from .errors import FreezeError, ProbeError
from .judge import codes_run, judge, settled, told_of
from .records import Case, Finding, Report, Severity, Skipped
from .spec.match import match
from .subject import COMMAND_LINE

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from .phases import Course, Stage
    from .spec import Spec
    from .subject import Subject

_STEPS = 3
_OF_THE_SPEC = ("FZ00",)
"""The rules that `report` runs."""
_ADD_META = "the model is on the meta device as it was built, and the inputs are not: add --meta, which puts both there"
_GIVE_META = (
    "the model is on the meta device, and the inputs are not: pass inputs that are there too, as in "
    'inputs=torch.randn(2, 3, device="meta")'
)
_BUILT_ON_META = (
    "the meta device holds no values to decide by, and the model's own code builds it there: let it build it (or a "
    "smaller model of the same class) on the CPU to be checked"
)


class Result:
    """What `verify` and `report` return. `print(result)` shows the text report."""

    def __init__(self, report: Report) -> None:
        self.report = report

    @property
    def ok(self) -> bool:
        """Whether nothing at or above `fail_on` was found."""
        return self.report.ok

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The rules broken, the gravest first."""
        return self.report.findings

    def raise_if_failed(self) -> None:
        """Raise FreezeError, which is an AssertionError and shows the text report, unless `ok`."""
        if not self.ok:
            raise FreezeError(f"\n{self}", self.findings)

    def render(
        self,
        format: str = "text",  # noqa: A002  # the command line's own word for it
        *,
        verbose: bool = False,
        all: bool = False,  # noqa: A002  # as above
        depth: int | None = None,
    ) -> str:
        """Return the report in one of the output formats, such as `json`.

        `verbose` tells everything, `all` opens rows of equal layers, `depth` is that of the layer table. Raises
        ValueError for a format that there is not.
        """
        from .discover import renderer, renderers
        from .render._renderer import Style

        try:
            chosen = renderer(format)
        except KeyError:
            raise ValueError(f"format is one of {', '.join(renderers())}, not {format!r}") from None
        return str(chosen.render(self.report, Style(verbose=verbose, all=all, depth=depth, in_python=True)))

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        codes = ", ".join(dict.fromkeys(finding.code for finding in self.findings))
        return f"<freezecheck {self.report.command}: {'ok' if self.ok else 'failed'}{': ' + codes if codes else ''}>"


def verify(
    model: nn.Module,
    spec: Spec | None = None,
    *,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    inputs: Any = None,
    loss: Callable[[nn.Module, Any], Any] | None = None,
    steps: int | None = None,
    seed: int = 0,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    fail_on: str = "warning",
    phase: str | None = None,
) -> Result:
    """Train `model` for a step or a few, see which layers train, judge it by `spec`, and put everything back.

    `optimizer` is the one the training uses (or several); without it the optimizer rules are skipped. `inputs` is a
    batch (a Tensor, a tuple for positional or a dict for keyword arguments) or a function that makes one; without it
    the spec's are taken, else a shape is searched. `loss(model, inputs)` does its own forward and returns a scalar;
    without it a random projection of the outputs serves. `spec` None takes the `requires_grad` flags as the intent.
    Of a spec's phases all are run and judged in their order; with `phase` only that one is judged.

    The model, its gradients, modes, hooks, the optimizer and every random state are bit for bit what they were when
    this returns, also when the user's code raises. What trains, its optimizer state and the buffers are held twice
    meanwhile; on Linux up to 512 MiB of that memory is kept for the next call, and is the system's to take before.

    Raises ProbeError when the model cannot be trained a step, SpecError when the spec does not fit the model, and
    TypeError or ValueError, before anything is done, for an argument of another kind than these.
    """
    from .objects import from_objects

    gravest, chosen, left = given_severity(fail_on), given_codes("select", select), given_codes("ignore", ignore)
    wanted = None if steps is None else given_count("steps", steps)
    subject = from_objects(model, spec, optimizer=optimizer, inputs=inputs, loss=loss)
    report = verify_subject(
        subject, spec, steps=wanted, seed=seed, select=chosen, ignore=left, fail_on=gravest, phase=phase
    )
    return Result(report)


def report(model: nn.Module, spec: Spec | None = None) -> Result:
    """Count what is trainable and what is frozen, layer by layer, without running anything of the model.

    Raises TypeError when one of the two is something else, SpecError when the spec does not fit the model.
    """
    from .objects import given_model
    from .subject import Subject

    return Result(report_subject(Subject(given_model(model), type(model).__name__), given_spec(spec)))


def verify_subject(
    subject: Subject,
    spec: Spec | None = None,
    *,
    steps: int | None = None,
    seed: int = 0,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    fail_on: Severity = Severity.WARNING,
    memory: bool = False,
    phase: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Walk the whole line: describe, match, probe without leaving a trace, judge.

    A spec with phases is walked phase by phase, inside the one context that leaves no trace; `phase` names the last to
    run and the only one to judge. `memory` measures, by one more forward, what each layer keeps for the backward pass.
    `progress` is called with what is about to be done, as in `training step 2 of at most 3`.
    """
    from .phases import Course, judged, said_of, stages_of
    from .probe.prepare import prepare
    from .probe.untouched import untouched

    stages = stages_of(spec, phase)
    cases: list[tuple[Stage, Case]] = []
    with _meta_told(subject), untouched(subject.model, subject.optimizers or ()) as ground:
        progress("looking for inputs that fit" if subject.make_inputs is None else "preparing the model")
        prepare(subject, ground, seed)
        course = Course(subject, ground, stages, seed)
        for stage in stages:
            wanted = steps or (stage.spec.steps if stage.spec else None) or _STEPS
            with said_of(stage):
                cases.append((stage, _trained(course, stage, wanted, seed, memory, progress)))
    progress("judging")
    to_judge = [(stage, settled(case, stage.spec, select=select, ignore=ignore)) for stage, case in cases]
    verdict = judged(to_judge, select=select, ignore=ignore)
    skipped = (*verdict.skipped, *_not_put_back(ground.lost))
    path, files, made_at = spec.path if spec else None, course.subject.files, subject.made_at
    case = cases[-1][1]
    return Report("verify", subject.target, path, case, verdict.findings, skipped, fail_on, verdict.ran, files, made_at)


def _not_put_back(lost: Sequence[str]) -> tuple[Skipped, ...]:
    """Say which tensors were written behind torch's back, so that no copy was there to put back."""
    if not lost:
        return ()
    named = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
    why = "written without torch seeing it (numpy, a compiled kernel): build the model anew before you train it"
    return (Skipped(f"putting back {named}", why),)


def _trained(
    course: Course, stage: Stage, steps: int, seed: int, memory: bool, progress: Callable[[str], None]
) -> Case:
    """One stage: enter it, train its steps, and put what was seen into a table."""
    from .probe.describe import anatomy
    from .probe.memory import saved_bytes
    from .probe.step import observe

    course.enter(stage)
    subject = course.subject
    body = anatomy(subject.model, course.gradient_before)
    plan = match(stage.spec, body.description)
    course.look(stage, body, plan)
    seen = observe(subject, body, plan, course.ground, steps=steps, seed=seed, progress=progress)
    if memory:
        progress("measuring what each layer keeps for the backward pass")
        course.ground.doubt()
        seen = replace(seen, saved_bytes=saved_bytes(subject, body, seed))
    case = assemble(body.description, plan, course.completed(body, plan, seen), subject.files)
    return course.table(told_of(case, stage.spec))


def _unsized(case: Case) -> Iterator[Skipped]:
    """Say which tensors have no size yet."""
    names = [fact.name for fact in case.facts if not fact.tensor.shape and not fact.tensor.numel]
    if not names:
        return
    one = len(names) == 1
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    what = f"the size of {shown}" if one else f"the sizes of {len(names):,} tensors ({shown})"
    why = f"{'it is' if one else 'they are'} not known before the first forward of {'its' if one else 'their'} lazy "
    why += f"layer{'' if one else 's'}: {'it counts' if one else 'they count'} as 0"
    yield Skipped(what + (", and the counts under [expect]" if case.plan.counts else ""), why)


@contextmanager
def _meta_told(subject: Subject) -> Iterator[None]:
    """Say what to do about a model that its own code builds on the meta device: nobody gave an option to leave out."""
    try:
        yield
    except ProbeError as error:
        said = error.message.lower()
        if subject.device is None and "meta" in said and any(p.is_meta for p in subject.model.parameters()):
            apart = "expected" in said  # … all tensors on the same device; it is not on the expected device
            error.hint = _BUILT_ON_META if not apart else _ADD_META if subject.asking is COMMAND_LINE else _GIVE_META
        raise


def report_subject(subject: Subject, spec: Spec | None = None) -> Report:
    """Describe and match only. Judges nothing but the spec itself, and leaves out only what the spec ignores."""
    from .probe.describe import describe

    description = describe(subject.model)
    case = told_of(assemble(description, match(spec, description), files=subject.files), spec)
    unsized = tuple(_unsized(case))
    if spec is None:
        return Report("report", subject.target, None, case, skipped=unsized, files=subject.files)
    findings, skipped = judge(case, select=_OF_THE_SPEC, ignore=spec.ignore)
    left_out = (*unsized, *(item for item in skipped if any(code.startswith(_OF_THE_SPEC) for code in item.codes)))
    ran = codes_run(case, select=_OF_THE_SPEC, ignore=spec.ignore)
    return Report("report", subject.target, spec.path, case, findings, skipped=left_out, ran=ran, files=subject.files)
