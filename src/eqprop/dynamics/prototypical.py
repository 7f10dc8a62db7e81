r"""Prototypical dynamics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal
from warnings import warn

import torch
from torch import Tensor

from eqprop._core.checks import one_of
from eqprop._core.state import State
from eqprop.dynamics.base import BlockDynamics, Duality, Force, zero_state
from eqprop.network import Activities, Drive, Network

__all__ = ["Prototypical"]


@dataclass(frozen=True)
class Prototypical(BlockDynamics):
    """``s <- rho(dPhi/ds)`` in discrete time (Ernoult et al. 2019, eq. 13).

    Args:
        nudge: "outside" adds the force to the activity, ``rho(u) + f``, as the paper does. It is a self-feedback of
            -beta: unstable for ``|beta| >= 1``, sluggish above 0.6, and EP keeps a finite distance to BPTT. "inside" adds
            it to the pre-activation, ``rho(u + f)``: the better estimator.

    Raises:
        ValueError: if ``nudge`` is neither.

    >>> Prototypical(nudge="inside")
    Prototypical(nudge='inside')
    """

    supports_acceleration: ClassVar[bool] = True
    nudge: Literal["outside", "inside"] = "outside"

    def __post_init__(self) -> None:
        one_of("nudge", self.nudge, ("outside", "inside"))

    def encode(self, network: Network, x: Tensor) -> Tensor:
        """The raw input."""
        return x

    def prepare(self, network: Network, x: Tensor) -> Drive:
        """Currents come out as ``gain * u + shift``, ready for the activation's `unit`."""
        rho = [p.activation for p in network.relaxing]
        return network.prepare(x, [r.gain for r in rho], [r.shift for r in rho])

    def init(self, network: Network, x: Tensor) -> State:
        """Zero."""
        return zero_state(network, x)

    def step(self, network: Network, state: State, drive: Drive, force: Force | None = None) -> State:
        """``rho(u) + f`` or ``rho(u + f)``."""
        v = drive.currents(state)
        if force is not None and self.nudge == "inside":
            v[-1] = torch.add(v[-1], force(state[-1]), alpha=network.relaxing[-1].activation.gain)
        s = [p.activation.apply_inplace(v_n) for p, v_n in zip(network.relaxing, v, strict=True)]
        if force is not None and self.nudge == "outside":
            s[-1] = s[-1] + force(state[-1])
        return tuple(s)

    def step_group(
        self, network: Network, state: State, drive: Drive, group: Sequence[int], force: Force | None = None
    ) -> State:
        """``rho(u)`` in the group, with the force at the old output where that is in it.

        Without a force it is the minimum of the energy over these units.
        """
        moved, out = list(state), len(state)
        for n, v in zip(group, drive.currents_into(group, state), strict=True):
            rho = network.relaxing[n - 1].activation
            pull = force(state[-1]) if force is not None and n == out else None
            if pull is not None and self.nudge == "inside":
                v = torch.add(v, pull, alpha=rho.gain)
            s = rho.apply_inplace(v)
            moved[n - 1] = s + pull if pull is not None and self.nudge == "outside" else s
        return tuple(moved)

    def project(self, network: Network, state: State) -> State:
        """No unit below the least activity of its kind, as max pooling demands; the output, which may be nudged there, as it is."""
        low = [p.activation.lowest for p in network.relaxing[:-1]]
        return tuple(s if r == float("-inf") else s.clamp(min=r) for s, r in zip(state, low, strict=False)) + state[-1:]

    def activity(self, network: Network, state: State) -> Activities:
        """The state itself."""
        return state

    def batching_unsupported_reason(self) -> str | None:
        """Return None: a step draws nothing. A subclass is refused until it says otherwise."""
        return None if type(self) is Prototypical else super().batching_unsupported_reason()

    def energy(self, network: Network, state: State, x: Tensor) -> Tensor:
        """``sum G(s) - Phi(x, s)`` with ``G' = rho^{-1}``: ``(B,)``. Steady states within the range of rho are stationary.

        Raises:
            ValueError: if an activation has no potential ``G``.
        """
        total = -network.phi(x, state)
        for p, s in zip(network.relaxing, state, strict=True):
            if p.activation.potential is None:
                raise ValueError(
                    f"{p.activation!r} has no `potential`, so these dynamics have no known energy: give it one"
                )
            total = total + p.activation.potential(s).flatten(1).sum(1)
        return total

    def duality(self, network: Network, state: State, drive: Drive) -> Duality:
        """``D = rho'(u)``: against ``dL/du`` if nudged inside, against ``dL/ds`` outside, as in the paper."""
        rho = [p.activation for p in network.relaxing]
        u = [(v - r.shift) / r.gain for r, v in zip(rho, drive.currents(state), strict=True)]
        slopes = tuple(r.derivative(u_n) for r, u_n in zip(rho, u, strict=True))
        return Duality(1.0, slopes, through=self.nudge == "inside" or bool((slopes[-1] == 1).all()))

    def check_beta(self, beta: float) -> None:
        """Outside nudges are refused at ``|beta| >= 1`` and warned of above 0.6."""
        if self.nudge == "inside" or abs(beta) <= 0.6:
            return
        reason = f"the outside nudge feeds the output back to itself with strength -beta: with `beta` = {beta!r} it"
        remedy = 'take a smaller one, or `Prototypical(nudge="inside")`'
        if abs(beta) >= 1:
            raise ValueError(f"{reason} cannot settle; {remedy}")
        warn(f"{reason} settles slowly; {remedy}", stacklevel=3)
