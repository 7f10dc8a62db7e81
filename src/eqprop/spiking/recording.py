"""Recording: a phase of a spiking model, watched tick by tick, as neuromorphic work looks at it.

The step is the dynamics' own, and nobody who does not record pays for it. What is kept does not grow with the number of ticks,
except for a number a population and tick, and for the few units that were chosen, whose spikes, values and decoded values are kept
whole. The decoded value is that of a unit's own train at the receiving end,

    z_t  =  (1 - lambda) z_{t-1} + lambda q_t,        lambda that of tick t + 1, at which the spike is read,

which follows the value that the unit sends; what a unit decodes of others is the sum of these, through the synapses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from eqprop._core.checks import non_negative_int
from eqprop._core.state import State
from eqprop.models.model import Model, relax
from eqprop.network import Network
from eqprop.solvers.settle import Settle
from eqprop.spiking.dynamics import Spiking, SpikingState
from eqprop.spiking.saturation import shares
from eqprop.spiking.step_sizes import step_size_at

__all__ = ["Choice", "Recording", "Traces", "record"]

Choice = int | Mapping[int, Sequence[int]]
"""Which units are kept whole: their places in the flattened population, by its number; or how many of each, evenly spaced."""


class Traces(NamedTuple):
    """What is kept of ``k`` units of a population.

    Attributes:
        units: their places in the flattened population.
        spike: 0 or 1: ``(T, B, k)``.
        value: what they send, the potential or the input's value: ``(T, B, k)``.
        decoded: what is decoded of their spikes up to and with that tick: ``(T, B, k)``.
    """

    units: tuple[int, ...]
    spike: Tensor
    value: Tensor
    decoded: Tensor


@dataclass(frozen=True, eq=False)
class Recording:
    """A phase of T ticks, watched.

    Attributes:
        populations: numbers of those that spike, the input's first; it is 0.
        ticks: their numbers, counted from 1 over all phases of a sample.
        beta: nudging strength of the phase, 0 if it was free.
        lam: lambda with which the spikes of each tick are decoded.
        counts: spikes of each unit over the phase: ``(B, *shape)`` each population.
        activity: spikes per unit at each tick, on average over the population and the batch: ``(populations, T)``.
        wound_up: share of coders with ``|phi| > 1/2`` at each tick: ``(populations, T)``.
        traces: of the chosen units, by population.
        state: at the end.
    """

    populations: tuple[int, ...]
    ticks: range
    beta: float
    lam: tuple[float, ...]
    counts: tuple[Tensor, ...]
    activity: Tensor
    wound_up: Tensor
    traces: Mapping[int, Traces]
    state: SpikingState

    @property
    def rates(self) -> tuple[Tensor, ...]:
        """Spikes per tick of each unit, at most 1: ``(B, *shape)`` each population."""
        return tuple(count / len(self.ticks) for count in self.counts)

    @property
    def spikes(self) -> float:
        """Of all units of one sample over the phase, on average."""
        return sum(count.double().sum().item() for count in self.counts) / self.counts[0].shape[0]

    @property
    def spikes_per_unit(self) -> float:
        """Spikes of a unit per tick, on average over all units that spike."""
        return self.spikes / (len(self.ticks) * sum(count[0].numel() for count in self.counts))


def record(
    model: Model,
    x: Tensor,
    steps: int | Settle,
    y: Tensor | None = None,
    beta: float = 0.0,
    state: SpikingState | Recording | None = None,
    units: Choice = 0,
) -> Recording:
    """Run one phase of a spiking model as `relax` does, and keep what its units do.

    Args:
        model: the model, with spiking dynamics.
        x: input, ``(B, *shape)``.
        steps: number of ticks, or `Settle`.
        y: target, ``(B,)`` classes or ``(B, n)`` floats.
        beta: nudging strength; needs ``y``.
        state: where to start; zero if left out. After a recording, decoded values of units that it kept go on too; of others, and
            from a bare state, they begin at the value that is sent.
        units: which to keep whole; those of the recording to go on from, if there is one and nothing else is said.

    Raises:
        ValueError: if an argument does not fit, or the dynamics do not spike.
        FloatingPointError: if the input, a weight or a state is not finite.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 8, 3], dynamics=ep.Spiking())
    >>> found = record(model, torch.rand(5, 4), 20, units=2)
    >>> [tuple(count.shape) for count in found.counts], tuple(found.traces[1].spike.shape)
    ([(5, 4), (5, 8), (5, 3)], (20, 5, 2))
    """
    dynamics, network = spiking(model), model.network
    last = state if isinstance(state, Recording) else None
    start = last.state if last else state
    if last and not units:
        units = {n: traces.units for n, traces in last.traces.items()}
    with torch.inference_mode(False), torch.no_grad():
        sent = dynamics.encode(network, network.check_input(x)) if dynamics.input == "spikes" else None
    watch = Watch(dynamics, sent, chosen(units, network, dynamics), last or start)
    relax(model, x, steps, y, beta, start, on_step=watch.see)  # pyright: ignore[reportArgumentType]
    return watch.recording(beta)


def spiking(model: Model) -> Spiking:
    """The model's dynamics.

    Raises:
        ValueError: if they do not spike.
    """
    if not isinstance(model.dynamics, Spiking):
        raise ValueError(
            f"`model` must have spiking dynamics, got {model.dynamics!r}: build it with `dynamics=Spiking()`"
        )
    return model.dynamics


def chosen(units: Choice, network: Network, dynamics: Spiking) -> dict[int, tuple[int, ...]]:
    """Places of the units to keep, by population.

    Raises:
        ValueError: if there is no such population or unit.
    """
    sizes = {n: prod(p.shape) for n, p in enumerate(network.populations) if n or dynamics.input == "spikes"}
    if not isinstance(units, Mapping):
        few = non_negative_int("units", units)
        return {n: spaced(size, few) for n, size in sizes.items()} if few else {}
    for n, places in units.items():
        if n not in sizes:
            raise ValueError(f"`units` names population {n}, but those that spike are {', '.join(map(str, sizes))}")
        if not all(0 <= place < sizes[n] for place in places):
            raise ValueError(f"`units` of population {n} must be from 0 to {sizes[n] - 1}, got {list(places)}")
    return {n: tuple(places) for n, places in units.items()}


def spaced(size: int, few: int) -> tuple[int, ...]:
    """At most so many places among ``size``, evenly spaced.

    >>> spaced(10, 3), spaced(2, 3)
    ((1, 5, 8), (0, 1))
    """
    few = min(few, size)
    return tuple((2 * n + 1) * size // (2 * few) for n in range(few))


def lively(recording: Recording, sample: int, few: int) -> dict[int, tuple[int, ...]]:
    """At most so many units of each population, evenly spaced among those that fired in a sample, if that are so many."""
    found = {}
    for n, count in zip(recording.populations, recording.counts, strict=True):
        fired = count[sample].flatten().nonzero().flatten().tolist()
        among = fired if len(fired) >= few else range(count[0].numel())
        found[n] = tuple(among[place] for place in spaced(len(among), few))
    return found


class Watch:
    """Running sums over ticks, on the device.

    Args:
        dynamics: of the phase.
        sent: the input's values, if it spikes.
        units: places of the units to keep, by population.
        before: the recording or the state that it goes on from; None from zero.
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
        self.wound: list[Tensor] = []
        self.lam: list[float] = []
        self.kept: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {n: [] for n in units}

    def see(self, state: State) -> None:
        """One tick."""
        assert isinstance(state, SpikingState)
        self.state = state
        self.counts = [q + count for q, count in zip(state.spike, self.counts or [0.0] * len(state.spike), strict=True)]
        self.activity.append(torch.stack([q.mean() for q in state.spike]))
        self.wound.append(shares(state))
        self.lam.append(step_size_at(self.dynamics.lam, state.tick + 1))
        values = self.values(state)
        for n, places in self.units.items():
            q, value = flat(state.spike[list(values).index(n)], places), flat(values[n], places)
            last = self.kept[n][-1][2] if self.kept[n] else self.decoded_before(n, places, value)
            self.kept[n].append((q, value, torch.lerp(last, q, self.lam[-1])))

    def values(self, state: SpikingState) -> dict[int, Tensor]:
        """What all populations that spike send, by number."""
        first = {} if self.sent is None else {0: self.sent}
        return first | dict(enumerate(state.potential, start=1))

    def decoded_before(self, n: int, places: Sequence[int], like: Tensor) -> Tensor:
        """Decoded values of units before the first tick of the phase."""
        if self.before is None:
            return torch.zeros_like(like)
        if isinstance(self.before, SpikingState):
            return flat(self.values(self.before)[n], places)
        kept = self.before.traces.get(n)
        if kept is None or kept.units != tuple(places):
            return flat(self.values(self.before.state)[n], places)
        return kept.decoded[-1].to(like.device)

    def recording(self, beta: float) -> Recording:
        """What was seen."""
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
            torch.stack(self.wound, 1).float().cpu(),
            traces,
            self.state,
        )


def flat(values: Tensor, places: Sequence[int]) -> Tensor:
    """The values of some units: ``(B, k)``."""
    return values.flatten(1)[:, list(places)]
