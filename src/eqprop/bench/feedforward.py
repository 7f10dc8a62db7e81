"""Backpropagation's contender: an ordinary feedforward network of the same sizes, with a copy of the same weights."""

import copy

from torch import Tensor, nn

from eqprop.connections.base import LinearConnection
from eqprop.connections.mismatched import Mismatched
from eqprop.connections.untied import Untied
from eqprop.models.model import Model

__all__ = ["Feedforward"]


class Feedforward(nn.Module):
    """A pass through a chain, from the input to the output: ``s^n = rho(W s^{n-1} + b)``, poolings included.

    Args:
        model: whose network is a chain; it keeps its weights, and a copy is taken of those upwards, and of its cost's.

    Attributes:
        layers: the connections upwards.
        cost: of the last layer.

    Raises:
        ValueError: if the network is no chain of dense connections and convolutions.

    >>> import torch, eqprop as ep
    >>> net = Feedforward(ep.mlp([4, 8, 3]))
    >>> net.loss(torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1])).backward()
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        network = model.network
        if network.ends != tuple((n, n + 1) for n in range(len(network.relaxing))):
            raise ValueError("the network is no chain: edges " + ", ".join(network.edge_names()))
        self.layers = nn.ModuleList(copy.deepcopy(upward(c)) for _, _, c in network.edges())
        self.activations = [p.activation for p in network.relaxing]
        self.cost = copy.deepcopy(model.cost)

    def forward(self, x: Tensor) -> Tensor:
        """The last layer's activity: ``(B, *shape)``."""
        for layer, rho in zip(self.layers, self.activations, strict=True):
            assert isinstance(layer, LinearConnection)
            x = rho.rho(layer.up(x))
        return x

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean cost of a batch."""
        out = self(x)
        return self.cost.value(out, y).mean()


def upward(connection: nn.Module) -> LinearConnection:
    """The connection without feedback of its own."""
    inner = connection.written if isinstance(connection, Mismatched) else connection
    inner = inner.upward if isinstance(inner, Untied) else inner
    if not isinstance(inner, LinearConnection):
        raise ValueError(f"{type(inner).__name__} is no layer of a feedforward network")
    return inner
