"""Spiking convergent networks: coders, step sizes, dynamics, export to NIR."""

from eqprop.spiking.coders import Bernoulli, Coder, SigmaDelta
from eqprop.spiking.dynamics import Spiking, SpikingState
from eqprop.spiking.nir import input_spikes, to_nir, write_nir
from eqprop.spiking.sizes import OSA, Decay

__all__ = [
    "OSA",
    "Bernoulli",
    "Coder",
    "Decay",
    "SigmaDelta",
    "Spiking",
    "SpikingState",
    "input_spikes",
    "to_nir",
    "write_nir",
]
