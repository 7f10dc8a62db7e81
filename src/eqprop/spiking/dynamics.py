r"""Spiking dynamics: units exchange bits and settle where the rate model settles.

One tick, synchronous for all units (O'Connor, Gavves & Welling 2019, "Training a spiking neural network with equilibrium
propagation"; the convolutional form follows Lin, Bal & Sengupta 2024 as far as it is published). Each unit has a potential u in
[0, 1], which it encodes as spikes, and a decoder r of the spikes that it receives:

    current    I  =  W q_below + W^T q_above                 of the spikes of the previous tick
    decode     r <-  (1 - lambda) r + lambda I
    move       u <-  clip((1 - eps) u + eps (r + b + f), 0, 1)           f = -beta dC/du on the output, else 0
    encode     q  =  code of u                               `eqprop.spiking.coders`

With ``decode="before"`` each spike train is decoded before the synapses, and r is ``W z + W^T z`` of the decoded trains z. Linear
synapses commute with decoding, so both forms are equal. Max pooling is not linear: applied to spikes, it yields neither the pooled
value nor the feedback path of the steady state (Lin et al.); applied to decoded trains, it yields both.

The *rate model* has I = W u + W^T u and r = I: Euler steps down the energy ``1/2 |u|^2 - Phi(x, u)`` (`EnergyDescent`). Its steady
state is that of the spiking network, up to the decoder's error. EP's contrast therefore uses potentials, and no spike needs a
gradient.

Time is counted in ticks. A phase continues the previous one with its whole state: potentials, decoders, coders, the coder of the
input, and the tick. The phases at -beta and beta start from the same state and share residuals or random numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from eqprop._core.checks import instance, one_of
from eqprop._core.state import State, Units
from eqprop.activations import ACTIVATIONS, find_clipped
from eqprop.dynamics.base import Duality, Dynamics, Force, zero_state
from eqprop.dynamics.energy import EnergyDescent
from eqprop.network import Activities, Drive, Network
from eqprop.spiking.coders import Coder, SigmaDelta
from eqprop.spiking.step_sizes import OSA, Decay, StepSize, check_step_size, step_size_at
from eqprop.spiking.surrogates import clamp01

__all__ = ["Spiking", "SpikingState"]


class SpikingState(NamedTuple):
    """The state after a tick.

    The values that the coders sent last are the potentials and, for the input, x; they are not stored again.

    Attributes:
        potential: u of every relaxing population, ``(B, *shape)``, in [0, 1].
        trace: decoder states: r including the constant current, one tensor for each relaxing population; with ``decode="before"``
            the decoded train of each spiking population.
        spike: q of each spiking population, 0 or 1; the input's first, if it spikes.
        coder: memory of the coders, in the same order; the residuals phi for `SigmaDelta`.
        sizes: statistics of `OSA` for each relaxing population.
        tick: number of ticks so far.
    """

    potential: Units
    trace: tuple[Tensor, ...]
    spike: tuple[Tensor, ...]
    coder: State
    sizes: State
    tick: int


@dataclass(frozen=True)
class Spiking(Dynamics):
    """Spiking dynamics for any network whose activations are hard sigmoids.

    Args:
        eps: step size of the potentials: a number in (0, 1], `Decay` or `OSA`.
        lam: lambda, step size of the decoders: a number in (0, 1] or `Decay`. The decoding error is at most lambda; below 0.1,
            coders saturate at the start of a phase.
        coder: `SigmaDelta` or `Bernoulli`.
        input: "spikes" encodes the input as spikes; "current" injects its current directly. Both clip it to [0, 1], as the rate
            model does.
        decode: "after" the synapses, with one decoder for each unit, or "before", with one for each spike train, as max pooling
            needs. With "after" the decoder also holds the constant current: if weights or input change within a phase, that current
            follows with the decoder's delay, as spikes do.

    Raises:
        ValueError: if an argument is invalid; when a model is built, if an activation is not a hard sigmoid.

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
    comes_to_rest: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_step_size("eps", self.eps, Decay, OSA)
        check_step_size("lam", self.lam, Decay)
        instance("coder", self.coder, Coder)
        one_of("input", self.input, ("spikes", "current"))
        one_of("decode", self.decode, ("after", "before"))

    def check_network(self, network: Network) -> None:
        """Require hard sigmoids.

        Raises:
            ValueError: if a population has another activation.
        """
        for n, population in enumerate(network.relaxing, start=1):
            if population.activation is not ACTIVATIONS["hard_sigmoid"]:
                raise ValueError(
                    f"spiking dynamics need hard sigmoids, since spike rates are from 0 to 1, but population {n} has "
                    f'{population.activation!r}: use activation="hard_sigmoid"'
                )

    def encode(self, network: Network, x: Tensor) -> Tensor:
        """Return the input clipped to [0, 1], as real values, which the contrast uses."""
        return ACTIVATIONS["hard_sigmoid"].rho(x)

    def clipped_input(self, network: Network, x: Tensor) -> Tensor:
        """Return which values are outside of [0, 1]."""
        return find_clipped(ACTIVATIONS["hard_sigmoid"], x)

    def prepare(self, network: Network, x: Tensor) -> Drive:
        """Prepare the connections; biases, and the current of an input that does not spike, are constant."""
        return network.prepare(self.encode(network, x), static=self.input == "current")

    def init(self, network: Network, x: Tensor) -> SpikingState:
        """Return potentials, decoders and coders at zero."""
        potential = zero_state(network, x)
        trains = self._values(torch.zeros_like(x), potential)
        trace = potential if self.decode == "after" else trains
        sizes = tuple(self.eps.init(u) for u in potential) if isinstance(self.eps, OSA) else ()
        return SpikingState(potential, trace, trains, self.coder.init(trains), sizes, 0)

    def step(self, network: Network, state: State, drive: Drive, force: Force | None = None) -> SpikingState:
        """Run one tick. Gradients through spikes and bounds are those of `eqprop.spiking.surrogates`."""
        assert isinstance(state, SpikingState)
        tick = state.tick + 1
        received, trace = self._decode(state, drive, tick)
        if force is not None:
            received[-1] = received[-1] + force(state.potential[-1])
        potential, sizes = self._move(state, received, tick)
        now = self._values(drive.input, potential)
        before = self._values(drive.input if state.tick else torch.zeros_like(drive.input), state.potential)
        spike, coder = self.coder.encode(now, before, state.coder, step_size_at(self.lam, tick + 1), tick)
        return SpikingState(potential, trace, tuple(spike), coder, sizes, tick)

    def activity(self, network: Network, state: State) -> Activities:
        """Return the potentials; the hard sigmoid does not change values in [0, 1]."""
        assert isinstance(state, SpikingState)
        return state.potential

    def units(self, state: State) -> Units:
        """Return the potentials."""
        assert isinstance(state, SpikingState)
        return state.potential

    def differentiable_equivalent(self) -> EnergyDescent:
        """Return Euler steps with rates instead of spikes, of step size eps, or 1/2 where eps is not constant."""
        return EnergyDescent(dt=self.eps if isinstance(self.eps, int | float) else 0.5)

    def energy(self, network: Network, state: State, x: Tensor) -> Tensor:
        """Return the rate model's energy at the potentials, ``1/2 |u|^2 - Phi(x, u)``: ``(B,)``."""
        return self.differentiable_equivalent().energy(network, self.units(state), x)

    def duality(self, network: Network, state: State, drive: Drive) -> Duality:
        """Return the duality of the rate model."""
        return self.differentiable_equivalent().duality(network, self.units(state), drive)

    def check_beta(self, beta: float) -> None:
        """Accept any ``beta``."""

    def _values(self, x: Tensor, potential: Units) -> tuple[Tensor, ...]:
        """Return the values to encode as spikes."""
        return (x, *potential) if self.input == "spikes" else potential

    def _decode(self, state: SpikingState, drive: Drive, tick: int) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """Return the decoded input of each unit, with the constant current, and the new traces."""
        lam = step_size_at(self.lam, tick)
        if self.decode == "before":
            trace = tuple(torch.lerp(z, q, lam) for z, q in zip(state.trace, state.spike, strict=True))
            return self._currents(drive, trace), trace
        if not state.tick:  # before the first spikes: decoders start at the constant current
            return list(drive.constant), drive.constant
        # A constant passes the decoder unchanged, so that r holds it at no extra cost.
        before = map(_attach_constant, state.trace, drive.constant)
        trace = [torch.lerp(r, i, lam) for r, i in zip(before, self._currents(drive, state.spike), strict=True)]
        return trace, tuple(trace)

    def _currents(self, drive: Drive, trains: Sequence[Tensor]) -> list[Tensor]:
        """Return the currents of spikes or decoded trains."""
        if self.input == "current":
            return drive.currents(trains)
        return drive.currents(trains[1:], trains[0])

    def _move(self, state: SpikingState, received: Sequence[Tensor], tick: int) -> tuple[Units, State]:
        """Return the new potentials and the new statistics of `OSA`."""
        if isinstance(self.eps, OSA):
            updates = [self.eps.update(r, stats, tick) for r, stats in zip(received, state.sizes, strict=True)]
            eps, sizes = [size for size, _ in updates], tuple(stats for _, stats in updates)
        else:
            eps, sizes = [step_size_at(self.eps, tick)] * len(received), ()
        units = zip(state.potential, received, eps, strict=True)
        return tuple(clamp01(torch.lerp(u, r, e)) for u, r, e in units), sizes


def _attach_constant(trace: Tensor, constant: Tensor) -> Tensor:
    """Reconnect a detached trace to the graph of the constant current it holds, where only the last ticks are differentiated."""
    if torch.is_grad_enabled() and constant.requires_grad and not trace.requires_grad:
        return trace + (constant - constant.detach())
    return trace
