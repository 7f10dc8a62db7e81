r"""What spikes cost: synaptic operations, beside the products that the rate twin takes.

A spike of a unit is added up, weight by weight, by every unit that it goes to, upwards and, since the network is recurrent,
downwards: as many *synaptic operations* as the unit's fan-out. Of a convolution these are the pairs of units that the kernel joins.
Average pooling is folded into it (`eqprop.connections.correlation`): a spike goes to every pooled unit whose window sees it, once. Units at a
border, or in a row that fills no window, have fewer. Nothing flows into the input. Biases and units' own arithmetic do not count.

The rate twin multiplies and adds at every pair, at every tick. If every unit fired at every tick the two counts would be the same;
their ratio is the mean rate, weighted by fan-out. They are counts, and no energies: what an operation costs, a chip decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eqprop.models.model import Model
from eqprop.network import Network
from eqprop.spiking.recording import Recording, spiking

__all__ = ["Operations", "fan_out", "operations"]


@dataclass(frozen=True)
class Operations:
    """What one sample costs, on average over a batch.

    Attributes:
        spikes: of all units, the input's included if it spikes.
        synops: synaptic operations of these spikes.
        macs: multiply-accumulates of the rate twin in as many steps, at every pair of units and every step.
        macs_cached: the same if the current of the input, which stands still, is computed once, as this library does.
    """

    spikes: float
    synops: float
    macs: float
    macs_cached: float


def operations(model: Model, *phases: Recording) -> Operations:
    """What recorded phases of a model cost: an inference is the free one, a training step that and the nudged ones.

    Args:
        model: the model, with spiking dynamics.
        phases: recorded by `record`, the first from the start of a batch.

    Raises:
        ValueError: if trains are decoded before the synapses, which then take no spikes, or a fan-out is not known or depends on
            the state.

    >>> import torch, eqprop as ep
    >>> from eqprop.spiking import record
    >>> model = ep.mlp([4, 8, 3], dynamics=ep.Spiking())
    >>> operations(model, record(model, torch.rand(5, 4), 20)).macs == 20 * (4 * 8 + 2 * 8 * 3)
    True
    """
    if spiking(model).decode == "before":
        raise ValueError(
            'with decode="before" synapses take decoded values and no spikes: there are no operations to count'
        )
    fans = fan_out(model.network)
    totals = [fan.sum().item() for fan in fans]
    ticks = sum(len(phase.ticks) for phase in phases)
    return Operations(
        sum(phase.spikes for phase in phases),
        sum(synops(phase, fans) for phase in phases),
        sum(totals) * ticks,
        sum(totals[1:]) * ticks + totals[0] * min(ticks, 1),
    )


def synops(phase: Recording, fans: Sequence[Tensor]) -> float:
    """Synaptic operations of one sample, on average."""
    counts = zip(phase.populations, phase.counts, strict=True)
    return sum((count.double().sum(0).cpu() * fans[n]).sum().item() for n, count in counts) / phase.counts[0].shape[0]


def fan_out(network: Network) -> tuple[Tensor, ...]:
    """To how many units, counted once a connection, each unit's spikes go: of every population's shape, the input's first; float64.

    Raises:
        ValueError: if a connection does not tell, or it depends on the state.

    >>> import eqprop as ep
    >>> [fan.unique().tolist() for fan in fan_out(ep.mlp([4, 8, 3]).network)]
    [[8.0], [3.0], [8.0]]
    """
    fans = [torch.zeros(p.shape, dtype=torch.double) for p in network.populations]
    shapes = [p.shape for p in network.populations]
    for pre, post, connection in network.edges():
        up, down = connection.fan_out(shapes[pre], shapes[post])
        fans[pre] += up
        if pre:
            fans[post] += down
    return tuple(fans)
