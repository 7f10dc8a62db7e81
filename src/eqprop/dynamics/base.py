r"""Dynamics: one step of the state of a network.

A dynamics is a frozen object without state: a step takes a state and returns the next one. The dynamics alone decides what drives
the network: the input itself, its activity ``rho(x)``, or spikes. The dynamics of Ernoult et al. (2019) are derived in
`eqprop.dynamics.prototypical` and `eqprop.dynamics.energy`, spiking ones in `eqprop.spiking.dynamics`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias

from torch import Tensor

from eqprop._core.derived import replace_stale
from eqprop._core.memory_format import channels_last
from eqprop._core.state import State, Units
from eqprop.network import Activities, Drive, Network

__all__ = ["BlockDynamics", "Duality", "Dynamics", "Force", "zero_state"]

Force: TypeAlias = Callable[[Tensor], Tensor]
"""A function of the output population's state ``(B, *shape)`` that returns the force on it, of the same shape."""


class Duality(NamedTuple):
    """The relation between nudged steps of EP and steps of BPTT near a steady state.

    Let ``J = dF/ds`` be the Jacobian of a step. BPTT multiplies by ``J^T``, a nudged phase of EP by ``J``. If the dynamics
    descend an energy there is a diagonal matrix ``D`` such that ``J D`` is symmetric. If the nudge is multiplied by ``D`` too,
    the increments of EP equal minus ``D dL/ds`` at every step (Ernoult et al. 2019, theorem 1, for ``D = 1``).

    Attributes:
        dt: duration of a step; the increments of the state are ``(s_{t+1} - s_t) / (beta dt)``.
        slopes: diagonal of ``D``, one tensor ``(B, *shape)`` per relaxing population.
        through: whether the nudge is multiplied by ``D``. If not, increments are compared with ``dL/ds`` and differ from it unless
            ``D`` is 1 at the output.
    """

    dt: float
    slopes: Units
    through: bool


class Dynamics(ABC):
    """Base class of dynamics. No method changes its arguments.

    If a subclass of `Prototypical` or `EnergyDescent` overrides `step` alone, what is known of their steps does not hold for it:
    `energy`, `duality`, asynchronous schedules and acceleration are refused until it states them too.
    """

    spiking: ClassVar[bool] = False
    """Whether units exchange spikes. Gradients then come from `differentiable_equivalent`."""

    supports_acceleration: ClassVar[bool] = False
    """Whether the state consists of the units only and a step is a deterministic map of it, as Anderson acceleration needs. A
    subclass that overrides `step` states it anew."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        replace_stale(cls, {"supports_acceleration": "step"})

    comes_to_rest: ClassVar[bool] = True
    """Whether phases approach a steady state. Noise and spikes keep states moving, so that a residual says nothing about it."""

    def time_step(self, network: Network) -> float:
        """Return the displacement of an output unit by one step under a unit force; the largest, where the force passes rho."""
        return 1.0

    @abstractmethod
    def encode(self, network: Network, x: Tensor) -> Tensor:
        """Return the activity of the input population for the input ``x``: ``(B, *shape)``."""

    def clipped_input(self, network: Network, x: Tensor) -> Tensor | None:
        """Return which values of an input `encode` clips, as booleans of its shape; None if it clips none."""
        return None

    @abstractmethod
    def prepare(self, network: Network, x: Tensor) -> Drive:
        """Compute what stays constant for a batch; call again when the weights or ``x`` have changed."""

    @abstractmethod
    def init(self, network: Network, x: Tensor) -> State:
        """Return the state in which a free phase starts."""

    @abstractmethod
    def step(self, network: Network, state: State, drive: Drive, force: Force | None = None) -> State:
        """Return the next state, differentiable with respect to state, drive and weights.

        Args:
            network: network whose state it is.
            state: current state.
            drive: drive of `prepare`.
            force: force on the output population, evaluated at the current state; None in a free phase.
        """

    @abstractmethod
    def activity(self, network: Network, state: State) -> Activities:
        """Return the activities of the relaxing populations, the arguments of Phi."""

    def units(self, state: State) -> Units:
        """Return one tensor per relaxing population, on which costs, forces and residuals act; the state itself by default."""
        return state

    def project(self, network: Network, state: State) -> State:
        """Return a linear combination of states projected onto the states that a step accepts; unchanged by default."""
        return state

    def differentiable_equivalent(self) -> "Dynamics":
        """Return dynamics with differentiable steps and the same steady states; ``self`` by default."""
        return self

    def check_network(self, network: Network) -> None:  # noqa: B027 - most support any network
        """Check that these dynamics support a network; called when a `Model` is built.

        Raises:
            ValueError: if they do not support it.
        """

    def batching_unsupported_reason(self) -> str | None:
        """Return why several networks cannot take their steps in one batch, or None if they can.

        By default they cannot: a subclass may draw random numbers, which would then depend on the other networks.
        """
        return f"{type(self).__name__} dynamics may draw at random"

    def has_linear_drive(self) -> bool:
        """Return whether `prepare` is `Network.prepare` of `encode`, so that `Drive.constant` is linear in the weights.

        False by default; the weights of `ContinualSGD` then move in a copy of the model.
        """
        return False

    def energy(self, network: Network, state: State, x: Tensor) -> Tensor:
        """Return the energy that the free dynamics descend: ``(B,)``.

        Raises:
            ValueError: by default, and in a subclass that overrides `step` alone.
        """
        raise ValueError(f"the energy of {type(self).__name__} is not known: override `energy`")

    def duality(self, network: Network, state: State, drive: Drive) -> Duality:
        """Return the relation between EP and BPTT for a step from ``state``.

        Raises:
            ValueError: by default, and in a subclass that overrides `step` alone.
        """
        raise ValueError(
            f"the relation of EP to BPTT is not known for the steps of {type(self).__name__}: override `duality`"
        )

    def check_beta(self, beta: float) -> None:  # noqa: B027 - most allow any strength
        """Check a nudging strength; any is allowed by default. Warn if the nudged phase settles slowly.

        Raises:
            ArgumentError: if the dynamics are unstable at this ``beta``.
        """

    def check_feedback(self, network: Network, strengths: Sequence[float]) -> str | None:
        """Check the feedback ``-b s^L`` of the output on itself in each nudged phase; return what to warn of, if anything.

        Args:
            network: the network.
            strengths: b of each nudged phase, beta times the curvature of the cost. Any is allowed by default.

        Raises:
            ArgumentError: if the dynamics are unstable at this ``beta``.
        """
        return None


class BlockDynamics(Dynamics):
    """Base class of dynamics that can update some populations while the others keep their state, as asynchronous schedules need."""

    def step_group(
        self, network: Network, state: State, drive: Drive, group: Sequence[int], force: Force | None = None
    ) -> State:
        """Return the state after a step of some populations; otherwise like `step`.

        Args:
            network: network whose state it is.
            state: current state.
            drive: drive of `prepare`.
            group: numbers of the populations to update; no edge may join two of them.
            force: force on the output population.

        Raises:
            ValueError: in a subclass that overrides `step` alone.
        """
        raise ValueError(_NO_GROUP_STEP.format(type(self).__name__))

    def check_group_step(self) -> None:
        """Check that `step_group` is that of `step`.

        Raises:
            ValueError: in a subclass that overrides `step` alone.
        """
        if type(self).step_group is BlockDynamics.step_group:
            raise ValueError(_NO_GROUP_STEP.format(type(self).__name__))


_NO_GROUP_STEP = (
    "{} overrides `step` alone: for an asynchronous schedule override `step_group` too, or settle synchronously"
)


def zero_state(network: Network, x: Tensor) -> Units:
    """Return the zero state for the batch of ``x``."""
    return tuple(channels_last(x.new_zeros(x.shape[0], *p.shape)) for p in network.relaxing)
