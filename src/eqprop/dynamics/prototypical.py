r"""Prototypical dynamics: the activities are updated synchronously in discrete time.

The activities ``s`` are the state and the input is the raw ``x`` (Ernoult et al. 2019, section 4.1). With ``u = dPhi/ds`` and the
force ``f = -beta dC/ds^L`` on the output population, both at ``s_t``, a step is

    s_{t+1} = rho(u) + f      (nudge "outside", as in the paper)      or      s_{t+1} = rho(u + f)      (nudge "inside").

With the inside nudge EP equals BPTT as ``beta -> 0``. With the outside nudge it keeps a finite distance, since the force is not
multiplied by ``rho'``. Steady states are stationary points of ``E(s) = sum G(s) - Phi(x, s)`` with ``G' = rho^{-1}``.
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
from eqprop.dynamics.base import BlockDynamics, Duality, Force, zero_state
from eqprop.network import Activities, Drive, Network

__all__ = ["Prototypical"]


@dataclass(frozen=True)
class Prototypical(BlockDynamics):
    """The discrete-time dynamics ``s <- rho(dPhi/ds)`` (Ernoult et al. 2019, eq. 13).

    Args:
        nudge: "outside" adds the force to the activity, ``rho(u) + f``, as the paper does. This is a self-feedback of -beta: it is
            unstable for ``|beta| >= 1``, settles slowly above 0.6, and EP keeps a finite distance to BPTT. "inside" adds the force
            to the pre-activation, ``rho(u + f)``, and gives the better estimate.

    Raises:
        ArgumentError: if ``nudge`` is neither "outside" nor "inside".

    >>> Prototypical(nudge="inside")
    Prototypical(nudge='inside')
    """

    supports_acceleration: ClassVar[bool] = True
    nudge: Literal["outside", "inside"] = "outside"

    def __post_init__(self) -> None:
        one_of("nudge", self.nudge, ("outside", "inside"))

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
        warn_user(f"{reason} settles slowly; {remedy}")
