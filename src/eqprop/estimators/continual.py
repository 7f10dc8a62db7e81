r"""Continual Equilibrium Propagation (Ernoult et al. 2020): states and weights move together in the nudged phase.

Every nudged step is followed by a step of the weights along the increment that it caused, so that a synapse needs only the present
activities and those of one step before (their section 3; C-EP),

    s_{t+1}      =  F(x, s_t, theta_t) - beta dC/ds(s_t)
    theta_{t+1}  =  theta_t + eta Delta_t,      Delta_t = (dPhi/dtheta(s_{t+1}) - dPhi/dtheta(s_t)) / beta,

and for untied weights, where there is no Phi, the displacement of post is paired with pre at the old time (section 4; C-VF),

    Delta_t  =  (s_{t+1} - s_t)_post x (s_t)_pre / beta.

Both are minus the gradient of `Network.contrast` between two successive states, with ``s_t`` as its free state. As eta -> 0 the
increments of tied weights sum to the estimate of EP, since the differences of Phi telescope.

    one-sided     Delta_t                                            along the trajectory at beta
    random-sign   the same with -beta in half of the batches
    centred       (Delta_t at beta + Delta_t at -beta) / 2           two trajectories on one theta_t, as one batch of 2B

The weights of a readout are not part of the relaxing system. They stay constant during the phase, so that the cost does not change,
and get their plain gradient at the free state once, with the last step of the phase.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from eqprop._core.checks import ArgumentError, positive_int
from eqprop._core.precision import full_precision
from eqprop._core.state import State, Units, repeat
from eqprop.estimators.base import OnFreePhase, PhaseCallbacks, as_loss
from eqprop.estimators.ep import NudgedEstimator, Nudging, nudging_strengths, strength_per_sample
from eqprop.estimators.response import FirstForce, NudgedPhaseCallback, ignore_response, measure_response
from eqprop.models.model import Model
from eqprop.network import Activities, Contrast, Drive
from eqprop.solvers.phase import Phase
from eqprop.solvers.settle import Settle, Solution, as_settle, finite, residual, settle

__all__ = ["ContinualEP", "ContinualEstimator", "ContinualPhase", "check_finite", "check_static_input"]


class ContinualEstimator(NudgedEstimator):
    """Base of the estimators whose weights move inside the nudged phase, which has a plain number of steps."""

    continual: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive_int("nudged_steps", self.nudged_steps)  # not a `Settle`
        super().__post_init__()


@dataclass(frozen=True)
class ContinualEP(ContinualEstimator):
    """Gradient by continual Equilibrium Propagation: one loss for every nudged step, after each of which the weights move.

    The optimizer that takes the losses moves the weights inside the phase. The paper's rule is plain SGD; momentum or weight decay
    carry one step's increment into the next. Learning rates must be about ten times smaller than for EP, since the moving weights
    disturb the phase. Schedules and logs advance once per batch, not once per loss. If no optimizer step is taken between the
    losses (eta = 0), their gradients sum to EP's or, for untied weights, to the vector-field rule that pairs each step with its own
    activities.

    Args:
        free_steps: T, the length of the free phase: steps or `Settle`.
        nudged_steps: K, the length of the nudged phase and the number of losses. Always a plain number: while weights move
            there is no steady state to wait for.
        beta: nudging strength, in units of the cost's force; its sign is that of the one-sided phase.
        nudging: "one-sided", "centred" or "random-sign".

    Raises:
        ValueError: if ``beta`` is zero or not finite, a number of steps is not a positive whole number, or ``nudging`` is
            unknown; on a call, if the batch does not fit the model, ``x`` requires a gradient, or the dynamics are unstable at
            this ``beta``.
        RuntimeError: on a call under ``no_grad``.
        FloatingPointError: on a call, if the input, a weight or a state is not finite.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 8, 3])
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    >>> for loss in ContinualEP(20, 10, beta=0.1)(model, torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1])):
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    """

    free_steps: int | Settle
    nudged_steps: int  # pyright: ignore[reportIncompatibleVariableOverride] - read-only in the base too
    beta: float
    nudging: Nudging = "one-sided"

    def _losses(
        self, model: Model, x: Tensor, y: Tensor, callbacks: PhaseCallbacks, generator: Generator | None
    ) -> Iterator[Tensor]:
        x = check_static_input(model, x)
        betas = nudging_strengths(self.nudging, self.beta, generator)
        nudged = ContinualPhase.start(model, x, y, self.phases["free_steps"], betas, callbacks.free)
        value, state = nudged.cost().detach(), nudged.first
        before = nudged.phase.activity(state)
        steps = self.phases["nudged_steps"].steps
        for t in range(1, steps + 1):
            with torch.no_grad():
                drive = model.dynamics.prepare(model.network, x).repeat(len(betas))  # again: the weights have moved
                previous, state = state, nudged.step(drive, state)
                after = nudged.phase.activity(state)
            check_finite([model.dynamics.units(state)], t)
            if t == steps:
                nudged.report(callbacks.nudged, previous, state, t)
            surrogate = model.network.contrast(drive.input, *nudged.contrast(before, after))
            last = t == steps
            if surrogate.requires_grad or last:
                yield as_loss(nudged.cost() if last else value, surrogate)
            before = after


@dataclass(frozen=True, eq=False)
class ContinualPhase:
    """A nudged phase whose weights may move between its steps; one trajectory for each strength, as one batch.

    Attributes:
        model: the model to train.
        free: solution of the free phase.
        target: encoded target, ``(B, n)``.
        betas: ``(beta,)`` one-sided, ``(-beta, beta)`` centred.
        phase: all trajectories, at the weights of the free phase; each is nudged with its own beta.
    """

    model: Model
    free: Solution
    target: Tensor
    betas: tuple[float, ...]
    phase: Phase

    @classmethod
    @torch.no_grad()
    def start(
        cls,
        model: Model,
        x: Tensor,
        y: Tensor,
        steps: int | Settle,
        betas: tuple[float, ...],
        on_free_phase: OnFreePhase,
    ) -> "ContinualPhase":
        """Run the free phase and set up the nudged one."""
        phase, state, target = model.prepare_batch(x, y)
        free = settle(phase, state, as_settle("free_steps", steps))
        if on_free_phase is not None:
            on_free_phase(free)
        n = len(betas)
        force = FirstForce(model.cost.nudging_force(torch.cat([target] * n), strength_per_sample(free.output, betas)))
        return cls(model, free, target, betas, phase.repeat(n).nudged(force))

    @property
    def first(self) -> State:
        """The state that every trajectory starts from, for all of them."""
        return repeat(self.free.state, len(self.betas))

    @property
    def norm(self) -> float:
        """The divisor of differences. A centred batch, of twice the size, halves them when it takes its mean."""
        return self.betas[-1]

    def cost(self) -> Tensor:
        """Return the batch mean at the free state; differentiable in the weights of a readout."""
        return self.model.cost.value(self.free.output, self.target).mean()

    def step(self, drive: Drive, state: State) -> State:
        """Return the state after one nudged step under the drive of the present weights."""
        with full_precision(drive.input):
            return replace(self.phase, drive=drive).step(state)

    def report(self, on_nudged_phase: NudgedPhaseCallback, before: State, after: State, steps: int) -> None:
        """Measure the response after the last of ``steps`` nudged steps, which led from ``before`` to ``after``."""
        if on_nudged_phase is ignore_response:
            return
        change = residual(self.phase.units(before), self.phase.units(after))
        end = replace(self.free, state=after, residual=change, steps=steps)
        on_nudged_phase(measure_response(self.phase, self.free, end, plain_steps=False))

    def contrast(self, before: Activities, after: Activities) -> Contrast:
        """Return the contrast from one moment to a later one, with the two exchanged for the trajectory at -beta."""
        if len(self.betas) == 1:
            return Contrast(before, before, after, self.norm)
        a, b = zip(*(_swap_first_halves(*pair) for pair in zip(before, after, strict=True)), strict=True)
        return Contrast(before, a, b, self.norm)


def _swap_first_halves(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    (before_minus, before_plus), (after_minus, after_plus) = before.chunk(2), after.chunk(2)
    return torch.cat([after_minus, before_plus]), torch.cat([before_minus, after_plus])


def check_finite(states: Sequence[Units], first: int) -> None:
    """Raise FloatingPointError if the last of several successive states is not finite; name the first that is not.

    Args:
        states: the state after each nudged step.
        first: number of the first of these steps, counted from 1.
    """
    if finite(*states[-1]):
        return
    for t, state in enumerate(states, start=first):
        for n, s in enumerate(state, start=1):
            if not finite(s):
                raise FloatingPointError(
                    f"population {n} is not finite at step {t} of the nudged phase, in which the weights move: "
                    "lower the rates, or check the targets and beta"
                )


def check_static_input(model: Model, x: Tensor) -> Tensor:
    """Return the input if it fits the model and requires no gradient: the weights that would pass it back move meanwhile.

    Raises:
        ValueError: otherwise.
    """
    x = model.network.check_input(x)
    if x.requires_grad:
        raise ArgumentError(
            "x", "`x` requires a gradient, which moving weights cannot give: detach it, or use EquilibriumProp"
        )
    return x
