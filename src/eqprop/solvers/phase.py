"""A phase: everything that stays constant while a network settles, and the map that is iterated."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from torch import Tensor

from eqprop._core.state import State, Units
from eqprop._core.warn import warn_user
from eqprop.dynamics.base import Dynamics, Force
from eqprop.network import Activities, Drive, Network

__all__ = ["Phase", "StepFunction", "init_phase"]

StepFunction: TypeAlias = Callable[[State], State]
"""The map F of a fixed-point iteration ``s <- F(s)``."""


@dataclass(frozen=True, eq=False)
class Phase:
    """The dynamics of a network under a fixed input, free or nudged.

    `Phase.step` is the synchronous step. A `Schedule` transforms a phase into the step function that `settle` iterates.

    Attributes:
        network: populations and connections.
        dynamics: how the populations move.
        drive: constant currents of the input and the prepared connections, from ``dynamics.prepare``.
        force: force on the output population; None in a free phase.
    """

    network: Network
    dynamics: Dynamics
    drive: Drive
    force: Force | None = None

    def step(self, state: State) -> State:
        """Return the state after one step of all populations from the same old state."""
        return self.dynamics.step(self.network, state, self.drive, self.force)

    def units(self, state: State) -> Units:
        """Return the units of each relaxing population, ``(B, *shape)``."""
        return self.dynamics.units(state)

    def activity(self, state: State) -> Activities:
        """Return the activity of each relaxing population, ``(B, *shape)``."""
        return self.dynamics.activity(self.network, state)

    def project(self, state: State) -> State:
        """Return the state with its units put back within the bounds of the dynamics."""
        return self.dynamics.project(self.network, state)

    def nudged(self, force: Force | None) -> "Phase":
        """Return the same phase under another force."""
        return replace(self, force=force)

    def repeat(self, n: int) -> "Phase":
        """Return the free phase of the batch repeated ``n`` times."""
        return Phase(self.network, self.dynamics, self.drive.repeat(n))


def init_phase(network: Network, dynamics: Dynamics, x: Tensor) -> tuple[Phase, State]:
    """Return the free phase under the input ``x``, ``(B, *shape)``, and the state it starts from.

    Raises:
        ValueError: if ``x`` does not fit the network.

    Warns:
        UserWarning: if the dynamics clip values of ``x``.
    """
    x = network.check_input(x)
    clipped = dynamics.clipped_input(network, x)
    if clipped is not None and bool(clipped.any()):
        # The text is the same for every batch, so that Python shows it once.
        warn_user(
            f"`x` has values that {type(dynamics).__name__} dynamics clip before they reach the network, so that they are lost: "
            "scale the input to the range of its activation (from 0 to 1 for spikes and hard sigmoids), or use `Prototypical`, "
            "which takes any input"
        )
    return Phase(network, dynamics, dynamics.prepare(network, x)), dynamics.init(network, x)
