r"""Noise on the states: what an analog circuit adds to every step of a dynamics.

    s_{t+1}  =  F(s_t) + std xi_t,        xi_t ~ N(0, 1), anew for every unit, sample and step,

with ``F`` the step of the wrapped dynamics, nudged or not. The law is the same in the free phase, in the nudged phases and in
tests; phases that run side by side at ``+beta`` and ``-beta`` have noise of their own, as phases that ran one after the other
would. A phase then ends not in a steady state but in a cloud about it, and EP divides the difference of two such clouds by beta.

``std`` is what *one step* adds, whatever a step lasts. Discrete time has no other measure. Of Euler steps ``dt`` of a stochastic
differential equation with noise of intensity ``sigma`` it is ``sigma sqrt(dt)``: who halves ``dt`` and means the same circuit
divides ``std`` by ``sqrt(2)``. A unit that only leaks, ``s <- (1 - dt) s + std xi``, fluctuates by ``std / sqrt(dt (2 - dt))``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from eqprop._core.checks import instance, non_negative
from eqprop._core.state import State, Units
from eqprop.dynamics.base import Duality, Dynamics, Force
from eqprop.network import Activities, Drive, Network

__all__ = ["Noisy"]


@dataclass(frozen=True)
class Noisy(Dynamics):
    """Another dynamics, with Gaussian noise on every relaxing unit after each of its steps.

    The numbers come from torch's default generator on the CPU, wherever the states are: the same ones on every device, and a
    training that is resumed draws what it would have drawn. At 0 none are drawn, and every state is the wrapped dynamics' own.

    Noise is added last, after a clamp: a state may leave [0, 1] by it, is read so by Phi and by the cost, and is clamped again
    only by its next step. The residual of a solution measures the noise too, so that a tolerance below it is never met.

    Args:
        dynamics: how the populations move without noise.
        std: standard deviation of what one step adds, in units of the state, at least 0.

    Raises:
        ValueError: if ``dynamics`` is no `Dynamics` or a spiking one, or ``std`` is negative or not finite.

    >>> from eqprop import Prototypical
    >>> Noisy(Prototypical(), std=0.1)
    Noisy(dynamics=Prototypical(nudge='outside'), std=0.1)
    """

    dynamics: Dynamics
    std: float = 0.0

    def __post_init__(self) -> None:
        if instance("dynamics", self.dynamics, Dynamics).differentiable_equivalent() is not self.dynamics:
            raise ValueError(
                f"`dynamics` is {self.dynamics!r}, which sends values from 0 to 1 and bears no Gaussian noise: take `Bernoulli` "
                "coders, which are noisy, or its twin"
            )
        non_negative("std", self.std)

    def encode(self, network: Network, x: Tensor) -> Tensor:
        """That of the wrapped dynamics: the input has no noise."""
        return self.dynamics.encode(network, x)

    def prepare(self, network: Network, x: Tensor) -> Drive:
        """That of the wrapped dynamics."""
        return self.dynamics.prepare(network, x)

    def init(self, network: Network, x: Tensor) -> State:
        """That of the wrapped dynamics."""
        return self.dynamics.init(network, x)

    def step(self, network: Network, state: State, drive: Drive, force: Force | None = None) -> State:
        """``F(s) + std xi``; the noise is constant to autograd."""
        after = self.dynamics.step(network, state, drive, force)
        return tuple(torch.add(s, gaussian(s), alpha=self.std) for s in after) if self.std else after

    def activity(self, network: Network, state: State) -> Activities:
        """That of the wrapped dynamics, at the noisy state."""
        return self.dynamics.activity(network, state)

    def units(self, state: State) -> Units:
        """Those of the wrapped dynamics."""
        return self.dynamics.units(state)

    def check_network(self, network: Network) -> None:
        """As the wrapped dynamics."""
        self.dynamics.check_network(network)

    def energy(self, network: Network, state: State, x: Tensor) -> Tensor:
        """That of the wrapped dynamics: what the noisy ones descend on average only."""
        return self.dynamics.energy(network, state, x)

    def duality(self, network: Network, state: State, drive: Drive) -> Duality:
        """That of the wrapped dynamics: noise has no part in the Jacobian of a step."""
        return self.dynamics.duality(network, state, drive)

    def check_beta(self, beta: float) -> None:
        """As the wrapped dynamics."""
        self.dynamics.check_beta(beta)


def gaussian(like: Tensor) -> Tensor:
    """Standard normal numbers in the shape of a state, drawn on the CPU."""
    return torch.randn(like.shape, dtype=like.dtype).to(like.device)
