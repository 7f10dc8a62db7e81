r"""Settling: the loop that every phase runs.

Free and nudged phases iterate one map, ``state <- F(state)``, for a fixed number of steps or until the largest change of any unit
falls to a tolerance. The schedule defines F: a step of all populations, or a sweep over groups of them. An acceleration chooses
where F is evaluated next. The distance from a steady state is part of the result, not an error: the residual
``max |s_T - s_{T-1}|`` of each sample. Only values that are not finite raise.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import chain

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError, instance, positive, positive_int
from eqprop._core.fields import LATER
from eqprop._core.precision import full_precision
from eqprop._core.state import State, Units, repeat
from eqprop.dynamics.base import Dynamics
from eqprop.network import Activities, Network
from eqprop.solvers.anderson import Anderson
from eqprop.solvers.phase import Phase, StepFunction
from eqprop.solvers.schedules import Schedule, Synchronous

__all__ = ["AT_REST", "Settle", "Solution", "settle"]


@dataclass(frozen=True)
class Settle:
    """How a phase settles.

    Args:
        steps: number of steps; the maximum where there is a tolerance.
        tol: stop when no unit of any sample moved by more than this in the last step; None never stops early.
        schedule: the order in which populations are updated: `Synchronous`, or `Asynchronous`, where a step is a sweep.
        average: number of last steps over which the solution's activity and output are averaged. For states that fluctuate
            around their mean, as those of spiking networks. Needs a fixed number of steps.
        accelerate: `Anderson`, which mixes recent states so that fewer steps are needed; None takes plain steps.
        check_every: with a tolerance, number of steps between checks; each check makes the host wait for the device.

    Raises:
        ValueError: if ``steps``, ``average`` or ``check_every`` is not a positive whole number, ``tol`` is not a finite number
            above 0, ``schedule`` or ``accelerate`` is of another class, or ``average`` is larger than ``steps`` or combined
            with ``tol`` or ``accelerate``.

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
        if positive_int("average", self.average) == 1:
            return
        if self.tol is not None:
            raise ArgumentError("average", "`average` needs a fixed number of steps: leave `tol` out")
        if self.average > self.steps:
            raise ArgumentError(
                "average", f"`average` is {self.average}, but only {self.steps} steps are taken: average fewer"
            )
        if self.accelerate is not None:
            raise ArgumentError("average", "`average` does not apply to accelerated steps: leave `accelerate` out")

    def should_stop(self, taken: int, before: Units, after: Units) -> bool:
        """Return whether the tolerance is to be checked after ``taken`` steps and the last one met it."""
        if self.tol is None or taken % self.check_every:
            return False
        return bool(residual(before, after).max() <= self.tol)

    def shortened(self, n: int) -> "Settle":
        """Return these settings with ``n`` steps fewer and no average, for the first part of a phase."""
        return replace(self, steps=self.steps - n, average=1)

    def plain_steps(self, n: int) -> "Settle":
        """Return settings for exactly ``n`` steps of the same schedule, without tolerance and acceleration."""
        return replace(self, steps=n, tol=None, average=min(n, self.average), accelerate=None)

    def check_dynamics(self, network: Network, dynamics: Dynamics) -> None:
        """Check that the schedule and the acceleration apply to a network and its dynamics.

        Raises:
            ValueError: if they do not.
        """
        self.schedule.check_dynamics(network, dynamics)
        if self.accelerate is not None:
            self.accelerate.check_dynamics(dynamics)

    def iterate(
        self,
        step: StepFunction,
        state: State,
        units: Callable[[State], Units] = lambda state: state,
        project: Callable[[State], State] = lambda state: state,
    ) -> Iterator[tuple[Units, State]]:
        """Yield, for each step taken, the units it was evaluated at and the state it led to.

        Args:
            step: the map F, such as ``schedule.transform(phase)``.
            state: where to start; not modified.
            units: the part of a state that the tolerance is about.
            project: puts an accelerated state back within its bounds.
        """
        accelerated = None if self.accelerate is None else self.accelerate.iterate(step, state, project, self.steps)
        for taken in range(1, self.steps + 1):
            # The full state of two steps ago is no longer referenced here, so the next step can reuse its memory.
            before, state = (units(state), step(state)) if accelerated is None else next(accelerated)
            yield before, state
            if self.should_stop(taken, before, units(state)):
                return


AT_REST = Settle(1000, tol=1e-6)
"""Settings after which a rate network counts as settled."""


def as_settle(name: str, steps: "int | Settle") -> Settle:
    """Return `Settle` for a number of steps, and a `Settle` as it is; ``name`` is the argument's, for the error."""
    return steps if isinstance(steps, Settle) else Settle(positive_int(name, steps))


@dataclass(frozen=True, eq=False)
class Solution:
    """The end of a phase.

    Attributes:
        state: the last state, from which the next phase starts.
        activity: activities of the relaxing populations, ``(B, *shape)`` each; averaged over the last steps on request.
        output: units of the output population, which costs read, ``(B, *shape)``; averaged likewise.
        residual: ``max |s_T - s_{T-1}|`` over all units, of the last step, ``(B,)``; of an accelerated phase
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


def settle(
    phase: Phase,
    state: State,
    steps: Settle,
    *,
    trajectory: bool = False,
    on_step: Callable[[State], object] | None = None,
    copies: int = 1,
) -> Solution:
    """Run one phase from ``state``.

    Args:
        phase: what is iterated; its drive must be that of the present weights.
        state: where to start; not modified.
        steps: for how long, and how.
        trajectory: keep every state in the solution.
        on_step: called with the state after every step, for what a solution does not keep.
        copies: number of phases in the batch of ``phase``, each of which starts from all of ``state``.

    Raises:
        ValueError: if the schedule or the acceleration does not apply to the dynamics.
        FloatingPointError: if the input, a weight or a state is not finite; names the population and the step.
    """
    steps.check_dynamics(phase.network, phase.dynamics)
    first, taken = state, 0
    state = _repeat_state(first, copies)
    states = [state] if trajectory else []
    late, sums = steps.steps - steps.average, None
    before = phase.units(state)
    iterates = steps.iterate(steps.schedule.transform(phase), state, phase.units, phase.project)
    with full_precision(phase.drive.input):
        for taken, (before, state) in enumerate(iterates, start=1):  # noqa: B007 - `before` is read after the loop
            if trajectory:
                states.append(state)
            if on_step is not None:
                on_step(state)
            if steps.average > 1 and taken > late:
                parts = _observables(phase, state)
                sums = parts if sums is None else [total + part for total, part in zip(sums, parts, strict=True)]
    change = residual(before, phase.units(state))
    if not finite(change, phase.drive.input):
        with full_precision(phase.drive.input):
            raise _locate_non_finite(phase, _repeat_state(first, copies), steps)
    last = _observables(phase, state) if sums is None else [total / steps.average for total in sums]
    return Solution(state, tuple(last[:-1]), last[-1], change, taken, tuple(states) if trajectory else None)


def _repeat_state(state: State, copies: int) -> State:
    return state if copies == 1 else repeat(state, copies)


def _observables(phase: Phase, state: State) -> list[Tensor]:
    """Return what a solution reports: the activities, and the output as costs read it."""
    return [*phase.activity(state), phase.units(state)[-1]]


@torch.no_grad()
def residual(before: Units, after: Units) -> Tensor:
    """Return ``max |after - before|`` over all units of each sample: ``(B,)``."""
    changes = [torch.sub(b, a).abs_().flatten(1).amax(1) for a, b in zip(before, after, strict=True)]
    return reduce(torch.maximum, changes)


def finite(*tensors: Tensor) -> bool:
    """Return whether no element of any tensor is infinite or NaN.

    One wait for the device: the sum of all elements is finite if they all are, unless it overflows.
    """
    with torch.no_grad():
        total = sum((t.sum() for t in tensors[1:]), tensors[0].sum())
        return math.isfinite(total) or all(bool(torch.isfinite(t).all()) for t in tensors)


@torch.no_grad()
def _locate_non_finite(phase: Phase, state: State, steps: Settle) -> FloatingPointError:
    """Run a phase again, and return an error that names the first population, parameter or input that is not finite."""
    x = phase.drive.input
    if not torch.isfinite(x).all():
        bad = (~torch.isfinite(x)).flatten(1).any(1)
        return FloatingPointError(
            f"the input (population 0) is not finite in {int(bad.sum())} of {len(bad)} samples, "
            f"the first at index {int(bad.nonzero()[0])}: clean the data"
        )
    for name, parameter in phase.network.named_parameters():
        if not torch.isfinite(parameter).all():
            return FloatingPointError(f"parameter {name} is not finite: the training diverged; lower the learning rate")
    t, kind = 0, "free" if phase.force is None else "nudged"
    iterates = steps.iterate(steps.schedule.transform(phase), state, phase.units, phase.project)
    for t, units in enumerate(chain([phase.units(state)], (phase.units(after) for _, after in iterates))):
        for n, s in enumerate(units, start=1):
            if not torch.isfinite(s).all():
                return FloatingPointError(
                    f"population {n} is not finite at step {t} of the {kind} phase: "
                    "check the state it started from, the targets, and the size of weights and beta"
                )
    return FloatingPointError(f"a population is not finite after {t} steps of the {kind} phase")
