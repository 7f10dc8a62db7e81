"""Spiking convergent networks: coders, step sizes, dynamics, recordings, operation counts, and export to NIR."""

from typing import Any
from warnings import warn

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

_RENAMED = {"WoundUp": "Saturation", "wound_up": "saturation", "late": "lagging"}


def __getattr__(name: str) -> Any:
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn(f"`{__name__}.{name}` was renamed: use `{_RENAMED[name]}`", DeprecationWarning, stacklevel=2)
    return globals()[_RENAMED[name]]
