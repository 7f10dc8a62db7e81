"""The feedforward network that backpropagation trains in a comparison: the same layers, with a copy of the same weights."""

import copy

from torch import Tensor, nn

from eqprop._core.checks import instance
from eqprop.connections.base import LinearConnection
from eqprop.connections.mismatched import Mismatched
from eqprop.connections.untied import Untied
from eqprop.models.model import Model

__all__ = ["Feedforward"]


class Feedforward(nn.Module):
    """One pass through the layers of a chain: ``s^n = rho(W s^{n-1} + b)``, pooling included.

    Args:
        model: model whose network is a chain. Its forward weights and its cost are copied; the model does not change.

    Attributes:
        layers: forward connections, input-first.
        cost: cost of the last layer.

    Raises:
        ValueError: if the network is not a chain of dense connections and convolutions.

    >>> import torch, eqprop as ep
    >>> net = Feedforward(ep.mlp([4, 8, 3]))
    >>> net.loss(torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1])).backward()
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        network = instance("model", model, Model).network
        if network.ends != tuple((n, n + 1) for n in range(len(network.relaxing))):
            raise ValueError("the network must be a chain of layers, got the edges " + ", ".join(network.edge_names()))
        self.layers = nn.ModuleList(copy.deepcopy(_forward_connection(c)) for _, _, c in network.edges())
        self.activations = [p.activation for p in network.relaxing]
        self.cost = copy.deepcopy(model.cost)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activity of the last layer: ``(B, *shape)``."""
        for layer, rho in zip(self.layers, self.activations, strict=True):
            assert isinstance(layer, LinearConnection)
            x = rho.rho(layer.up(x))
        return x

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean cost of a batch."""
        out = self(x)
        return self.cost.value(out, self.cost.encode(y, out)).mean()


def _forward_connection(connection: nn.Module) -> LinearConnection:
    """Return the connection without its own feedback weights."""
    inner = connection.written if isinstance(connection, Mismatched) else connection
    inner = inner.upward if isinstance(inner, Untied) else inner
    if not isinstance(inner, LinearConnection):
        raise ValueError(f"{type(inner).__name__} is not a layer of a feedforward network: use Dense or Conv2d")
    return inner
