"""Spiking convergent networks: coders, step sizes, dynamics, recordings, operation counts, and export to NIR."""

from eqprop._core.deprecation import former_names
from eqprop.spiking.coders import Bernoulli, Coder, SigmaDelta
from eqprop.spiking.dynamics import Spiking, SpikingState
from eqprop.spiking.nir import input_spikes, to_nir, write_nir
from eqprop.spiking.operations import Operations, fan_out, operations
from eqprop.spiking.recording import Recording, record
from eqprop.spiking.saturation import Saturation, lagging, saturation
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
    "lagging",
    "operations",
    "record",
    "saturation",
    "to_nir",
    "write_nir",
]

__getattr__ = former_names(
    __name__,
    globals(),
    {"WoundUp": "Saturation", "wound_up": "saturation", "late": "lagging"},
)
