r"""Energy-based dynamics: gradient descent on an energy in continuous time.

The dynamics ``ds/dt = -dE/ds - beta dC/ds`` with ``E = 1/2 |s|^2 - Phi(rho(x), rho(s))`` (Ernoult et al. 2019, section 3) are
discretized by Euler steps of size dt. With ``u = dPhi/d rho(s)``, computed from the activities ``rho(x)`` and ``rho(s_t)``, a
step is

    s_{t+1} = s_t + dt (-s_t + rho'(s_t) u + f),        optionally clamped to [0, 1],

with the force ``f = -beta dC/ds^L`` at ``s_t`` on the output population. EP equals BPTT as ``beta -> 0`` (theorem 1 with D = 1).

A cost with curvature h adds ``beta h / 2 |s^L|^2`` to the energy. The output alone then moves by the factor ``1 - dt (1 + beta h)``
a step: it alternates and diverges where ``dt (1 + beta h) > 2``, and has no minimum where ``beta h < -1``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError, boolean, positive
from eqprop._core.derived import derived_from
from eqprop._core.state import State
from eqprop.activations import find_clipped
from eqprop.dynamics.base import Duality, Dynamics, Force, zero_state
from eqprop.network import Activities, Drive, Network

__all__ = ["EnergyDescent"]


@dataclass(frozen=True)
class EnergyDescent(Dynamics):
    """Euler steps down the energy ``E = 1/2 |s|^2 - Phi(rho(x), rho(s))`` (Ernoult et al. 2019, section 3; Scellier & Bengio 2017).

    Args:
        dt: step size in units of the membrane time constant, in (0, 1].
        clamp: clamp every state to [0, 1], as the paper does in training but not in the figures of the theorem.
        output_derivative: False omits ``rho'(s^L)`` from the current into the output, as the code of the paper does. The dynamics
            then descend no energy, and EP matches BPTT only approximately.

    Raises:
        ArgumentError: if ``dt`` is not in (0, 1].

    >>> EnergyDescent(dt=0.1).clamp
    True
    """

    supports_acceleration: ClassVar[bool] = True
    dt: float = 0.2
    clamp: bool = True
    output_derivative: bool = True

    def __post_init__(self) -> None:
        if positive("dt", self.dt) > 1:
            raise ArgumentError("dt", f"`dt` must be at most 1, got {self.dt!r}: larger Euler steps overshoot")
        boolean("clamp", self.clamp)
        boolean("output_derivative", self.output_derivative)

    @derived_from("step")
    def time_step(self, network: Network) -> float:
        """Return the step size ``dt``."""
        return self.dt

    def encode(self, network: Network, x: Tensor) -> Tensor:
        """Return ``rho(x)`` with the activation of population 0."""
        return network.populations[0].activation.rho(x)

    @derived_from("encode")
    def clipped_input(self, network: Network, x: Tensor) -> Tensor:
        """Return where the activation of population 0 changes a value and is flat, as a hard sigmoid outside of [0, 1]."""
        return find_clipped(network.populations[0].activation, x)

    def prepare(self, network: Network, x: Tensor) -> Drive:
        """Compute the currents of ``rho(x)`` and the biases."""
        return network.prepare(self.encode(network, x))

    def init(self, network: Network, x: Tensor) -> State:
        """Return the zero state."""
        return zero_state(network, x)

    def step(self, network: Network, state: State, drive: Drive, force: Force | None = None) -> State:
        """Return ``s + dt (-s + rho'(s) u + f)``, clamped to [0, 1] if ``clamp`` is set."""
        activity = self.activity(network, state)
        # `target` is rho'(s) u + f, so that the step is an interpolation from s toward it.
        target = drive.currents(activity)
        last = len(target) - 1
        for n, (p, s, r) in enumerate(zip(network.relaxing, state, activity, strict=True)):
            if n < last or self.output_derivative:
                target[n] = p.activation.derivative(s, r) * target[n]
        if force is not None:
            target[last] = target[last] + force(self.units(state)[last])
        after = tuple(torch.lerp(s, goal, self.dt) for s, goal in zip(state, target, strict=True))
        return self.project(network, after)

    def project(self, network: Network, state: State) -> State:
        """Return the state clamped to [0, 1] if ``clamp`` is set."""
        return tuple(s.clamp(0, 1) for s in state) if self.clamp else state

    def activity(self, network: Network, state: State) -> Activities:
        """Return ``rho(s)``."""
        return tuple(p.activation.rho(s) for p, s in zip(network.relaxing, state, strict=True))

    def batching_unsupported_reason(self) -> str | None:
        """Return None, but the reason of the base class for a subclass."""
        return None if type(self) is EnergyDescent else super().batching_unsupported_reason()

    @derived_from("prepare")
    def has_linear_drive(self) -> bool:
        """Return True."""
        return True

    @derived_from("step", "prepare")
    def energy(self, network: Network, state: State, x: Tensor) -> Tensor:
        """Return ``1/2 |s|^2 - Phi(rho(x), rho(s))``: ``(B,)``."""
        phi = network.phi(self.encode(network, x), self.activity(network, state))
        squares = torch.stack([s.square().flatten(1).sum(1) for s in state])
        return squares.sum(0) / 2 - phi

    @derived_from("step")
    def check_feedback(self, network: Network, strengths: Sequence[float]) -> str | None:
        """Reject a feedback at which the output alone overshoots or has no minimum; see the module.

        Raises:
            ArgumentError: if it does; where states are clamped, a feedback without a minimum is warned of.
        """
        largest, smallest = max(strengths), min(strengths)
        if self.dt * (1 + largest) >= 2:
            raise ArgumentError(
                "beta",
                f"`beta` must be below 2 / dt - 1 = {2 / self.dt - 1:g} for Euler steps of dt = {self.dt:g}, got {largest:g}: the "
                "output would overshoot at every step; take a smaller one, or a smaller `dt`",
            )
        if smallest > -1:
            return None
        reason = f"at `beta` = {smallest:g} the energy of the nudged phase has no minimum over the output"
        if not self.clamp:
            raise ArgumentError("beta", f"{reason}: take one below 1 in size")
        return f"{reason}, which runs to a bound of the clamp, so that EP's gradient is wrong: take one below 1 in size"

    @derived_from("step", "prepare")
    def duality(self, network: Network, state: State, drive: Drive) -> Duality:
        """Return the relation to BPTT with ``D = 1``."""
        return Duality(self.dt, tuple(torch.ones_like(s) for s in state), through=True)
