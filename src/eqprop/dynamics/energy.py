r"""Energy-based dynamics."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from eqprop._core.checks import positive
from eqprop._core.state import State
from eqprop.dynamics.base import Duality, Dynamics, Force, zero_state
from eqprop.network import Activities, Drive, Network

__all__ = ["EnergyDescent"]


@dataclass(frozen=True)
class EnergyDescent(Dynamics):
    """Euler steps down the energy ``E = 1/2 |s|^2 - Phi(rho(x), rho(s))`` (Ernoult et al. 2019, section 3; Scellier 2017).

    Args:
        dt: step size, in units of the membrane time constant, in (0, 1].
        clamp: keep every state within [0, 1], as training does; the theorem's figures do not.
        output_derivative: False leaves ``rho'(s^L)`` out of the output's current, as the code of the paper does; the
            dynamics then descend no energy, and EP's match with BPTT is approximate.

    Raises:
        ValueError: if ``dt`` is not within (0, 1].

    >>> EnergyDescent(dt=0.1).clamp
    True
    """

    supports_acceleration: ClassVar[bool] = True
    dt: float = 0.2
    clamp: bool = True
    output_derivative: bool = True

    def __post_init__(self) -> None:
        if positive("dt", self.dt) > 1:
            raise ValueError(f"`dt` must be at most 1, got {self.dt!r}: larger Euler steps overshoot")

    def encode(self, network: Network, x: Tensor) -> Tensor:
        """``rho(x)``, by the activation of population 0."""
        return network.populations[0].activation.rho(x)

    def prepare(self, network: Network, x: Tensor) -> Drive:
        """The currents of ``rho(x)``."""
        return network.prepare(self.encode(network, x))

    def init(self, network: Network, x: Tensor) -> State:
        """Zero."""
        return zero_state(network, x)

    def step(self, network: Network, state: State, drive: Drive, force: Force | None = None) -> State:
        """``s + dt (-s + rho'(s) u + f)``, clamped if so chosen."""
        activity = self.activity(network, state)
        pull = drive.currents(activity)
        last = len(pull) - 1
        for n, (p, s, r) in enumerate(zip(network.relaxing, state, activity, strict=True)):
            if n < last or self.output_derivative:
                pull[n] = p.activation.derivative(s, r) * pull[n]
        if force is not None:
            pull[last] = pull[last] + force(state[last])
        moved = (torch.lerp(s, p, self.dt) for s, p in zip(state, pull, strict=True))
        return tuple(s.clamp(0, 1) for s in moved) if self.clamp else tuple(moved)

    def project(self, network: Network, state: State) -> State:
        """Clamped, if so chosen."""
        return tuple(s.clamp(0, 1) for s in state) if self.clamp else state

    def activity(self, network: Network, state: State) -> Activities:
        """``rho(s)``."""
        return tuple(p.activation.rho(s) for p, s in zip(network.relaxing, state, strict=True))

    def batching_unsupported_reason(self) -> str | None:
        """Return None: a step draws nothing. A subclass is refused until it says otherwise."""
        return None if type(self) is EnergyDescent else super().batching_unsupported_reason()

    def energy(self, network: Network, state: State, x: Tensor) -> Tensor:
        """``1/2 |s|^2 - Phi(rho(x), rho(s))``: ``(B,)``."""
        phi = network.phi(self.encode(network, x), self.activity(network, state))
        squares = torch.stack([s.square().flatten(1).sum(1) for s in state])
        return squares.sum(0) / 2 - phi

    def duality(self, network: Network, state: State, drive: Drive) -> Duality:
        """``D = 1``."""
        return Duality(self.dt, tuple(torch.ones_like(s) for s in state), through=True)

    def check_beta(self, beta: float) -> None:
        """Every strength is borne."""
