r"""Dynamics: how the populations of a network move, one step at a time.

*Prototypical* (Ernoult et al. 2019, section 4.1): discrete time, activities ``s`` themselves are the state, raw input ``x``,

    s_{t+1} = rho(u) + f      (nudge "outside": the paper's)      or      s_{t+1} = rho(u + f)      (nudge "inside"),

with ``u = dPhi/ds`` at ``s_t`` and the force ``f = -beta dC/ds^L`` at ``s_t``, on the output alone. With the inside nudge EP
equals BPTT as beta -> 0. With the outside nudge it keeps a finite distance: the force skips ``rho'``.

*Energy-based*: Euler steps of ``ds/dt = -dE/ds - beta dC/ds``, ``E = 1/2 |s|^2 - Phi(rho(x), rho(s))``,

    s_{t+1} = s_t + dt (-s_t + rho'(s_t) u + f),        optionally clamped to [0, 1],

with ``u`` computed from the activities ``rho(x)`` and ``rho(s_t)``.

A dynamics is a frozen choice: state goes in and comes out. Only it knows what drives the network.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, TypeAlias

from torch import Tensor

from eqprop._core.memory_format import channels_last
from eqprop._core.state import State, Units
from eqprop.network import Activities, Drive, Network

__all__ = ["BlockDynamics", "Duality", "Dynamics", "Force", "zero_state"]

Force: TypeAlias = Callable[[Tensor], Tensor]
"""From the output population's state ``(B, *shape)`` to the force on it, same shape."""


class Duality(NamedTuple):
    """How a nudged step answers to a step of backpropagation through time, near a steady state.

    With ``J = dF/ds`` the Jacobian of a step, BPTT multiplies by ``J^T`` and EP by ``J``. Where the dynamics descend Phi there is a
    diagonal ``D`` such that ``J D`` is symmetric; if the nudge enters through ``D`` too, the increments of EP are minus
    ``D dL/ds``, step by step (Ernoult et al. 2019, theorem 1, where D = 1).

    Attributes:
        dt: duration of a step; increments of the state are ``(s_{t+1} - s_t) / (beta dt)``.
        slopes: the diagonal of ``D``, ``(B, *shape)`` a relaxing population.
        through: whether the nudge enters through ``D``. If not, increments are compared with ``dL/ds``, and keep a distance to it
            wherever ``D`` is not 1 at the output.
    """

    dt: float
    slopes: Units
    through: bool


class Dynamics(ABC):
    """What a settling loop asks of a dynamics; every method is pure."""

    spiking: ClassVar[bool] = False
    """Whether units exchange spikes. The gradient is then that of `differentiable_equivalent`."""

    static_input: ClassVar[bool] = True
    """Whether the current that the input causes stands still as long as the weights do."""

    supports_acceleration: ClassVar[bool] = False
    """Whether the state is the units alone and a step a fixed map of them, so that an acceleration may mix states."""

    @abstractmethod
    def encode(self, network: Network, x: Tensor) -> Tensor:
        """The input population's activity for the input ``x``: ``(B, *shape)``."""

    @abstractmethod
    def prepare(self, network: Network, x: Tensor) -> Drive:
        """What is constant while the input is ``x`` and the weights stay; once a batch."""

    @abstractmethod
    def init(self, network: Network, x: Tensor) -> State:
        """The state in which a free phase starts."""

    @abstractmethod
    def step(self, network: Network, state: State, drive: Drive, force: Force | None = None) -> State:
        """The next state. ``force`` is evaluated at the old one. Differentiable in state, drive and weights."""

    @abstractmethod
    def activity(self, network: Network, state: State) -> Activities:
        """Activities of the relaxing populations, as Phi takes them."""

    def units(self, state: State) -> Units:
        """One tensor a relaxing population: what costs read, forces act on and residuals compare. The state itself, for most."""
        return state

    def project(self, network: Network, state: State) -> State:
        """A state that mixes others, put back where steps may set out from: as it is, for some."""
        return state

    def differentiable_equivalent(self) -> "Dynamics":
        """Dynamics whose steps have a gradient, with the same units at rest: these themselves, for most."""
        return self

    def check_network(self, network: Network) -> None:  # noqa: B027 - most move any network
        """Refuse a network that these dynamics cannot move.

        Raises:
            ValueError: if there is a reason.
        """

    def batching_unsupported_reason(self) -> str | None:
        """Return why several networks cannot take their steps in one batch, or None where they can.

        The default is to refuse: a subclass may draw random numbers, which would depend on the other networks.
        """
        return f"{type(self).__name__} dynamics may draw at random"

    @abstractmethod
    def energy(self, network: Network, state: State, x: Tensor) -> Tensor:
        """The energy that the free dynamics descend: ``(B,)``."""

    @abstractmethod
    def duality(self, network: Network, state: State, drive: Drive) -> Duality:
        """How a step from ``state`` answers to a step of backpropagation through time."""

    @abstractmethod
    def check_beta(self, beta: float) -> None:
        """Refuse, or warn of, a nudging strength that these dynamics do not bear."""


class BlockDynamics(Dynamics):
    """Dynamics whose populations can move by groups, while the others stand still: what asynchronous schedules ask for."""

    @abstractmethod
    def step_group(
        self, network: Network, state: State, drive: Drive, group: Sequence[int], force: Force | None = None
    ) -> State:
        """The state after a step of the populations ``group`` alone, by number; no edge joins two of them. Else as `step`."""


def zero_state(network: Network, x: Tensor) -> Units:
    """The zero state for the batch of ``x``."""
    return tuple(channels_last(x.new_zeros(x.shape[0], *p.shape)) for p in network.relaxing)
