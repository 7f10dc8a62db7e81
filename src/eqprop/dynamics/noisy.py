r"""Noise on the state, as an analog circuit adds it to every step of a dynamics.

    s_{t+1}  =  F(s_t) + std xi_t,        xi_t ~ N(0, 1), independent for every unit, sample and step,

with ``F`` the step of the wrapped dynamics, nudged or not. The same noise acts in free phases, nudged phases and tests. Phases at
``+beta`` and ``-beta`` have independent noise, also if they run as one batch. A phase does not end in a steady state but in a
random state near it, and EP divides the difference of two such states by beta.

``std`` is the noise of *one step*, whatever its duration. For Euler steps ``dt`` of a stochastic differential equation with noise
intensity ``sigma`` it is ``sigma sqrt(dt)``: to model the same circuit with half the ``dt``, divide ``std`` by ``sqrt(2)``. A unit
without input, ``s <- (1 - dt) s + std xi``, has the stationary standard deviation ``std / sqrt(dt (2 - dt))``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError, instance, non_negative
from eqprop._core.derived import derived_from
from eqprop._core.state import State, Units
from eqprop.dynamics.base import Duality, Dynamics, Force
from eqprop.network import Activities, Drive, Network

__all__ = ["Noisy"]


@dataclass(frozen=True)
class Noisy(Dynamics):
    """Dynamics with Gaussian noise added to every relaxing unit after each step.

    The noise is drawn from torch's default generator on the CPU, so that it is the same on every device and resumed trainings draw
    the same numbers as uninterrupted ones. With ``std=0`` nothing is drawn and the steps are exactly those of the wrapped dynamics.

    Noise is added after a clamp: it can move a state out of [0, 1], where Phi and the cost read it, until the next step clamps
    it. The residual of a solution includes the noise, so that a smaller tolerance is never reached.

    Args:
        dynamics: dynamics without noise; not spiking.
        std: standard deviation of the noise of one step, in units of the state, at least 0.

    Raises:
        ArgumentError: if ``dynamics`` is not a `Dynamics` or is spiking, or ``std`` is negative or not finite.

    >>> from eqprop import Prototypical
    >>> Noisy(Prototypical(), std=0.1)
    Noisy(dynamics=Prototypical(nudge='outside'), std=0.1)
    """

    comes_to_rest: ClassVar[bool] = False
    dynamics: Dynamics
    std: float = 0.0

    def __post_init__(self) -> None:
        if instance("dynamics", self.dynamics, Dynamics).differentiable_equivalent() is not self.dynamics:
            raise ArgumentError(
                "dynamics",
                f"`dynamics` must have differentiable steps, got {self.dynamics!r}: use `Bernoulli` coders for noisy spikes, or "
                "`dynamics.differentiable_equivalent()`",
            )
        non_negative("std", self.std)

    @derived_from("step")
    def time_step(self, network: Network) -> float:
        """Return that of the wrapped dynamics."""
        return self.dynamics.time_step(network)

    def encode(self, network: Network, x: Tensor) -> Tensor:
        """Return the input activity of the wrapped dynamics, without noise."""
        return self.dynamics.encode(network, x)

    @derived_from("encode")
    def clipped_input(self, network: Network, x: Tensor) -> Tensor | None:
        """That of the wrapped dynamics."""
        return self.dynamics.clipped_input(network, x)

    def prepare(self, network: Network, x: Tensor) -> Drive:
        """Compute the drive of the wrapped dynamics."""
        return self.dynamics.prepare(network, x)

    def init(self, network: Network, x: Tensor) -> State:
        """Return the initial state of the wrapped dynamics."""
        return self.dynamics.init(network, x)

    def step(self, network: Network, state: State, drive: Drive, force: Force | None = None) -> State:
        """Return ``F(s) + std xi``; autograd treats the noise as a constant."""
        after = self.dynamics.step(network, state, drive, force)
        return tuple(torch.add(s, _standard_normal(s), alpha=self.std) for s in after) if self.std else after

    def activity(self, network: Network, state: State) -> Activities:
        """Return the activity of the noisy state."""
        return self.dynamics.activity(network, state)

    def units(self, state: State) -> Units:
        """Return the units of the wrapped dynamics."""
        return self.dynamics.units(state)

    def check_network(self, network: Network) -> None:
        """Check a network for the wrapped dynamics."""
        self.dynamics.check_network(network)

    @derived_from("prepare")
    def has_linear_drive(self) -> bool:
        """Return that of the wrapped dynamics."""
        return self.dynamics.has_linear_drive()

    @derived_from("step", "prepare")
    def energy(self, network: Network, state: State, x: Tensor) -> Tensor:
        """Return the energy of the wrapped dynamics, which the noisy dynamics descend only on average."""
        return self.dynamics.energy(network, state, x)

    @derived_from("step", "prepare")
    def duality(self, network: Network, state: State, drive: Drive) -> Duality:
        """Return the relation to BPTT of the wrapped dynamics: noise does not change the Jacobian of a step."""
        return self.dynamics.duality(network, state, drive)

    def check_beta(self, beta: float) -> None:
        """Check a nudging strength for the wrapped dynamics."""
        self.dynamics.check_beta(beta)

    @derived_from("step")
    def check_feedback(self, network: Network, strengths: Sequence[float]) -> str | None:
        """Check the feedback for the wrapped dynamics."""
        return self.dynamics.check_feedback(network, strengths)


def _standard_normal(like: Tensor) -> Tensor:
    return torch.randn(like.shape, dtype=like.dtype).to(like.device)
