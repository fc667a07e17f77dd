"""The promise that a check leaves no trace: everything is recorded before it and put back, in place, after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from ..errors import ProbeError
from .belongings import Belongings, Contents, Empties, Record, global_hooks
from .held import Content, Held, compared, copy_all
from .lending import Loans
from .pages import Pages
from .raw import is_plain
from .switches import generators, switches


class Ground:
    """The model as it was when the check began: what moved since, and whose gradient lay where.

    Copied at once: what requires grad, registered buffers, optimizer state, and whatever is small. Everything else has
    a fingerprint, and is copied by `keep` just before it is written.
    """

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._without_attributes = Empties("attributes of tensors that had none")
        self._records: list[Record] = [self._without_attributes]
        self._generators: list[Record] = []
        self._loans = Loans()
        self._pages = Pages()
        self._looked: dict[int, tuple[bool, float]] = {}
        """What `look` found, by identity of the tensor."""
        self._grown = False
        """Tensors were met later, and may lie in the memory of earlier ones."""

    # ------------------------------------------------------------ what the probe asks and tells

    def keep(self, tensor: Tensor) -> None:
        """Copy a tensor's content now, unless it was kept; call it before anything writes to the tensor."""
        held = self._held.get(id(tensor))
        if held is not None:
            self._keep(held)

    def _keep(self, held: Held) -> None:
        held.content.keep()
        held.base.keep()

    def gradient_before(self, param: Tensor) -> Tensor | None:
        """Return the user's own gradient of a tensor, set aside for the time of the check. Never write to it."""
        held = self._held.get(id(param))
        return held.grad if held is not None else None

    def change(self, tensor: Tensor, now: Tensor | None = None) -> tuple[bool, float | None]:
        """Return whether any byte of a tensor changed since the last `settle`, and its largest absolute change.

        `now` is the tensor that stands in its place, when the model replaced it by another. The change is None where
        the tensor moved and no copy had been kept, and where the tensor is none that was recorded.
        """
        seen = self._looked.get(id(tensor)) if now is None or now is tensor else None
        if seen is not None:
            return seen
        held = self._held.get(id(tensor))
        if held is None:
            return False, None
        now = tensor if now is None else now
        if is_plain(now):  # as nearly all are, and there are many
            return held.base.change(now)
        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
            return held.base.change(now)

    def look(self) -> None:
        """Compare small tensors, of which there are many, all at once; `change` tells what was found until `doubt`."""
        if self._looked:
            return
        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
            found = compared(held.base for held in self._held.values())
            for held in self._held.values():
                seen = found.get(id(held.base))
                if seen is not None and held.base.lies_in(held.tensor):
                    self._looked[id(held.tensor)] = seen
                    held.base.stands = not seen[0]

    def doubt(self) -> None:
        """Call it before more of the user's code runs: what was found to be as it was may be written yet."""
        self._looked.clear()
        for held in self._held.values():
            held.content.asked = held.content.stands = False

    def before(self, tensor: Tensor) -> Tensor | None:
        """Return the content that `change` compares with; None where no copy was kept. Never write to it."""
        held = self._held.get(id(tensor))
        return held.base.copy if held is not None else None

    def settle(self, model: nn.Module | None = None) -> None:
        """Measure change from here on: after lazy layers came to life, and at the start of each further phase.

        What requires grad by now is copied, and what `model` has got since (a new head) is watched too. What is put
        back at the end stays what it was when the check began.
        """
        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
            known = set(self._held)
            if model is not None:
                for name, parameter in model.named_parameters():
                    self._hold(name, parameter, state=False)
                for name, buffer in model.named_buffers():
                    self._hold(name, buffer, state=True)
            self._grown |= len(known) < len(self._held)
            self._take([(held, held.content) for key, held in self._held.items() if key not in known])
            for held in self._held.values():
                if held.tensor.requires_grad and held.leaf:
                    self._keep(held)
            watched = [held for held in self._held.values() if not held.lent]
            fresh = [held for held in watched if held.base.empty or held.base.change(held.tensor)[0]]
            self.doubt()
            for held in fresh:
                held.base = Content(held.tensor.data)
            self._take([(held, held.base) for held in fresh])

    @property
    def tensors(self) -> list[Tensor]:
        """All that was recorded: the model's own tensors, those in its attributes, and the optimizers' memory."""
        return [held.tensor for held in self._held.values()]

    @property
    def lazy(self) -> bool:
        """Whether a tensor of the model waits for a first forward to have a shape."""
        return any(is_lazy(held.tensor) for held in self._held.values())

    @property
    def lost(self) -> list[str]:
        """Names of the tensors that were written behind torch's back, so that they cannot be put back."""
        return [held.name for held in self._held.values() if held.content.lost]

    # ------------------------------------------------------------ entry

    def record(self, model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
        """Record everything, then set the gradients aside."""
        self._generators += generators()
        self._records += switches()
        self._records += global_hooks()
        belongings = Belongings(self._records, self._hold)
        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
            belongings.walk("", model)
            for index, optimizer in enumerate(optimizers):
                belongings.walk(f"optimizers[{index}]", optimizer)
        self._take([(held, held.content) for held in self._held.values()])
        for optimizer in optimizers:
            if type(optimizer).__module__.startswith("torch.optim"):
                self._lend_state(optimizer)
        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
            for held in self._held.values():
                held.set_gradient_aside()
                held.lend(self._loans)

    def _lend_state(self, optimizer: Optimizer) -> None:
        """Give an optimizer the copies of its state to write to, so that nothing is written to the state itself.

        Only one of torch's own: those look their tensors up in `state` at every step and keep them nowhere else. Its
        dicts are recorded, and get their own tensors back.
        """
        lent: dict[int, Tensor | None] = {}
        for state in optimizer.state.values():
            for key, value in list(state.items()) if type(state) is dict else ():
                held = self._held.get(id(value)) if type(value) is Tensor else None
                if held is None or not held.state:
                    continue
                if id(value) not in lent:
                    lent[id(value)] = held.content.copy_to_write()
                copy = lent[id(value)]
                if copy is not None:
                    state[key], held.lent = copy, True

    def _hold(self, name: str, tensor: Tensor, state: bool) -> None:
        held = self._held.get(id(tensor))
        if held is not None:
            held.state |= state
            return
        held = self._held[id(tensor)] = Held(name, tensor, state)
        if held.attributes:
            self._records.append(Contents(f"the attributes of {name}", held.attributes))
        elif held.attributes is not None:
            self._without_attributes.add(held.attributes)
        self._records += [Contents(f"the hooks of {name}", hooks) for hooks in held.hooks]

    def _take(self, contents: list[tuple[Held, Content]]) -> None:
        """Copy or fingerprint contents, as each tensor asks."""
        copy_all((content for held, content in contents if held.wants_copy), self._pages)
        for _, content in contents:
            content.mark()

    # ------------------------------------------------------------ exit

    def restore(self) -> list[str]:
        """Put everything back and return what could not be, each with the reason.

        One failure does not stop the rest. Raises an interruption (Ctrl-C) that came meanwhile when all is done.
        """
        failures: list[str] = []
        interrupted: BaseException | None = None
        # The last met first: a parameter that a phase put in another's place may lie in the same memory.
        held = reversed(self._held.values())
        if self._grown:
            self.doubt()
        everything: Iterator[Record] = chain(self._records, held, [self._loans], self._generators)
        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
            for record in everything:
                try:
                    record.restore()
                except Exception as error:
                    failures.append(f"{record.what}: {error}")
                except BaseException as error:
                    interrupted = error
                    record.restore()
        if interrupted is not None:
            raise interrupted
        return failures

    def let_go(self) -> None:
        """Drop all copies, when nothing will be asked or put back any more."""
        for held in self._held.values():
            held.content.let_go()
            held.base.let_go()
        self._pages.hand_on()


@contextmanager
def untouched(model: nn.Module, optimizers: Sequence[Optimizer] = ()) -> Iterator[Ground]:
    """Let the body train, patch and break `model`; whatever happens, put everything back in place afterwards.

    That is: parameters, buffers, gradients, flags, hooks, modes, attributes and their builtin containers, optimizer
    state and groups, random number generators, torch's global switches; also for what hides in plain lists of a
    module. The same objects are there again, in the same storages, bit for bit. Tensors written behind torch's back
    are in `Ground.lost`. In the body gradients are enabled, also inside the caller's `no_grad` or `inference_mode`.

    Raises ProbeError when something could not be put back; when the body raised, that goes on, with a note instead.
    """
    ground = Ground()
    with torch.inference_mode(False), torch.enable_grad():
        try:
            ground.record(model, optimizers)
            yield ground
        except BaseException as error:
            failures = ground.restore()
            failures += [f"{name}: written without torch seeing it" for name in ground.lost]
            if failures:
                error.add_note(_sentence(failures))
            raise
        failures = ground.restore()
    ground.let_go()
    if failures:
        raise ProbeError(_sentence(failures), hint="build the model anew before you train it")


def _sentence(failures: list[str]) -> str:
    return "freezecheck could not put back what the check changed:\n" + "\n".join(f"  {line}" for line in failures)
