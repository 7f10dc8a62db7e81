r"""Spiking dynamics: units exchange bits, and settle where their real-valued twin does.

One tick, all units at once (O'Connor, Gavves & Welling 2019, "Training a spiking neural network with equilibrium propagation"; the
convolutional form is that of Lin, Bal & Sengupta 2024 as far as it is known). Each unit has a potential u in [0, 1], which is the
value that it sends, and a decoder r of what it receives:

    current    I  =  W q_below + W^T q_above                 of the spikes of the last tick
    decode     r <-  (1 - lambda) r + lambda I
    move       u <-  clip((1 - eps) u + eps (r + b + f), 0, 1)           f = -beta dC/du on the output, else 0
    encode     q  =  code of u                               `eqprop.spiking.coders`

With ``decode="before"`` each spike train is decoded where it arrives, before the synapses, and r is ``W z + W^T z`` of the
decoded trains z. Synapses that are linear commute with decoding, and both are the same. Max pooling is not linear: taken of spikes
it gives neither the pooled value nor the way back of the state at rest (Lin et al.), taken of decoded trains it gives both.

*The twin* has I = W u + W^T u and r = I: Euler steps down the energy ``1/2 |u|^2 - Phi(x, u)`` (`EnergyDescent`). Its steady state
is where the spiking one settles, up to the decoder's error, so that EP's contrast takes potentials: no spike needs a gradient.

Time is counted in ticks. A phase goes on where the last one ended, with everything: potentials, decoders, coders, the coder of the
input, the count of ticks. The phases at -beta and beta start from the same state and share what the coders owe, or draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from eqprop._core.checks import instance, one_of
from eqprop._core.state import State, Units
from eqprop.activations import NAMED
from eqprop.dynamics.base import Duality, Dynamics, Force, zero_state
from eqprop.dynamics.energy import EnergyDescent
from eqprop.network import Activities, Drive, Network
from eqprop.spiking.coders import Coder, SigmaDelta
from eqprop.spiking.step_sizes import OSA, Decay, StepSize, check_step_size, step_size_at
from eqprop.spiking.surrogates import bounded

__all__ = ["Spiking", "SpikingState"]


class SpikingState(NamedTuple):
    """All that a tick leaves to the next one.

    What the coders sent last is the potential itself, and the input's is x, so that it has no place of its own.

    Attributes:
        potential: u of every relaxing population, ``(B, *shape)``, in [0, 1].
        trace: what is decoded: r with the constant current, one tensor a relaxing population; with ``decode="before"`` the train of
            each population that spikes.
        spike: q of each population that spikes, 0 or 1; the input's first, if that comes in spikes.
        coder: what the coders remember, likewise; of `SigmaDelta` the residuals phi.
        sizes: what `OSA` keeps of each relaxing population.
        tick: ticks so far.
    """

    potential: Units
    trace: tuple[Tensor, ...]
    spike: tuple[Tensor, ...]
    coder: State
    sizes: State
    tick: int


@dataclass(frozen=True)
class Spiking(Dynamics):
    """Units that exchange spikes, for any network whose activations are hard sigmoids.

    Args:
        eps: how far a potential moves in a tick: a number in (0, 1], `Decay` or `OSA`.
        lam: lambda, how much a decoder takes of what comes in at a tick: a number in (0, 1] or `Decay`. The decoded value errs by
            at most that much; below 0.1, coders wind up at the start.
        coder: `SigmaDelta` or `Bernoulli`.
        input: "spikes" sends the input through a coder of its own; "current" gives its current without one. Both clip it to
            [0, 1], as the twin does.
        decode: "after" the synapses, one decoder a unit, or "before", one a spike train, as max pooling needs it. "after"
            holds the constant current too: where weights or the input change within a phase, it follows as spikes do.

    Raises:
        ValueError: if one is of another kind; on building a model, if an activation is no hard sigmoid.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 8, 3], dynamics=Spiking(), settle=50)
    >>> model(torch.rand(5, 4)).shape
    torch.Size([5, 3])
    """

    eps: StepSize = 0.5
    lam: float | Decay = 0.2
    coder: Coder = field(default_factory=SigmaDelta)
    input: Literal["spikes", "current"] = "spikes"
    decode: Literal["after", "before"] = "after"

    spiking: ClassVar[bool] = True
    static_input: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_step_size("eps", self.eps, Decay, OSA)
        check_step_size("lam", self.lam, Decay)
        instance("coder", self.coder, Coder)
        one_of("input", self.input, ("spikes", "current"))
        one_of("decode", self.decode, ("after", "before"))

    def check_network(self, network: Network) -> None:
        """Refuse activations whose values are not those of a potential."""
        for n, population in enumerate(network.relaxing, start=1):
            if population.activation is not NAMED["hard_sigmoid"]:
                raise ValueError(
                    f"spiking dynamics need hard sigmoids, since a rate of spikes is from 0 to 1, but population {n} has "
                    f'{population.activation!r}: take activation="hard_sigmoid"'
                )

    def encode(self, network: Network, x: Tensor) -> Tensor:
        """The input within [0, 1], exact and not as spikes: what the contrast takes."""
        return NAMED["hard_sigmoid"].rho(x)

    def prepare(self, network: Network, x: Tensor) -> Drive:
        """Wires for every spike train; biases, and the current of an input that does not spike, stand still."""
        return network.prepare(self.encode(network, x), static=self.input == "current")

    def init(self, network: Network, x: Tensor) -> SpikingState:
        """Potentials, decoders and coders at zero."""
        potential = zero_state(network, x)
        trains = self._values(torch.zeros_like(x), potential)
        trace = potential if self.decode == "after" else trains
        sizes = tuple(self.eps.begin(u) for u in potential) if isinstance(self.eps, OSA) else ()
        return SpikingState(potential, trace, trains, self.coder.begin(trains), sizes, 0)

    def step(self, network: Network, state: State, drive: Drive, force: Force | None = None) -> SpikingState:
        """One tick. Where gradients are on, spikes and bounds have the slopes of `eqprop.spiking.surrogates`."""
        assert isinstance(state, SpikingState)
        tick = state.tick + 1
        pressure, trace = self._received(state, drive, tick)
        if force is not None:
            pressure[-1] = pressure[-1] + force(state.potential[-1])
        potential, sizes = self._moved(state, pressure, tick)
        now = self._values(drive.input, potential)
        before = self._values(drive.input if state.tick else torch.zeros_like(drive.input), state.potential)
        spike, coder = self.coder.encode(now, before, state.coder, step_size_at(self.lam, tick + 1), tick)
        return SpikingState(potential, trace, tuple(spike), coder, sizes, tick)

    def activity(self, network: Network, state: State) -> Activities:
        """The potentials, which the hard sigmoid leaves as they are."""
        assert isinstance(state, SpikingState)
        return state.potential

    def units(self, state: State) -> Units:
        """The potentials."""
        assert isinstance(state, SpikingState)
        return state.potential

    def differentiable_equivalent(self) -> EnergyDescent:
        """Euler steps of the same network with rates in the place of spikes, of the size eps or, where that is no constant, 1/2."""
        return EnergyDescent(dt=self.eps if isinstance(self.eps, int | float) else 0.5)

    def energy(self, network: Network, state: State, x: Tensor) -> Tensor:
        """The twin's, ``1/2 |u|^2 - Phi(x, u)``, at the potentials: ``(B,)``."""
        return self.differentiable_equivalent().energy(network, self.units(state), x)

    def duality(self, network: Network, state: State, drive: Drive) -> Duality:
        """The twin's."""
        return self.differentiable_equivalent().duality(network, self.units(state), drive)

    def check_beta(self, beta: float) -> None:
        """Every strength is borne."""

    def _values(self, x: Tensor, potential: Units) -> tuple[Tensor, ...]:
        """What is sent as spikes."""
        return (x, *potential) if self.input == "spikes" else potential

    def _received(self, state: SpikingState, drive: Drive, tick: int) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """What presses on each unit, constant current included, and the new traces."""
        lam = step_size_at(self.lam, tick)
        if self.decode == "before":
            trace = tuple(torch.lerp(z, q, lam) for z, q in zip(state.trace, state.spike, strict=True))
            return self._currents(drive, trace), trace
        if not state.tick:  # no spike has come yet: decoders start at the constant current
            return list(drive.constant), drive.constant
        # The constant current passes the decoder, which changes nothing, and costs nothing more.
        before = map(carried, state.trace, drive.constant)
        trace = [torch.lerp(r, i, lam) for r, i in zip(before, self._currents(drive, state.spike), strict=True)]
        return trace, tuple(trace)

    def _currents(self, drive: Drive, trains: Sequence[Tensor]) -> list[Tensor]:
        """Through the synapses."""
        if self.input == "current":
            return drive.currents(trains)
        return drive.currents(trains[1:], trains[0])

    def _moved(self, state: SpikingState, pressure: Sequence[Tensor], tick: int) -> tuple[Units, State]:
        """The new potentials, and what `OSA` keeps."""
        if isinstance(self.eps, OSA):
            follow = self.eps.follow
            followed = [follow(p, seen, tick) for p, seen in zip(pressure, state.sizes, strict=True)]
            eps, sizes = [size for size, _ in followed], tuple(seen for _, seen in followed)
        else:
            eps, sizes = [step_size_at(self.eps, tick)] * len(pressure), ()
        moved = zip(state.potential, pressure, eps, strict=True)
        return tuple(bounded(torch.lerp(u, p, e)) for u, p, e in moved), sizes


def carried(trace: Tensor, constant: Tensor) -> Tensor:
    """A trace without a graph, where the last ticks alone are differentiated, with that of the constant current it holds."""
    if torch.is_grad_enabled() and constant.requires_grad and not trace.requires_grad:
        return trace + (constant - constant.detach())
    return trace
