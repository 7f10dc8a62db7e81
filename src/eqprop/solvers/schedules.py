r"""Schedules: the order in which populations are updated, and what counts as one step.

*Synchronous*: every population takes its step from the same old state, ``s_{t+1} = F(s_t)``.

*Asynchronous*: the populations are split into groups without an edge inside a group (`eqprop.solvers.coloring`: two groups in a
layered network, odd and even). One step is a sweep: the groups are updated in turn, each from the latest state of the others. With
prototypical dynamics and an increasing activation, the update of a group is the exact minimum over its units of

    E(s) = sum G(s) - Phi(x, s),     G' = rho^{-1}:          argmin over s^n of  G(s^n) - <u^n, s^n>  =  rho(u^n),

if Phi is linear in each population separately: then ``u^n = dPhi/ds^n`` depends neither on ``s^n`` nor on other members of the
group. So E never increases, and free phases converge where synchronous ones may alternate between two states. The steady states
are the same.

*Max pooling* makes Phi piecewise linear in the lower population. Where the activities above are nonnegative, which `Conv2d`
requires, Phi is convex in it and lies above its tangent at the present state. The update minimizes E with that tangent in place of
Phi, a majorize-minimize step: not an exact minimum, but E still never increases. *Softmax pooling* is not convex, and networks with
untied weights have no E: there is no guarantee for them.

Synchronous steps on two groups are two interleaved sequences of sweeps that do not interact, if Phi is linear in each population:
in a free phase, sweep k gives the first group its state of step 2k - 1 and the second its state of step 2k. A sweep costs one step
and does the work of two.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from eqprop._core.state import State
from eqprop.dynamics.base import BlockDynamics, Dynamics
from eqprop.network import Network
from eqprop.solvers.coloring import color_groups
from eqprop.solvers.phase import Phase, StepFunction

__all__ = ["Asynchronous", "Schedule", "Synchronous"]


class Schedule(ABC):
    """An order of updates; transforms a phase into the step function that `settle` iterates."""

    @abstractmethod
    def check_dynamics(self, network: Network, dynamics: Dynamics) -> None:
        """Check that the populations can be updated in this order.

        Raises:
            ValueError: if they cannot.
        """

    @abstractmethod
    def transform(self, phase: Phase) -> StepFunction:
        """Return one step of the phase in this order, as a function of the state.

        Raises:
            ValueError: as `check_dynamics`.
        """


@dataclass(frozen=True)
class Synchronous(Schedule):
    """Update all populations from the same old state: the schedule of the papers, for any dynamics.

    >>> Synchronous()
    Synchronous()
    """

    def check_dynamics(self, network: Network, dynamics: Dynamics) -> None:
        """Accept any network and dynamics."""

    def transform(self, phase: Phase) -> StepFunction:
        """Return `Phase.step`."""
        return phase.step


@dataclass(frozen=True)
class Asynchronous(Schedule):
    """Update the populations group by group; one step is a sweep over all groups.

    In a free phase each update minimizes the energy exactly over the units of its group, if phi is linear in either end. There is
    no such guarantee for other connections. In a nudged phase the output also takes a step down the gradient of the cost.

    Needs `Prototypical` dynamics, activations with a `potential` (which states that they increase), and a network without
    connections of a population to itself. A sweep costs one synchronous step and does the work of two in a layered network.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 8, 3], settle=ep.Settle(20, schedule=Asynchronous()))
    >>> model(torch.rand(5, 4)).shape
    torch.Size([5, 3])
    """

    def check_dynamics(self, network: Network, dynamics: Dynamics) -> None:
        """Check that the dynamics can update one group, that activations increase, and that no edge is a loop.

        Raises:
            ValueError: otherwise.
        """
        if not isinstance(dynamics, BlockDynamics):
            raise ValueError(
                "an asynchronous schedule needs `Prototypical` dynamics, whose populations can be updated in groups, "
                f"got {dynamics!r}: settle synchronously"
            )
        dynamics.check_group_step()
        for n, p in enumerate(network.relaxing, start=1):
            if p.activation.potential is None:
                raise ValueError(
                    "an asynchronous schedule needs increasing activations, declared by a `potential`, got "
                    f"{p.activation!r} in population {n}: give it a `potential`, or settle synchronously"
                )
        color_groups(network.ends)

    def transform(self, phase: Phase) -> StepFunction:
        """Return one sweep. What a connection computes from one population alone is computed once per update of it."""
        network, dynamics = phase.network, phase.dynamics
        self.check_dynamics(network, dynamics)
        assert isinstance(dynamics, BlockDynamics)
        groups, everything = color_groups(network.ends), range(1, len(network.relaxing) + 1)
        last: State | None = None
        drive = phase.drive

        def sweep(state: State) -> State:
            nonlocal last, drive
            if state is not last:  # else `drive` still holds what the previous sweep computed from this state
                drive = phase.drive.specialize(everything, phase.activity(state))
            for group in groups:
                state = dynamics.step_group(network, state, drive, group, phase.force)
                drive = drive.specialize(group, phase.activity(state))
            last = state
            return state

        return sweep
