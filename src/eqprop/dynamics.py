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
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, TypeAlias
from warnings import warn

import torch
from torch import Tensor

from eqprop.checks import one_of, positive
from eqprop.images import channels_last
from eqprop.network import Activities, Drive, Network
from eqprop.state import State, Units

__all__ = ["Blockwise", "Duality", "Dynamics", "EnergyDescent", "Force", "Prototypical"]

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

    still_input: ClassVar[bool] = True
    """Whether the current that the input causes stands still as long as the weights do."""

    mixes: ClassVar[bool] = False
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

    def within(self, network: Network, state: State) -> State:
        """A state that mixes others, put back where steps may set out from: as it is, for some."""
        return state

    def twin(self) -> "Dynamics":
        """Dynamics whose steps have a gradient, with the same units at rest: these themselves, for most."""
        return self

    def suit(self, network: Network) -> None:  # noqa: B027 - most move any network
        """Refuse a network that these dynamics cannot move.

        Raises:
            ValueError: if there is a reason.
        """

    @abstractmethod
    def energy(self, network: Network, state: State, x: Tensor) -> Tensor:
        """The energy that the free dynamics descend: ``(B,)``."""

    @abstractmethod
    def duality(self, network: Network, state: State, drive: Drive) -> Duality:
        """How a step from ``state`` answers to a step of backpropagation through time."""

    @abstractmethod
    def admit(self, beta: float) -> None:
        """Refuse, or warn of, a nudging strength that these dynamics do not bear."""


class Blockwise(Dynamics):
    """Dynamics whose populations can move by groups, while the others stand still: what asynchronous schedules ask for."""

    @abstractmethod
    def move(
        self, network: Network, state: State, drive: Drive, group: Sequence[int], force: Force | None = None
    ) -> State:
        """The state after a step of the populations ``group`` alone, by number; no edge joins two of them. Else as `step`."""


def zeros(network: Network, x: Tensor) -> Units:
    """The zero state for the batch of ``x``."""
    return tuple(channels_last(x.new_zeros(x.shape[0], *p.shape)) for p in network.relaxing)


@dataclass(frozen=True)
class Prototypical(Blockwise):
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

    mixes: ClassVar[bool] = True
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
        return zeros(network, x)

    def step(self, network: Network, state: State, drive: Drive, force: Force | None = None) -> State:
        """``rho(u) + f`` or ``rho(u + f)``."""
        v = drive.currents(state)
        if force is not None and self.nudge == "inside":
            v[-1] = torch.add(v[-1], force(state[-1]), alpha=network.relaxing[-1].activation.gain)
        s = [p.activation.fire(v_n) for p, v_n in zip(network.relaxing, v, strict=True)]
        if force is not None and self.nudge == "outside":
            s[-1] = s[-1] + force(state[-1])
        return tuple(s)

    def move(
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
            s = rho.fire(v)
            moved[n - 1] = s + pull if pull is not None and self.nudge == "outside" else s
        return tuple(moved)

    def within(self, network: Network, state: State) -> State:
        """No unit below the least activity of its kind, as max pooling demands; the output, which may be nudged there, as it is."""
        low = [p.activation.lowest for p in network.relaxing[:-1]]
        return tuple(s if r == float("-inf") else s.clamp(min=r) for s, r in zip(state, low, strict=False)) + state[-1:]

    def activity(self, network: Network, state: State) -> Activities:
        """The state itself."""
        return state

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

    def admit(self, beta: float) -> None:
        """Outside nudges are refused at ``|beta| >= 1`` and warned of above 0.6."""
        if self.nudge == "inside" or abs(beta) <= 0.6:
            return
        reason = f"the outside nudge feeds the output back to itself with strength -beta: with `beta` = {beta!r} it"
        remedy = 'take a smaller one, or `Prototypical(nudge="inside")`'
        if abs(beta) >= 1:
            raise ValueError(f"{reason} cannot settle; {remedy}")
        warn(f"{reason} settles slowly; {remedy}", stacklevel=3)


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

    mixes: ClassVar[bool] = True
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
        return zeros(network, x)

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

    def within(self, network: Network, state: State) -> State:
        """Clamped, if so chosen."""
        return tuple(s.clamp(0, 1) for s in state) if self.clamp else state

    def activity(self, network: Network, state: State) -> Activities:
        """``rho(s)``."""
        return tuple(p.activation.rho(s) for p, s in zip(network.relaxing, state, strict=True))

    def energy(self, network: Network, state: State, x: Tensor) -> Tensor:
        """``1/2 |s|^2 - Phi(rho(x), rho(s))``: ``(B,)``."""
        phi = network.phi(self.encode(network, x), self.activity(network, state))
        squares = torch.stack([s.square().flatten(1).sum(1) for s in state])
        return squares.sum(0) / 2 - phi

    def duality(self, network: Network, state: State, drive: Drive) -> Duality:
        """``D = 1``."""
        return Duality(self.dt, tuple(torch.ones_like(s) for s in state), through=True)

    def admit(self, beta: float) -> None:
        """Every strength is borne."""
