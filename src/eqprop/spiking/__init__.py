"""Spiking convergent networks: coders, step sizes, dynamics."""

from eqprop.spiking.coders import Bernoulli, Coder, SigmaDelta
from eqprop.spiking.dynamics import Spiking, SpikingState
from eqprop.spiking.sizes import OSA, Decay

__all__ = ["OSA", "Bernoulli", "Coder", "Decay", "SigmaDelta", "Spiking", "SpikingState"]
