"""Recordings of a phase of a spiking model, tick by tick.

The step is that of the dynamics, so a phase without a recording costs nothing extra. Memory does not grow with the number of ticks,
except for one number for each population and tick, and for a few chosen units, whose spikes, values and decoded values are stored.
The decoded value is that of a unit's own train at the receiving end,

    z_t  =  (1 - lambda) z_{t-1} + lambda q_t,        with lambda of tick t + 1, at which the spike is read.

It follows the value that the unit sends. The decoder of a unit holds the sum of these over its synapses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple
from warnings import warn

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError, instance, non_negative_int
from eqprop._core.state import State
from eqprop.models.model import Model, relax
from eqprop.network import Network
from eqprop.solvers.settle import Settle
from eqprop.spiking.dynamics import Spiking, SpikingState
from eqprop.spiking.saturation import saturated_shares
from eqprop.spiking.step_sizes import step_size_at

__all__ = ["Recording", "Traces", "UnitChoice", "active_units", "record", "spiking_dynamics"]

UnitChoice = int | Mapping[int, Sequence[int]]
"""Units to trace: indices in the flattened population, by its number; or a number of evenly spaced units in each."""


class Traces(NamedTuple):
    """Traces of ``k`` units of a population.

    Attributes:
        units: indices in the flattened population.
        spike: 0 or 1: ``(T, B, k)``.
        value: value sent, the potential or the input: ``(T, B, k)``.
        decoded: value decoded from the spikes up to and including the tick: ``(T, B, k)``.
    """

    units: tuple[int, ...]
    spike: Tensor
    value: Tensor
    decoded: Tensor


@dataclass(frozen=True, eq=False)
class Recording:
    """A recorded phase of T ticks.

    Attributes:
        populations: numbers of the spiking populations; 0 is the input.
        ticks: tick numbers, counted from 1 over all phases of a sample.
        beta: nudging strength; 0 for a free phase.
        lam: lambda with which the spikes of each tick are decoded.
        counts: spikes of each unit over the phase: ``(B, *shape)`` for each population.
        activity: spikes per unit at each tick, averaged over population and batch: ``(populations, T)``.
        saturation: share of coders with ``|phi| > 1/2`` at each tick: ``(populations, T)``.
        traces: of the chosen units, by population.
        state: at the end of the phase.
    """

    populations: tuple[int, ...]
    ticks: range
    beta: float
    lam: tuple[float, ...]
    counts: tuple[Tensor, ...]
    activity: Tensor
    saturation: Tensor
    traces: Mapping[int, Traces]
    state: SpikingState

    @property
    def rates(self) -> tuple[Tensor, ...]:
        """Spikes per tick of each unit, at most 1: ``(B, *shape)`` for each population."""
        return tuple(count / len(self.ticks) for count in self.counts)

    @property
    def spikes(self) -> float:
        """Spikes of all units over the phase, averaged over samples."""
        return sum(count.double().sum().item() for count in self.counts) / self.counts[0].shape[0]

    @property
    def spikes_per_unit(self) -> float:
        """Spikes per unit and tick, averaged over all spiking units."""
        return self.spikes / (len(self.ticks) * sum(count[0].numel() for count in self.counts))

    @property
    def wound_up(self) -> Tensor:
        """Deprecated alias of ``saturation``."""
        warn("`Recording.wound_up` was renamed: use `Recording.saturation`", DeprecationWarning, stacklevel=2)
        return self.saturation


def record(
    model: Model,
    x: Tensor,
    steps: int | Settle,
    y: Tensor | None = None,
    beta: float = 0.0,
    state: SpikingState | Recording | None = None,
    units: UnitChoice = 0,
) -> Recording:
    """Run one phase of a spiking model as `relax` does, and record its spikes.

    Args:
        model: a spiking model.
        x: input, ``(B, *shape)``.
        steps: number of ticks, or `Settle`.
        y: target, ``(B,)`` classes or ``(B, n)`` floats.
        beta: nudging strength; needs ``y``.
        state: initial state, or the recording to continue; zero by default. The decoded values of units that the recording traced
            continue; those of other units start at the value sent.
        units: units to trace; by default those of the recording to continue, if any.

    Raises:
        ValueError: if an argument is invalid, or the model does not spike.
        FloatingPointError: if the input, a weight or a state is not finite.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 8, 3], dynamics=ep.Spiking())
    >>> recording = record(model, torch.rand(5, 4), 20, units=2)
    >>> [tuple(count.shape) for count in recording.counts], tuple(recording.traces[1].spike.shape)
    ([(5, 4), (5, 8), (5, 3)], (20, 5, 2))
    """
    dynamics, network = spiking_dynamics(model), model.network
    last = state if isinstance(state, Recording) else None
    start = last.state if last else state
    if last and not units:
        units = {n: traces.units for n, traces in last.traces.items()}
    with torch.inference_mode(False), torch.no_grad():
        sent = dynamics.encode(network, network.check_input(x)) if dynamics.input == "spikes" else None
    recorder = _Recorder(dynamics, sent, _select_units(units, network, dynamics), last or start)
    relax(model, x, steps, y, beta, start, on_step=recorder.on_step)  # pyright: ignore[reportArgumentType]
    return recorder.recording(beta)


def spiking_dynamics(model: Model) -> Spiking:
    """Return the dynamics of a spiking model.

    Raises:
        ArgumentError: if the model does not spike.
    """
    dynamics = instance("model", model, Model).dynamics
    if not isinstance(dynamics, Spiking):
        raise ArgumentError(
            "model", f"`model` must have spiking dynamics, got {dynamics!r}: build it with `dynamics=Spiking()`"
        )
    return dynamics


def _select_units(units: UnitChoice, network: Network, dynamics: Spiking) -> dict[int, tuple[int, ...]]:
    """Return the indices of the units to trace, by population."""
    sizes = {n: prod(p.shape) for n, p in enumerate(network.populations) if n or dynamics.input == "spikes"}
    if not isinstance(units, Mapping):
        few = non_negative_int("units", units)
        return {n: _evenly_spaced(size, few) for n, size in sizes.items()} if few else {}
    for n, places in units.items():
        if n not in sizes:
            raise ArgumentError("units", f"`units` must name spiking populations, {[*sizes]}, got {n}")
        if not all(0 <= place < sizes[n] for place in places):
            raise ArgumentError("units", f"`units` of population {n} must be from 0 to {sizes[n] - 1}, got {[*places]}")
    return {n: tuple(places) for n, places in units.items()}


def _evenly_spaced(size: int, few: int) -> tuple[int, ...]:
    """Return at most ``few`` of ``size`` indices, evenly spaced: (1, 5, 8) for 3 of 10."""
    few = min(few, size)
    return tuple((2 * n + 1) * size // (2 * few) for n in range(few))


def active_units(recording: Recording, sample: int, few: int) -> dict[int, tuple[int, ...]]:
    """Return at most ``few`` units of each population, evenly spaced among those that spiked in a sample, or among all."""
    units = {}
    for n, count in zip(recording.populations, recording.counts, strict=True):
        fired = count[sample].flatten().nonzero().flatten().tolist()
        among = fired if len(fired) >= few else range(count[0].numel())
        units[n] = tuple(among[place] for place in _evenly_spaced(len(among), few))
    return units


class _Recorder:
    """Accumulates the numbers of a recording over ticks, on the device.

    Args:
        dynamics: of the phase.
        sent: values of a spiking input.
        units: indices of the units to trace, by population.
        before: the recording or the state to continue; None for the zero state.
    """

    def __init__(
        self,
        dynamics: Spiking,
        sent: Tensor | None,
        units: Mapping[int, Sequence[int]],
        before: Recording | SpikingState | None,
    ) -> None:
        self.dynamics, self.sent, self.units, self.before = dynamics, sent, units, before
        self.counts: list[Tensor] = []
        self.activity: list[Tensor] = []
        self.saturation: list[Tensor] = []
        self.lam: list[float] = []
        self.kept: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {n: [] for n in units}

    def on_step(self, state: State) -> None:
        assert isinstance(state, SpikingState)
        self.state = state
        self.counts = [q + count for q, count in zip(state.spike, self.counts or [0.0] * len(state.spike), strict=True)]
        self.activity.append(torch.stack([q.mean() for q in state.spike]))
        self.saturation.append(saturated_shares(state))
        self.lam.append(step_size_at(self.dynamics.lam, state.tick + 1))
        values = self.values(state)
        for n, places in self.units.items():
            q, value = _select(state.spike[list(values).index(n)], places), _select(values[n], places)
            last = self.kept[n][-1][2] if self.kept[n] else self._initial_decoded(n, places, value)
            self.kept[n].append((q, value, torch.lerp(last, q, self.lam[-1])))

    def values(self, state: SpikingState) -> dict[int, Tensor]:
        """Return the values that the spiking populations send, by number."""
        first = {} if self.sent is None else {0: self.sent}
        return first | dict(enumerate(state.potential, start=1))

    def _initial_decoded(self, n: int, places: Sequence[int], like: Tensor) -> Tensor:
        """Return the decoded values of units before the first tick of the phase."""
        if self.before is None:
            return torch.zeros_like(like)
        if isinstance(self.before, SpikingState):
            return _select(self.values(self.before)[n], places)
        kept = self.before.traces.get(n)
        if kept is None or kept.units != tuple(places):
            return _select(self.values(self.before.state)[n], places)
        return kept.decoded[-1].to(like.device)

    def recording(self, beta: float) -> Recording:
        traces = {
            n: Traces(tuple(self.units[n]), *(torch.stack(each).cpu() for each in zip(*ticks, strict=True)))
            for n, ticks in self.kept.items()
        }
        end = self.state.tick
        return Recording(
            tuple(self.values(self.state)),
            range(end - len(self.lam) + 1, end + 1),
            beta,
            tuple(self.lam),
            tuple(self.counts),
            torch.stack(self.activity, 1).cpu(),
            torch.stack(self.saturation, 1).float().cpu(),
            traces,
            self.state,
        )


def _select(values: Tensor, places: Sequence[int]) -> Tensor:
    """Return the values of some units: ``(B, k)``."""
    return values.flatten(1)[:, list(places)]
