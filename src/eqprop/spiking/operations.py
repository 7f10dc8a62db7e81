r"""Operation counts of a spiking network and of its rate model.

Each spike adds one weight at every unit that receives it, in the layer above and, since the network is recurrent, in the layer
below: as many *synaptic operations* as the unit's fan-out. For a convolution the fan-out counts the pairs of units that the kernel
joins. Average pooling is folded into the kernel (`eqprop.connections.correlation`): a spike reaches every pooled unit whose window
covers it once. Units at a border, or in a row that fills no window, have a smaller fan-out. The input receives nothing. Biases and
the arithmetic of units do not count.

The rate model multiplies and accumulates at every pair and every tick. With a spike of every unit at every tick the two counts
would be equal; their ratio is the mean rate, weighted by fan-out. Energy also depends on the hardware and is not estimated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError, instance
from eqprop.models.model import Model
from eqprop.network import Network
from eqprop.spiking.recording import Recording, spiking_dynamics

__all__ = ["Operations", "fan_out", "operations"]


@dataclass(frozen=True)
class Operations:
    """Operation counts of one sample, averaged over a batch.

    Attributes:
        spikes: spikes of all units, including a spiking input.
        synops: synaptic operations of these spikes.
        macs: multiply-accumulates of the rate model in as many steps, at every pair of units and every step.
        macs_cached: ``macs`` with the constant current of the input computed once, as in this library.
    """

    spikes: float
    synops: float
    macs: float
    macs_cached: float


def operations(model: Model, *phases: Recording) -> Operations:
    """Count the operations of recorded phases: the free one for an inference, free and nudged ones for a training step.

    Args:
        model: a spiking model.
        phases: recordings by `record`; the first one starts from the initial state.

    Raises:
        ValueError: if the model does not spike, decodes trains before the synapses, or has a fan-out that is unknown or depends on
            the state.

    >>> import torch, eqprop as ep
    >>> from eqprop.spiking import record
    >>> model = ep.mlp([4, 8, 3], dynamics=ep.Spiking())
    >>> operations(model, record(model, torch.rand(5, 4), 20)).macs == 20 * (4 * 8 + 2 * 8 * 3)
    True
    """
    if spiking_dynamics(model).decode == "before":
        raise ArgumentError(
            "model", 'synaptic operations need decode="after": with "before" synapses carry real values'
        )
    fans = fan_out(model.network)
    totals = [fan.sum().item() for fan in fans]
    ticks = sum(len(phase.ticks) for phase in phases)
    return Operations(
        sum(phase.spikes for phase in phases),
        sum(_synops(phase, fans) for phase in phases),
        sum(totals) * ticks,
        sum(totals[1:]) * ticks + totals[0] * min(ticks, 1),
    )


def _synops(phase: Recording, fans: Sequence[Tensor]) -> float:
    """Return the synaptic operations of one sample, averaged over the batch."""
    counts = zip(phase.populations, phase.counts, strict=True)
    return sum((count.double().sum(0).cpu() * fans[n]).sum().item() for n, count in counts) / phase.counts[0].shape[0]


def fan_out(network: Network) -> tuple[Tensor, ...]:
    """Return the fan-out of every unit over all connections, as a float64 tensor of each population's shape, input first.

    Raises:
        ValueError: if the fan-out of a connection is unknown or depends on the state.

    >>> import eqprop as ep
    >>> [fan.unique().tolist() for fan in fan_out(ep.mlp([4, 8, 3]).network)]
    [[8.0], [3.0], [8.0]]
    """
    fans = [torch.zeros(p.shape, dtype=torch.double) for p in instance("network", network, Network).populations]
    shapes = [p.shape for p in network.populations]
    for pre, post, connection in network.edges():
        up, down = connection.fan_out(shapes[pre], shapes[post])
        fans[pre] += up
        if pre:
            fans[post] += down
    return tuple(fans)
