"""Models: a network with dynamics, cost and settling time, and ready-made architectures."""

from eqprop.models.convnet import ConvNet
from eqprop.models.mlp import MLP
from eqprop.models.model import Model, relax
from eqprop.models.toy import Toy

__all__ = [
    "MLP",
    "ConvNet",
    "Model",
    "Toy",
    "relax",
]
