"""Spiking convergent networks: coders, step sizes, dynamics; what their units do, and what that costs; export to NIR."""

from eqprop.spiking.coders import Bernoulli, Coder, SigmaDelta
from eqprop.spiking.dynamics import Spiking, SpikingState
from eqprop.spiking.nir import input_spikes, to_nir, write_nir
from eqprop.spiking.operations import Operations, fan_out, operations
from eqprop.spiking.recording import Recording, record
from eqprop.spiking.saturation import Saturation, late, saturation
from eqprop.spiking.step_sizes import OSA, Decay

__all__ = [
    "OSA",
    "Bernoulli",
    "Coder",
    "Decay",
    "Operations",
    "Recording",
    "Saturation",
    "SigmaDelta",
    "Spiking",
    "SpikingState",
    "fan_out",
    "input_spikes",
    "late",
    "operations",
    "record",
    "saturation",
    "to_nir",
    "write_nir",
]
