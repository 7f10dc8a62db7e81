r"""Settling: the one loop that every phase runs.

Free and nudged phases iterate the same map, ``state <- step(state, drive, force)``, a fixed number of times or until the
largest change of any unit falls to a tolerance. What one step is, all populations at once or a sweep over groups of them, is the
schedule's to say; from where the next one sets out, if not from where the last one led, an acceleration's. How far the result is
from a steady state is a part of the result, the residual ``max |s_T - s_{T-1}|`` of each sample, and not an error; only numbers
that are not finite are one.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import chain, islice

import torch
from torch import Tensor

from eqprop._core.checks import instance, positive, positive_int
from eqprop._core.fields import LATER
from eqprop._core.precision import full_precision
from eqprop._core.state import State, Units, repeat
from eqprop.dynamics.base import Dynamics, Force
from eqprop.network import Activities, Drive, Network
from eqprop.solvers.anderson import Anderson
from eqprop.solvers.schedules import Schedule, Synchronous

__all__ = ["AT_REST", "Settle", "Solution", "settle"]


@dataclass(frozen=True)
class Settle:
    """How long to settle.

    Args:
        steps: number of steps; the largest number where there is a tolerance.
        tol: stop once no unit of any sample moved by more than this in the last step; None never stops early.
        schedule: in which order the populations move: `Synchronous` or `Asynchronous`, where a step is a sweep over all of them.
        average: number of last steps over which the solution's activity and output are averaged: for states that keep moving
            about their mean, as those of spiking networks do. Needs a fixed number of steps.
        accelerate: `Anderson`, which mixes the last states so that fewer steps are needed; None takes plain steps.
        check_every: with a tolerance, steps between two looks at it: each look makes the host wait for the device.

    Raises:
        ValueError: if ``steps``, ``average`` or ``check_every`` is not a positive whole number, ``tol`` not a finite number above
            0, ``schedule`` no schedule, ``accelerate`` no acceleration, or more steps are averaged than are sure to be taken, or
            such as are accelerated.

    >>> Settle(100, tol=1e-4)
    Settle(steps=100, tol=0.0001, schedule=Synchronous(), average=1, accelerate=None, check_every=5)
    """

    steps: int
    tol: float | None = None
    schedule: Schedule = field(default=Synchronous(), metadata={LATER: True})
    average: int = field(default=1, kw_only=True, metadata={LATER: True})
    accelerate: Anderson | None = field(default=None, kw_only=True, metadata={LATER: True})
    check_every: int = field(default=5, kw_only=True)

    def __post_init__(self) -> None:
        positive_int("steps", self.steps)
        positive_int("check_every", self.check_every)
        if self.tol is not None:
            positive("tol", self.tol)
        instance("schedule", self.schedule, Schedule)
        if self.accelerate is not None:
            instance("accelerate", self.accelerate, Anderson)
        if positive_int("average", self.average) > (self.steps if self.tol is None else 1):
            reason = (
                f"only {self.steps} steps are taken: average fewer"
                if self.tol is None
                else "with a tolerance nobody knows which are the last: leave `tol` out"
            )
            raise ValueError(f"`average` is {self.average}, but {reason}")
        if self.average > 1 and self.accelerate is not None:
            raise ValueError(
                f"`average` is {self.average}, but accelerated states have no mean: leave one of the two out"
            )

    def should_stop(self, taken: int, before: Units, after: Units) -> bool:
        """Whether it is time to look after ``taken`` steps, and the last one met the tolerance."""
        if self.tol is None or taken % self.check_every:
            return False
        return bool(residual(before, after).max() <= self.tol)

    def shortened(self, n: int) -> "Settle":
        """The same choice with ``n`` steps fewer, and no average: its end is no end of the phase."""
        return replace(self, steps=self.steps - n, average=1)

    def plain_steps(self, n: int) -> "Settle":
        """``n`` plain steps of the same schedule, without a tolerance."""
        return replace(self, steps=n, tol=None, average=min(n, self.average), accelerate=None)

    def admit(self, network: Network, dynamics: Dynamics) -> None:
        """Refuse a network or dynamics that the schedule cannot move, or the acceleration not mix.

        Raises:
            ValueError: if there is a reason.
        """
        self.schedule.admit(network, dynamics)
        if self.accelerate is not None:
            self.accelerate.admit(dynamics)

    def path(
        self, network: Network, dynamics: Dynamics, drive: Drive, state: State, force: Force | None = None
    ) -> Iterator[tuple[Units, State]]:
        """The units that each step sets out from, and where it leads, without end; arguments as of `Dynamics.step`.

        Raises:
            ValueError: as `admit`, before anything is computed.
        """
        self.admit(network, dynamics)
        if self.accelerate is None:
            return plain(dynamics, state, self.schedule.states(network, dynamics, drive, state, force))
        step = self.schedule.map(network, dynamics, drive, force)
        return self.accelerate.path(step, state, lambda mixed: dynamics.project(network, mixed))


AT_REST = Settle(1000, tol=1e-6)
"""After which a rate network counts as settled."""


def plain(dynamics: Dynamics, state: State, states: Iterator[State]) -> Iterator[tuple[Units, State]]:
    """Each state with the units of the one before it; what else that held may go as the next step begins."""
    for after in states:
        before, state = dynamics.units(state), after
        yield before, after


def as_settle(name: str, steps: "int | Settle") -> Settle:
    """A `Settle` of that many steps, or the object itself; ``name`` is the argument's, for the error."""
    return steps if isinstance(steps, Settle) else Settle(positive_int(name, steps))


@dataclass(frozen=True, eq=False)
class Solution:
    """Where a phase ended.

    Attributes:
        state: what the next phase starts from.
        activity: activities of the relaxing populations, ``(B, *shape)`` each; averaged over the last steps on request.
        output: the output population, as costs read it, ``(B, *shape)``; averaged likewise.
        residual: ``max |s_T - s_{T-1}|`` over all units, of the last step alone, ``(B,)``; of an accelerated phase
            ``max |F(z) - z|`` of the step that led to the state.
        steps: number of steps taken.
        trajectory: states 0 to T on request, else None.
    """

    state: State
    activity: Activities
    output: Tensor
    residual: Tensor
    steps: int
    trajectory: tuple[State, ...] | None = None


def init_phase(network: Network, dynamics: Dynamics, x: Tensor) -> tuple[Drive, State]:
    """What every free phase begins with: the drive of the input, checked, and the first state.

    Raises:
        ValueError: if ``x`` does not fit the network.
    """
    x = network.check_input(x)
    return dynamics.prepare(network, x), dynamics.init(network, x)


def settle(
    network: Network,
    dynamics: Dynamics,
    drive: Drive,
    state: State,
    steps: Settle,
    *,
    force: Force | None = None,
    trajectory: bool = False,
    on_step: Callable[[State], object] | None = None,
    copies: int = 1,
) -> Solution:
    """Iterate the dynamics from ``state``.

    Args:
        network: the network.
        dynamics: its dynamics.
        drive: of ``dynamics.prepare``, for the input and the present weights.
        state: where to start; not written to.
        steps: for how long.
        force: on the output population; None in a free phase.
        trajectory: keep every state.
        see: is shown the state after every step, for what a solution does not keep.
        copies: so many phases side by side, of ``drive`` and ``force`` as many samples; each starts from all of ``state``.

    Raises:
        ValueError: if the schedule cannot move this network by these dynamics, or the acceleration not mix its states.
        FloatingPointError: if the input, a weight or a state is not finite; names the population and the step.
    """
    first, taken = state, 0
    state = repeat_state(first, copies)
    states = [state] if trajectory else []
    late, sums = steps.steps - steps.average, None
    before = dynamics.units(state)
    path = steps.path(network, dynamics, drive, state, force)
    with full_precision(drive.input):
        for taken, (before, state) in enumerate(islice(path, steps.steps), start=1):
            if trajectory:
                states.append(state)
            if on_step is not None:
                on_step(state)
            if steps.average > 1 and taken > late:
                seen = observables(network, dynamics, state)
                sums = seen if sums is None else [total + part for total, part in zip(sums, seen, strict=True)]
            if steps.should_stop(taken, before, dynamics.units(state)):
                break
    change = residual(before, dynamics.units(state))
    if not finite(change, drive.input):
        state = repeat_state(first, copies)
        again = islice(steps.path(network, dynamics, drive, state, force), taken)
        with full_precision(drive.input):
            replay = chain([dynamics.units(state)], (dynamics.units(led) for _, led in again))
            raise locate_non_finite(network, drive, replay, "free" if force is None else "nudged")
    last = observables(network, dynamics, state) if sums is None else [total / steps.average for total in sums]
    return Solution(state, tuple(last[:-1]), last[-1], change, taken, tuple(states) if trajectory else None)


def repeat_state(state: State, copies: int) -> State:
    """The state of so many phases, which nobody else needs to hold while they go on."""
    return state if copies == 1 else repeat(state, copies)


def observables(network: Network, dynamics: Dynamics, state: State) -> list[Tensor]:
    """What a phase is run for: the activities, and the output as costs read it."""
    return [*dynamics.activity(network, state), dynamics.units(state)[-1]]


@torch.no_grad()
def residual(before: Units, after: Units) -> Tensor:
    """``max |after - before|`` over all units of each sample: ``(B,)``."""
    changes = [torch.sub(b, a).abs_().flatten(1).amax(1) for a, b in zip(before, after, strict=True)]
    return reduce(torch.maximum, changes)


def finite(*tensors: Tensor) -> bool:
    """Whether no element of any is infinite or NaN. Their sum tells, at one wait for the device, unless it overflows."""
    with torch.no_grad():
        total = sum((t.sum() for t in tensors[1:]), tensors[0].sum())
        return math.isfinite(total) or all(bool(torch.isfinite(t).all()) for t in tensors)


@torch.no_grad()
def locate_non_finite(network: Network, drive: Drive, states: Iterable[Units], phase: str) -> FloatingPointError:
    """Say where a phase went wrong, whose states are computed once more."""
    if not torch.isfinite(drive.input).all():
        bad = (~torch.isfinite(drive.input)).flatten(1).any(1)
        return FloatingPointError(
            f"the input (population 0) is not finite in {int(bad.sum())} of {len(bad)} samples, "
            f"the first at index {int(bad.nonzero()[0])}: clean the data"
        )
    for name, parameter in network.named_parameters():
        if not torch.isfinite(parameter).all():
            return FloatingPointError(f"parameter {name} is not finite: the training diverged; lower the learning rate")
    t = 0
    for t, state in enumerate(states):
        for n, s in enumerate(state, start=1):
            if not torch.isfinite(s).all():
                return FloatingPointError(
                    f"population {n} is not finite at step {t} of the {phase} phase: "
                    "look at the state it started from, the targets, and the size of weights and beta"
                )
    return FloatingPointError(f"a population is not finite after {t} steps of the {phase} phase")
