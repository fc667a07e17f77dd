"""One model under watch: what it was when a stretch of steps began, and what those steps did to it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import SpecError
from ..probe.describe import anatomy, strays_on
from ..probe.evidence import Evidence
from ..probe.flag_lines import standing
from ..probe.held import Content, copy_all
from ..probe.made_at import lines_of
from ..probe.members import empty_groups, groups_of, hooks_on, memberships
from ..probe.update import lost_update
from ..records import (
    Conditions,
    Description,
    Expected,
    Foreign,
    Gradient,
    Location,
    Membership,
    Need,
    Observation,
    Plan,
    Tensor,
    Update,
    Write,
)
from ..spec.match import match
from .pretrained import Pretrained
from .ranks import Table
from .taken import Taken

if TYPE_CHECKING:
    from ..spec import Spec
    from .flags import Flags

_SMALL = 2**18
"""Bytes up to which a tensor is copied, so that it can be told by how much it moved."""


class Watched:
    """A root model of the training. A stretch is the steps since the flags last came to agree with the spec."""

    def __init__(self, name: str, root: nn.Module, model: nn.Module, spec: Spec | None) -> None:
        """`root` is what the training calls, `model` the part of it that the spec is about."""
        self.waiting = False
        """Nothing was run yet, and whatever happens before the first forward (a move to a device) is set-up."""
        self.name, self.root, self.model, self.spec = name, root, model, spec
        self.variable = name
        """What the script calls it, where the name had to be another one because that was taken."""
        self.steps: dict[int, int] = {}
        """By optimizer, the steps it made in this stretch."""
        self.begin()

    def begin(self) -> None:
        """Begin a stretch: describe the model, and remember what every tensor holds."""
        self.body = anatomy(self.model)
        try:
            self.plan: Plan = match(self.spec, self.body.description)
        except SpecError:  # the spec may be another model's; if it is this one's, the report raises it
            self.plan = match(None, self.body.description)
        self.names = {id(t): name for name, t in self.body.tensors.items()}
        self.parameters: dict[str, Any] = self.body.parameters
        self._parts = {id(module) for module in self.root.modules()}
        self.owned = {*self.names, *(id(t) for t in self.root.parameters())}
        """Identities of the tensors that belong to the root, also of those outside the model."""
        self.traced = True
        """Whether every forward of the stretch was followed."""
        self.evidence = Evidence(self.parameters, self.names, self.body.modules)
        self.flags = {name: p.requires_grad for name, p in self.parameters.items()}
        self._first_flags = dict(self.flags)
        self.trained: dict[str, bool] = {}
        """Whether a parameter required grad in any step."""
        self.stepped_with: dict[str, Gradient] = {}
        """The strongest gradient that a step found."""
        self.taken = Taken(self.parameters)
        self.pretrained = Pretrained()
        self._left = {n: (p.grad, p.grad._version) for n, p in self.parameters.items() if p.grad is not None}
        """The gradients that were there before, and their versions; of those that a step found gone, no more."""
        self.modes: dict[str, bool] = {}
        self._trained_beside: set[str] = set()
        """Layers with statistics that ran in train mode in a forward without gradients, as a validation has them."""
        self.members: dict[str, tuple[Membership, ...]] = {}
        self.foreign: dict[int, tuple[Foreign, torch.Tensor]] = {}
        self.moved: dict[str, tuple[bool, float | None]] = {}
        self.updates: dict[str, Update] = {}
        self.steps.clear()
        self._contents = {name: Content(t.data) for name, t in self.body.tensors.items()}
        self._devices = {name: t.device for name, t in self.body.tensors.items()}
        """Where each was: a model that is offloaded in between is compared there."""
        self._remember(list(self._contents.values()))

    def _remember(self, contents: Sequence[Content]) -> None:
        """Copy what is small; a fingerprint of the rest costs no memory, which a training may have none left of."""
        copy_all(content for content in contents if content.nbytes <= _SMALL)
        for content in contents:
            content.mark()

    def holds(self, module: nn.Module) -> bool:
        """Whether a module is part of this model, or of what is around it."""
        return id(module) in self._parts

    def owns(self, tensors: Iterable[torch.Tensor]) -> bool:
        """Whether any of these tensors is a parameter of this model, or of what is around it."""
        return any(id(tensor) in self.owned for tensor in tensors)

    # ------------------------------------------------------------ events

    def forward_begins(self) -> None:
        """Note the modes; begin anew when layers were added, or flags have come closer to what is expected."""
        if self.waiting or self._changed_shape() or self._closer_to_the_spec():
            self.waiting = False
            self.begin()
        self.modes = {path: module.training for path, module in self.body.modules.items()}

    def forward_without_gradients(self, called: nn.Module) -> None:
        """Note the layers whose statistics a forward without gradients of this module moves."""
        run = {id(module) for module in called.modules()}
        for layer in self.body.description.layers if not self.waiting else ():
            module = self.body.modules[layer.name]
            if layer.statistics and module.training and id(module) in run:
                self._trained_beside.add(layer.name)

    def _changed_shape(self) -> bool:
        if self.evidence.sharded:  # whole and sharded parameters take turns under one name
            return False
        current = {id(p): p for p in self.model.parameters()}
        if not all(isinstance(p, nn.Parameter) for p in current.values()):  # others stand in for them for this call
            return False
        return current.keys() != {id(p) for p in self.parameters.values()}

    def _closer_to_the_spec(self) -> bool:
        """Whether a warm-up with other flags is over: flags changed, and all changes are what the spec says.

        Flags that go off and on again, as of the model that waits while another is stepped, are no warm-up.
        """
        changed = {n: p.requires_grad for n, p in self.parameters.items() if p.requires_grad != self.flags[n]}
        self.flags.update(changed)
        expected = self.plan.expected
        wanted = {n: expected.get(n) is Expected.TRAINABLE for n in changed}
        judged = all(expected.get(n) is not Expected.UNCHECKED for n in changed)
        news = any(self._first_flags[n] != flag for n, flag in changed.items())
        return news and judged and wanted == changed and bool(self.steps)

    def step_begins(
        self, index: int, optimizers: Sequence[Any], owned: set[int], writes: Mapping[int, Sequence[Write]]
    ) -> None:
        """Note flags, gradients and places just before an optimizer steps.

        `owned` are all watched models' tensors; `writes` what the loop wrote to, by identity.
        """
        if self._closer_to_the_spec():  # frozen between backward and step: what the step does is what counts
            modes = self.modes
            self.begin()
            self.modes = modes
        woken = {n: Content(t.data) for n, t in self.body.tensors.items() if self._contents[n].empty}
        woken = {n: content for n, content in woken.items() if not content.empty}
        if woken:  # lazy layers have their weights by now
            self._contents.update(woken)
            self._remember(list(woken.values()))
        for name, parameter in self.parameters.items():
            self.trained[name] = self.trained.get(name, False) or parameter.requires_grad
        self.taken.note_writes(writes)
        self._left = {name: left for name, left in self._left.items() if self.parameters[name].grad is not None}
        places, foreign = memberships(optimizers, self.names)
        held = {name: {m.optimizer for m in found} for name, found in places.items()}
        self._note_gradients({name for name in self.parameters if index in held.get(name, {index})})
        for name, found in places.items():
            before = {(m.optimizer, m.group): m for m in self.members.get(name, ())}
            self.members[name] = tuple(_stronger(before.get((m.optimizer, m.group)), m) for m in found)
        mine = any(m.optimizer == index for found in places.values() for m in found)
        strangers = [(one, tensor) for one, tensor in foreign if one.optimizer == index and id(tensor) not in owned]
        nobodys = all(id(tensor) not in owned for one, tensor in foreign if one.optimizer == index)
        for one, tensor in strangers if mine or nobodys else ():
            reached = tensor.grad is not None or id(tensor) in self.evidence.reached
            known = self.foreign.get(id(tensor))
            self.foreign[id(tensor)] = (
                replace(one, gradient=reached or (known is not None and known[0].gradient)),
                tensor,
            )

    def _note_gradients(self, mine: Container[str]) -> None:
        """Look at the gradients as an optimizer that holds `mine` finds them: a loop may have cleared some itself."""
        found: dict[str, Gradient] = {}
        for name, parameter in self.parameters.items():
            if parameter.requires_grad:
                seen = self.evidence.note_gradient(name, parameter.grad)
                if name in mine:
                    found[name] = seen
                    self.stepped_with[name] = self.stepped_with.get(name, Gradient.NONE).or_stronger(seen)
        none_left = not {Gradient.NONZERO, Gradient.NONFINITE} & set(found.values())
        for name, seen in found.items():
            frozen = self.plan.expected.get(name) is Expected.FROZEN
            zeroed = none_left or frozen or self.taken.rewritten(name)
            if seen is Gradient.NONE or (seen is Gradient.ZERO and zeroed):
                self.taken.note_away(name)
            self.taken.note_used(name)

    def moving(self) -> list[torch.Tensor]:
        """The tensors that are not expected frozen."""
        return [t for n, t in self.body.tensors.items() if self.plan.expected.get(n) is not Expected.FROZEN]

    @property
    def said(self) -> str:
        """Its name and its class, as an error lists it."""
        return f"{self.name} ({type(self.model).__name__})"

    @property
    def homeless(self) -> bool:
        """Whether it gets gradients and no optimizer holds any of it, but one steps that holds what nobody trains."""
        reached = any(seen is Gradient.NONZERO for seen in self.evidence.gradients.values())
        return reached and bool(self.foreign) and not any(self.members.values())

    def _gradients(self) -> dict[str, Gradient]:
        """The strongest gradients seen: those with which its optimizer stepped, unless the loop takes them away."""
        trained = (n for n in self.stepped_with if self.plan.expected.get(n) is not Expected.FROZEN)
        return {
            **self.evidence.gradients,
            **self.stepped_with,
            **self._kept(n for n in trained if n in self.taken.away),
        }

    def _kept(self, names: Iterable[str]) -> dict[str, Gradient]:
        return {name: self.evidence.gradients[name] for name in names}

    def _always_cleared(self) -> dict[str, Location | None]:
        """Parameters whose own optimizer never stepped with the gradient that a backward had given them."""
        gone = (n for n in self.taken.away if self.stepped_with[n] in (Gradient.NONE, Gradient.ZERO))
        return {n: self.taken.lines.get(n) for n in gone if self.evidence.gradients.get(n) is Gradient.NONZERO}

    def awaits(self, tensor: torch.Tensor) -> bool:
        """Whether a backward gave this parameter a gradient that no step has used."""
        return self.taken.awaits(self.names.get(id(tensor)))

    def cleared(self, tensor: torch.Tensor, location: Location | None) -> None:
        """Note that such a gradient is being taken away."""
        self.taken.lines[self.names[id(tensor)]] = location

    @property
    def follows(self) -> bool:
        """Whether its parameters move by a rule of the loop's own: the moving average of another model.

        Each that moved was written by the loop, not by the model's own forward; no optimizer holds any.
        """
        moved = [name for name, (changed, _) in self.moved.items() if changed and name in self.parameters]
        writes = self.evidence.writes
        by_the_loop = all(any(w.phase != "forward" for w in writes.get(name, ())) for name in moved)
        return bool(moved) and by_the_loop and not any(self.members.values())

    def step_ends(self, index: int) -> None:
        """Count a step."""
        self.steps[index] = self.steps.get(index, 0) + 1

    def measure(
        self, optimizers: Sequence[Any], stepped: Container[int], inherited: int = 0, late: Container[int] = ()
    ) -> None:
        """Compare every tensor with what it was when the stretch began, but for those written `late`, after all steps.

        A place in an optimizer that has made no step (it was made for a later stage) counts only where it is the only
        one of a tensor that trains; one in an optimizer that an earlier stage left behind (the first, `inherited`
        ones) does not count.
        """
        for name, places in self.members.items():
            now = tuple(m for m in places if m.optimizer in stepped)
            to_come = tuple(m for m in places if m.optimizer >= inherited)
            self.members[name] = now or (to_come if self.trained.get(name) else ())
        for name, tensor in self.body.tensors.items():
            if id(tensor) in late:
                continue
            current = self.body.now(name)
            data = tensor.data if current is None else current.data
            self.moved[name] = self._contents[name].change(data.to(self._devices[name]))
        for index, _, group in groups_of(optimizers):
            for tensor in group["params"]:
                name = self.names.get(id(tensor), "")
                still = name in self.moved and not self.moved[name][0]
                if still and self.evidence.gradients.get(name) is Gradient.NONZERO:
                    update = lost_update(optimizers[index], group, tensor)
                    if update is not None:
                        self.updates[name] = update

    # ------------------------------------------------------------ what was seen

    def description(self, put_in_eval: Container[nn.Module]) -> Description:
        """The model as the training had it: flags that any step saw on, and layers that somebody had put in eval."""
        tensors = tuple(self._as_trained(tensor) for tensor in self.body.description.tensors)
        asked = tuple(f"{path}." for path, module in self.body.modules.items() if path and module in put_in_eval)
        layers = tuple(
            replace(layer, training=not f"{layer.name}.".startswith(asked)) for layer in self.body.description.layers
        )
        return Description(tensors, layers, strays_on(self.body.modules, self.body.tensors))

    def _as_trained(self, tensor: Tensor) -> Tensor:
        flag = self.trained.get(tensor.name, tensor.requires_grad)
        stale = not self.steps or tensor.requires_grad or tensor.name in self._left
        had = tensor.had_gradient and stale and not self._untouched(tensor.name)
        if (flag, had) == (tensor.requires_grad, tensor.had_gradient):
            return tensor
        return replace(tensor, requires_grad=flag, had_gradient=had)

    def _untouched(self, name: str) -> bool:
        """Whether a gradient of earlier is in nobody's way: in no optimizer, and no clipping wrote to it."""
        before, version = self._left.get(name, (None, 0))
        left = before is not None and before is self.parameters[name].grad and before._version == version
        return left and not self.members.get(name)

    def observation(self, optimizers: Sequence[Any], flags: Flags, conditions: Conditions) -> Observation:
        """All that the stretch showed, in the records that the rules read."""
        seen = self.evidence
        hooked = hooks_on(self.parameters)
        return Observation(
            gradients=self._gradients(),
            gradient_max=seen.gradient_max,
            moved=self.moved,
            used=frozenset(seen.used) if self.traced and seen.loss is not None and not seen.sharded else None,
            cuts=seen.cuts,
            writes=seen.writes,
            updates=self.updates,
            woken=frozenset(seen.woken),
            cleared=self._always_cleared(),
            flipped=self._flipped(flags),
            flag_lines=standing(flags.lines(), self.parameters),
            gradient_hooks=frozenset(hooked),
            hooked_at={name: place for name, place in hooked.items() if place is not None},
            wasted=frozenset(seen.wasted),
            modes={**self.modes, **dict.fromkeys(self._trained_beside, True)},
            memberships=self.members,
            optimizers=tuple(type(o).__name__ for o in optimizers),
            optimizer_lines=lines_of(optimizers),
            empty_groups=empty_groups(optimizers),
            foreign=tuple(one for one, _ in self.foreign.values()),
            leaves=tuple(seen.leaves.values()),
            loss=seen.loss,
            pretrained=self.pretrained.changes,
            missing={} if self.pretrained.why is None else {Need.PRETRAINED: self.pretrained.why},
            conditions=replace(conditions, pretrained=self.pretrained.said, pretrained_notes=self.pretrained.notes),
            watched=True,
        )

    def _flipped(self, flags: Flags) -> dict[str, Location]:
        if self.spec is None:  # then the flags, however they come to be, are what is meant
            return {}
        found = {}
        for name, parameter in self.parameters.items():
            expected = self.plan.expected.get(name)
            wanted = expected is Expected.TRAINABLE
            if expected is Expected.UNCHECKED or self.trained.get(name, self.flags[name]) == wanted:
                continue
            location = flags.flipped(parameter, wanted)
            if location is not None:
                found[name] = location
        return found


def among(models: Sequence[Watched], name: str, root: nn.Module, model: nn.Module, spec: Spec | None) -> list[Watched]:
    """Models with one more, as the last; those that are part of it are no models of their own."""
    others = [one for one in models if not any(one.root is part for part in root.modules())]
    taken = {one.name for one in others}
    unique = next(n for n in (name, *(f"{name}{i}" for i in range(2, 1000))) if n not in taken)
    watched = Watched(unique, root, model, spec)
    watched.variable = name
    return [*others, watched]


def table_of(models: Sequence[Watched], optimizers: Sequence[Any]) -> Table:
    """What every rank of a distributed training must have the same: flags and places in the optimizers."""
    flags: dict[str, bool] = {}
    groups: dict[str, tuple[int, ...]] = {}
    for one in models:
        places, _ = memberships(optimizers, one.names)
        for name, parameter in one.parameters.items():
            said = name if len(models) == 1 else f"{one.name}.{name}"
            flags[said] = parameter.requires_grad
            groups[said] = tuple(m.group for m in places.get(name, ()))
    return Table(flags, groups)


def tensors_of(optimizer: Any) -> list[torch.Tensor]:
    """All that an optimizer holds."""
    return [tensor for group in optimizer.param_groups for tensor in group["params"]]


def _stronger(before: Membership | None, now: Membership) -> Membership:
    return now if before is None or now.lr >= before.lr else replace(now, lr=before.lr)
