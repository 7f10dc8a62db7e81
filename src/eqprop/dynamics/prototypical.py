r"""Prototypical dynamics: the activities are updated synchronously in discrete time.

The activities ``s`` are the state and the input is the raw ``x`` (Ernoult et al. 2019, section 4.1). With ``u = dPhi/ds`` and the
force ``f = -beta dC/ds^L`` on the output population, both at ``s_t``, a step is

    s_{t+1} = rho(u) + f      (nudge "outside", as in the paper)      or      s_{t+1} = rho(u + f)      (nudge "inside").

With the inside nudge EP equals BPTT as ``beta -> 0``. With the outside nudge it keeps a finite distance, since the force is not
multiplied by ``rho'``. Steady states are stationary points of ``E(s) = sum G(s) - Phi(x, s)`` with ``G' = rho^{-1}``.

*Feedback of the output on itself*. A cost of curvature ``h = d^2C/ds^2`` (1 for the squared error) adds ``-beta h`` (outside) or
``-beta h rho'`` (inside) to the Jacobian J of a step, at the output. Let P be the projector on the output and ``b`` that strength.
J has the eigenvalues of a symmetric matrix (`Duality`) and, in a layered network, those of -J: flipping the sign of every other
population negates J and leaves P. So the steady state of synchronous steps is unstable where the largest eigenvalue

    lambda_max(J + |b| P)  >  1:

for ``b > 0`` ``J - b P`` then has an eigenvalue below -1, and the phase alternates; for ``b < 0`` it has one above 1, and the phase
runs away, since the nudged energy has no minimum there. For an output in one loop of gain a with a hidden unit, ``J = ((0, a),
(a, 0))``, this is

    a^2  >  1 - |b|,

while the free phase settles up to ``a^2 = 1``: long before ``|b| = 1``, above which no network settles. Asynchronous sweeps take
``s <- (a^2 - b) s``, stable for every b from ``a^2 - 1`` to ``1 + a^2``: they cure the alternation, not the missing minimum. A
smaller beta cures both. The residual of the nudged phase tells (`eqprop.estimators.response`).

Where the inside nudge has ``|beta| h rho' >= 1``, the same happens: the phase alternates, or at -beta has two steady states. A
bounded activation then also limits the response, which EP divides by beta: the estimate shrinks as ``1 / beta``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError, one_of
from eqprop._core.derived import derived_from
from eqprop._core.state import State
from eqprop._core.warn import warn_user
from eqprop.activations import ACTIVATIONS, steepest_slope
from eqprop.dynamics.base import BlockDynamics, Duality, Force, zero_state
from eqprop.network import Activities, Drive, Network

__all__ = ["Prototypical"]

FAR = 10.0
"""Feedback of the inside nudge above which it is refused: what is left of the gradient is below a tenth."""


@dataclass(frozen=True)
class Prototypical(BlockDynamics):
    """The discrete-time dynamics ``s <- rho(dPhi/ds)`` (Ernoult et al. 2019, eq. 13).

    Args:
        nudge: "outside" adds the force to the activity, ``rho(u) + f``, as the paper does. This is a self-feedback of -beta: nudged
            phases of synchronous steps alternate or diverge for ``|beta| >= 1``, and before, in an output's loop of gain a, where
            ``a^2 > 1 - |beta|``; and EP keeps a finite distance to BPTT. "inside" adds the force to the pre-activation,
            ``rho(u + f)``, and gives the better estimate.

    Raises:
        ArgumentError: if ``nudge`` is neither "outside" nor "inside".

    >>> Prototypical(nudge="inside")
    Prototypical(nudge='inside')
    """

    supports_acceleration: ClassVar[bool] = True
    nudge: Literal["outside", "inside"] = "outside"

    def __post_init__(self) -> None:
        one_of("nudge", self.nudge, ("outside", "inside"))

    @derived_from("step")
    def time_step(self, network: Network) -> float:
        """Return 1, or the steepest slope of the output's activation if that is more and the nudge is inside."""
        return max(1.0, steepest_slope(network.relaxing[-1].activation)) if self.nudge == "inside" else 1.0

    def encode(self, network: Network, x: Tensor) -> Tensor:
        """Return the raw input."""
        return x

    def prepare(self, network: Network, x: Tensor) -> Drive:
        """Compute a drive whose currents are ``gain * u + shift``, the argument of the activation's ``unit``."""
        rho = [p.activation for p in network.relaxing]
        return network.prepare(self.encode(network, x), [r.gain for r in rho], [r.shift for r in rho])

    def init(self, network: Network, x: Tensor) -> State:
        """Return the zero state."""
        return zero_state(network, x)

    def step(self, network: Network, state: State, drive: Drive, force: Force | None = None) -> State:
        """Return ``rho(u) + f`` or ``rho(u + f)``."""
        v = drive.currents(self.activity(network, state))
        if force is not None and self.nudge == "inside":
            v[-1] = torch.add(v[-1], force(self.units(state)[-1]), alpha=network.relaxing[-1].activation.gain)
        s = [p.activation.apply_inplace(v_n) for p, v_n in zip(network.relaxing, v, strict=True)]
        if force is not None and self.nudge == "outside":
            s[-1] = s[-1] + force(self.units(state)[-1])
        return tuple(s)

    @derived_from("step")
    def step_group(
        self, network: Network, state: State, drive: Drive, group: Sequence[int], force: Force | None = None
    ) -> State:
        """Return the state with ``rho(u)`` in the populations of ``group``, plus the force if the output is one of them.

        Without a force, this is the minimum of the energy over the units of the group.
        """
        after, output = list(state), len(state)
        for n, v in zip(group, drive.currents_into(group, self.activity(network, state)), strict=True):
            rho = network.relaxing[n - 1].activation
            f = force(self.units(state)[-1]) if force is not None and n == output else None
            if f is not None and self.nudge == "inside":
                v = torch.add(v, f, alpha=rho.gain)
            s = rho.apply_inplace(v)
            after[n - 1] = s + f if f is not None and self.nudge == "outside" else s
        return tuple(after)

    def project(self, network: Network, state: State) -> State:
        """Return the state clamped to the lower bounds of the activations, as max pooling needs.

        The output is not clamped: an outside nudge may move it below its bound.
        """
        low = [p.activation.lowest for p in network.relaxing[:-1]]
        return tuple(s if r == float("-inf") else s.clamp(min=r) for s, r in zip(state, low, strict=False)) + state[-1:]

    def activity(self, network: Network, state: State) -> Activities:
        """Return the state itself."""
        return state

    def batching_unsupported_reason(self) -> str | None:
        """Return None, but the reason of the base class for a subclass."""
        return None if type(self) is Prototypical else super().batching_unsupported_reason()

    @derived_from("prepare")
    def has_linear_drive(self) -> bool:
        """Return True."""
        return True

    @derived_from("step", "prepare")
    def energy(self, network: Network, state: State, x: Tensor) -> Tensor:
        """Return ``sum G(s) - Phi(x, s)`` with ``G' = rho^{-1}``: ``(B,)``; stationary at steady states in the range of rho.

        Raises:
            ValueError: if an activation has no potential ``G``.
        """
        total = -network.phi(self.encode(network, x), self.activity(network, state))
        for p, s in zip(network.relaxing, state, strict=True):
            if p.activation.potential is None:
                raise ValueError(
                    f"{p.activation!r} has no `potential`, so the energy of these dynamics is not known: give it one"
                )
            total = total + p.activation.potential(s).flatten(1).sum(1)
        return total

    @derived_from("step", "prepare")
    def duality(self, network: Network, state: State, drive: Drive) -> Duality:
        """Return the relation to BPTT with ``D = rho'(u)``: to ``dL/du`` for the inside nudge, to ``dL/ds`` for the outside one."""
        rho = [p.activation for p in network.relaxing]
        u = [(v - r.shift) / r.gain for r, v in zip(rho, drive.currents(self.activity(network, state)), strict=True)]
        slopes = tuple(r.derivative(u_n) for r, u_n in zip(rho, u, strict=True))
        return Duality(1.0, slopes, through=self.nudge == "inside" or bool((slopes[-1] == 1).all()))

    def check_beta(self, beta: float) -> None:
        """Reject an outside nudge with ``|beta| >= 1`` and warn of one above 0.6.

        Raises:
            ArgumentError: if the outside nudge is unstable at this ``beta``.
        """
        if self.nudge == "inside" or abs(beta) <= 0.6:
            return
        reason = f"the outside nudge feeds the output back to itself with strength -beta: with `beta` = {beta!r} it"
        remedy = 'take a smaller one, or `Prototypical(nudge="inside")`'
        if abs(beta) >= 1:
            raise ArgumentError("beta", f"{reason} cannot settle; {remedy}")
        gain = (1 - abs(beta)) ** 0.5
        warn_user(
            f"{reason} alternates or diverges where a loop through the output has a gain above {gain:.2g}; {remedy}"
        )

    @derived_from("step")
    def check_feedback(self, network: Network, strengths: Sequence[float]) -> str | None:
        """Reject or warn of an inside nudge of strength 1 or more, see the module; `check_beta` does for the outside one.

        Raises:
            ArgumentError: if the output is linear, where inside and outside nudge are the same, or the strength is 10 or more.
        """
        largest = max(strengths, key=abs)
        if self.nudge == "outside" or abs(largest) < 1:
            return None
        linear = network.relaxing[-1].activation == ACTIVATIONS["identity"]
        if linear or abs(largest) >= FAR:
            why = (
                "cannot settle" if linear else "drives the output to its bounds, and EP's gradient vanishes as 1 / beta"
            )
            raise ArgumentError("beta", f"with `beta` = {largest:g} the nudge {why}: take one below 1 in size")
        return (
            f"with `beta` = {largest:g} the nudged phase alternates, or has two steady states, where the slope of the output's "
            f"activation is above {1 / abs(largest):.2g}, so that EP's gradient is wrong: take one below 1 in size"
        )
