r"""Equilibrium Propagation (Scellier & Bengio 2017; in discrete time, Ernoult et al. 2019).

The network settles to ``s*`` without a target, then to ``s^beta`` with the force ``-beta dC/ds^L`` on its output, and

    dL/dtheta  ~  (dPhi/dtheta(s^a) - dPhi/dtheta(s^b)) / norm

    one-sided     (a, b, norm) = (s*, s^beta, beta)              error of order beta
    random-sign   the same with -beta in half of the batches     the error averages out
    centred       (a, b, norm) = (s^-beta, s^beta, 2 beta)       error of order beta^2 (Laborieux et al. 2021)

The phases at -beta and beta start from the same ``s*`` and run side by side, as one batch of 2B.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from eqprop._core.checks import nonzero, one_of
from eqprop._core.state import State
from eqprop.dynamics.base import Dynamics, Force
from eqprop.estimators.base import FreePhaseCallback, as_loss, check_grad_enabled
from eqprop.models.model import Model, check_state
from eqprop.network import Activities, Drive, Network
from eqprop.solvers.settle import Settle, Solution, as_settle, settle

__all__ = ["EquilibriumProp", "Nudging"]

Nudging = Literal["one-sided", "centred", "random-sign"]
NUDGINGS: tuple[Nudging, ...] = ("one-sided", "centred", "random-sign")


@dataclass(frozen=True)
class EquilibriumProp:
    """Gradient by Equilibrium Propagation.

    Args:
        free_steps: T, the length of the free phase: steps or `Settle`.
        nudged_steps: K, the length of each nudged phase: steps or `Settle`.
        beta: nudging strength, in units of the cost's force; its sign is that of the one-sided phase.
        nudging: "one-sided", "centred" or "random-sign".

    Raises:
        ValueError: if ``beta`` is zero or not finite, a number of steps is not a positive whole number, or ``nudging`` is
            unknown; on a call, if the batch does not fit the model or the dynamics do not bear ``beta``.
        RuntimeError: on a call under ``no_grad``.
        FloatingPointError: on a call, if the input, a weight or a state is not finite.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 8, 3])
    >>> estimator = EquilibriumProp(20, 10, beta=0.1, nudging="centred")
    >>> for loss in estimator(model, torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1])):
    ...     loss.backward()
    """

    free_steps: int | Settle
    nudged_steps: int | Settle
    beta: float
    nudging: Nudging = "one-sided"

    def __post_init__(self) -> None:
        as_settle("free_steps", self.free_steps)
        as_settle("nudged_steps", self.nudged_steps)
        nonzero("beta", self.beta)
        one_of("nudging", self.nudging, NUDGINGS)

    def __call__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        on_free_phase: FreePhaseCallback | None = None,
        generator: Generator | None = None,
    ) -> Iterator[Tensor]:
        """One loss: see `Estimator`."""
        check_grad_enabled(self)
        model.dynamics.check_beta(self.beta)
        return self._losses(model, x, y, on_free_phase, generator, None)

    def from_state(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        state: State,
        *,
        on_free_phase: FreePhaseCallback | None = None,
        generator: Generator | None = None,
    ) -> Iterator[Tensor]:
        """The same, but the free phase starts from ``state``: of several steady states, it ends in the one that lies there.

        Raises:
            ValueError: if ``state`` does not fit the model; else as a call.
        """
        check_grad_enabled(self)
        model.dynamics.check_beta(self.beta)
        return self._losses(model, x, y, on_free_phase, generator, state)

    def _losses(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        on_free_phase: FreePhaseCallback | None,
        generator: Generator | None,
        state: State | None,
    ) -> Iterator[Tensor]:
        check_grad_enabled(self)  # again: it is here that gradients must be on
        network, dynamics, cost = model.network, model.dynamics, model.cost
        with torch.no_grad():
            drive, start, target = model.prepare_batch(x, y)
            start = start if state is None else check_state(state, start)
            free = settle(network, dynamics, drive, start, as_settle("free_steps", self.free_steps))
            if on_free_phase is not None:
                on_free_phase(free)
            betas = nudging_strengths(self.nudging, self.beta, generator)
            targets = torch.cat([target] * len(betas)) if len(betas) > 1 else target
            steps = as_settle("nudged_steps", self.nudged_steps)
            pair = settle_nudged(
                network, dynamics, drive, free, steps, betas, lambda beta: cost.nudging_force(targets, beta)
            )
        loss = cost.value(free.output, target).mean()
        yield as_loss(loss, network.contrast(dynamics.encode(network, x), free.activity, *pair))


class Contrast(NamedTuple):
    """The two states that a contrast compares, and what their difference is divided by."""

    a: Activities
    b: Activities
    norm: float


def nudging_strengths(nudging: Nudging, beta: float, generator: Generator | None) -> tuple[float, ...]:
    """The nudging strength of each nudged phase of a batch."""
    if nudging == "centred":
        return -beta, beta
    if nudging == "random-sign":
        device = "cpu" if generator is None else generator.device
        return (beta if torch.rand((), generator=generator, device=device) < 0.5 else -beta,)
    return (beta,)


def settle_nudged(
    network: Network,
    dynamics: Dynamics,
    drive: Drive,
    free: Solution,
    steps: Settle,
    betas: tuple[float, ...],
    nudging_force: Callable[[float | Tensor], Force],
) -> Contrast:
    """Settle again from the free state under a force of each strength, all strengths at once as one batch.

    Args:
        network: the network.
        dynamics: its dynamics.
        drive: of the free phase.
        free: the free phase's solution.
        steps: for how long.
        betas: ``(beta,)`` one-sided, ``(-beta, beta)`` centred.
        pull: from the strength, one for all samples or ``(n B, 1, …)``, to the force on the batch repeated once for each.
    """
    if len(betas) == 1:
        (beta,) = betas
        nudged = settle(network, dynamics, drive, free.state, steps, force=nudging_force(beta))
        return Contrast(free.activity, nudged.activity, beta)
    n, batch, out = len(betas), drive.input.shape[0], free.output
    each = torch.cat([out.new_full((batch, *[1] * (out.dim() - 1)), beta) for beta in betas])
    nudged = settle(network, dynamics, drive.repeat(n), free.state, steps, force=nudging_force(each), copies=n)
    a, b = zip(*(s.split(batch) for s in nudged.activity), strict=True)
    return Contrast(a, b, betas[1] - betas[0])
