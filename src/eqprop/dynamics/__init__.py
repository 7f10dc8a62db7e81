"""Dynamics: how the state of a network changes in one step."""

from eqprop.dynamics.base import Dynamics
from eqprop.dynamics.energy import EnergyDescent
from eqprop.dynamics.noisy import Noisy
from eqprop.dynamics.prototypical import Prototypical

__all__ = [
    "Dynamics",
    "EnergyDescent",
    "Noisy",
    "Prototypical",
]
