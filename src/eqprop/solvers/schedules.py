r"""In which order populations move: all at once, or group by group.

*Synchronous*: every population takes its step from the same old state, ``s_{t+1} = F(s_t)``.

*Asynchronous*: the populations fall into groups that no edge joins (`eqprop.solvers.coloring`: two on a chain, odd and even), and one
step is a sweep in which the groups move in turn, each from what the ones before it have become. With prototypical dynamics and an
activation that increases, the move of a group is the exact minimum over its units of

    E(s) = sum G(s) - Phi(x, s),     G' = rho^{-1}:          argmin over s^n of  G(s^n) - <u^n, s^n>  =  rho(u^n),

as long as Phi is linear in each population by itself, for then ``u^n = dPhi/ds^n`` does not hang on ``s^n``, nor, in a group, on
its other members. So E never rises, free phases come to rest where synchronous ones may alternate between two states for ever,
and the states at rest are the same.

*Max pooling* makes Phi piecewise linear in the lower population. Where the activities above are at least 0, which `Conv2d`
demands, Phi is convex in it and nowhere below its tangent at the present state: the move, which minimises E with the tangent in the
place of Phi, is no exact minimum but still never raises E (a majorise-minimise step). *Softmax pooling* is not convex, and untied
weights have no E: there nothing is promised.

Synchronous steps on two groups are two sequences of sweeps, interleaved, that do not see each other, as long as Phi is linear in
each population: in a free phase, sweep k gives the first group its state of step 2k - 1 and the second that of step 2k. A sweep
costs one step, and does what two do.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from eqprop._core.state import State
from eqprop.dynamics.base import BlockDynamics, Dynamics, Force
from eqprop.network import Drive, Network
from eqprop.solvers.coloring import Group, color_groups

__all__ = ["Asynchronous", "Schedule", "Synchronous"]


class Schedule(ABC):
    """An order in which populations move; what counts as one step of a phase."""

    @abstractmethod
    def admit(self, network: Network, dynamics: Dynamics) -> None:
        """Refuse a network or dynamics that cannot move in this order.

        Raises:
            ValueError: if there is a reason.
        """

    @abstractmethod
    def states(
        self, network: Network, dynamics: Dynamics, drive: Drive, state: State, force: Force | None = None
    ) -> Iterator[State]:
        """The states after one step from ``state``, after two, and so on without end; arguments as of `Dynamics.step`.

        Raises:
            ValueError: as `admit`, before anything is computed.
        """

    def map(
        self, network: Network, dynamics: Dynamics, drive: Drive, force: Force | None = None
    ) -> Callable[[State], State]:
        """One step as a map of the state, for who wants to choose where it sets out from.

        Raises:
            ValueError: as `admit`.
        """
        self.admit(network, dynamics)
        return lambda state: next(self.states(network, dynamics, drive, state, force))


@dataclass(frozen=True)
class Synchronous(Schedule):
    """All populations at once, from the same old state: the order of the papers, and of every dynamics.

    >>> Synchronous()
    Synchronous()
    """

    def admit(self, network: Network, dynamics: Dynamics) -> None:
        """Nothing is refused."""

    def states(
        self, network: Network, dynamics: Dynamics, drive: Drive, state: State, force: Force | None = None
    ) -> Iterator[State]:
        """``F(s), F(F(s)), …``."""
        while True:
            state = dynamics.step(network, state, drive, force)
            yield state


@dataclass(frozen=True)
class Asynchronous(Schedule):
    """Group by group, in a free phase each an exact minimisation of the energy over its units; a step is a sweep over all groups.

    Exact where phi is linear in either end. A connection of one's own that is not has no such law. Under a nudge the output takes a
    step down the gradient of the cost.

    For `Prototypical` dynamics, activations with a `potential`, which promises that they increase, and networks without
    connections of a population to itself. A sweep costs what a synchronous step does, and brings a chain as far as two.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 8, 3], settle=ep.Settle(20, schedule=Asynchronous()))
    >>> model(torch.rand(5, 4)).shape
    torch.Size([5, 3])
    """

    def admit(self, network: Network, dynamics: Dynamics) -> None:
        """Refuse dynamics that cannot move a part, activations that need not increase, and self-connections."""
        if not isinstance(dynamics, BlockDynamics):
            raise ValueError(
                f"an asynchronous schedule needs `Prototypical` dynamics, whose populations can move by groups, got {dynamics!r}: "
                "settle synchronously"
            )
        for n, p in enumerate(network.relaxing, start=1):
            if p.activation.potential is None:
                raise ValueError(
                    f"an asynchronous schedule needs activations that increase, and a `potential` that says so, got "
                    f"{p.activation!r} in population {n}: give it one, or settle synchronously"
                )
        color_groups(network.ends)

    def states(
        self, network: Network, dynamics: Dynamics, drive: Drive, state: State, force: Force | None = None
    ) -> Iterator[State]:
        """One state a sweep."""
        self.admit(network, dynamics)
        assert isinstance(dynamics, BlockDynamics)
        return sweeps(network, dynamics, drive, state, force, color_groups(network.ends))

    def map(
        self, network: Network, dynamics: Dynamics, drive: Drive, force: Force | None = None
    ) -> Callable[[State], State]:
        """One sweep; the groups are found once."""
        self.admit(network, dynamics)
        assert isinstance(dynamics, BlockDynamics)
        groups = color_groups(network.ends)
        return lambda state: next(sweeps(network, dynamics, drive, state, force, groups))


def sweeps(
    network: Network,
    dynamics: BlockDynamics,
    drive: Drive,
    state: State,
    force: Force | None,
    groups: tuple[Group, ...],
) -> Iterator[State]:
    """The states after one sweep, after two, and so on. What wires make of a population alone is computed once a move of it."""
    drive = drive.specialize(range(1, len(state) + 1), dynamics.activity(network, state))
    while True:
        for group in groups:
            state = dynamics.step_group(network, state, drive, group, force)
            drive = drive.specialize(group, dynamics.activity(network, state))
        yield state
