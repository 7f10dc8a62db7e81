"""Builder of a NIR graph, population by population and connection by connection: see `eqprop.spiking.nir`."""

from math import prod
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eqprop.connections.base import Connection
from eqprop.connections.conv import Conv2d
from eqprop.connections.correlation import average_kernel
from eqprop.connections.dense import Dense
from eqprop.connections.mismatched import Mismatched, forward_and_feedback
from eqprop.connections.untied import Untied
from eqprop.costs import Cost, CrossEntropyReadout
from eqprop.network import Network
from eqprop.spiking.dynamics import Spiking

if TYPE_CHECKING:
    from nir import NIRNode

__all__ = ["NIRBuilder", "forward_connection"]


class NIRBuilder:
    """Collects the nodes and edges of a graph.

    Args:
        nir: the package.
        network: the network.
        dynamics: with constant step sizes.
        tick: duration of a tick.
    """

    def __init__(self, nir: ModuleType, network: Network, dynamics: Spiking, tick: float) -> None:
        self.nir, self.network, self.dynamics, self.tick = nir, network, dynamics, tick
        self.nodes: dict[str, NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.dtype = _array(next(network.parameters()).detach()[:0]).dtype
        self.before = dynamics.decode == "before"
        self.spiking_input = dynamics.input == "spikes"

    def add(self, name: str, node: "NIRNode", *sources: str) -> str:
        """Add a node with edges from its sources; return its name."""
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return name

    def add_input(self) -> None:
        """Add the input node, and the delay of a spiking input."""
        self.add("input", self.nir.Input({"input": np.array(self.shape(0))}))
        if self.spiking_input:
            self.add("sent_0", self.nir.Delay(self.filled(0, self.tick)), "input")

    def add_synapses(self, name: str, pre: int, post: int, connection: Connection) -> None:
        """Add a connection: upwards and, unless it comes from the input, downwards."""
        forward = forward_connection(connection)
        assert isinstance(forward, Dense | Conv2d)
        if pre == 0:
            into = self.inlet(post) if self.spiking_input else f"potential_{post}"
            self.edges.append((self.add_from_input(name, forward, post), into))
            return
        up, down = (
            self.matrix(forward, w, pre, post) for w in forward_and_feedback(connection) or [forward.weight] * 2
        )
        self.edges.append((self.add_matrix(f"up_{name}", up, self.outlet(pre)), self.inlet(post)))
        self.edges.append((self.add_matrix(f"down_{name}", down.t(), self.outlet(post)), self.inlet(pre)))

    def add_from_input(self, name: str, forward: Dense | Conv2d, post: int) -> str:
        """Add the upward path from the input, which may be an image, to a vector; return its last node."""
        source = self.outlet(0)
        if isinstance(forward, Conv2d):
            image = self.add(f"up_{name}", self.correlation(forward), source)
            return self.add(f"flat_{name}", self.flatten(self.network.populations[post].shape), image)
        if len(self.shape(0)) > 1:
            source = self.add(f"flat_{name}", self.flatten(self.shape(0)), source)
        return self.add_matrix(f"up_{name}", forward.weight, source)

    def add_matrix(self, name: str, weight: Tensor, source: str) -> str:
        """Add a dense matrix."""
        return self.add(name, self.nir.Linear(_array(weight)), source)

    def add_units(self, n: int) -> None:
        """Add a population: its potentials, and the feedback loop of the coder."""
        nir, lam, eps = self.nir, self.dynamics.lam, self.dynamics.eps
        assert isinstance(lam, int | float)
        assert isinstance(eps, int | float)
        u = self.add(f"potential_{n}", self.leaky(n, eps, self.bias(n)))
        phi = self.add(f"integral_{n}", nir.I(self.filled(n, 1 / self.tick)), u)
        advance = self.add(f"advance_{n}", nir.Scale(self.filled(n, (1 - lam) / lam)), u)
        q = self.add(f"spike_{n}", nir.Threshold(self.filled(n, 0.5)), phi, advance)
        sent = self.add(f"sent_{n}", nir.Delay(self.filled(n, self.tick)), q)
        reset = self.add(f"reset_{n}", nir.Scale(self.filled(n, -1.0)), sent)
        self.edges.append((reset, phi))

    def add_decoder(self, n: int) -> None:
        """Add the decoder of the spikes that a population receives, or sends with ``decode="before"``, if any edge needs it."""
        name = f"decoder_{n}"
        if any(name in ends for ends in self.edges):
            lam = self.dynamics.lam
            assert isinstance(lam, int | float)
            self.add(name, self.leaky(n, lam))
            self.edges.append((f"sent_{n}", name) if self.before else (name, f"potential_{n}"))

    def add_output(self, cost: Cost) -> None:
        """Add the output: spikes of the last population, through the readout if there is one."""
        last = len(self.network.relaxing)
        source, shape = f"spike_{last}", self.shape(last)
        if isinstance(cost, CrossEntropyReadout):
            source = self.add("readout", self.nir.Affine(_array(cost.weight), _array(cost.bias)), source)
            shape = (cost.classes,)
        self.add("output", self.nir.Output({"output": np.array(shape)}), source)

    def inlet(self, n: int) -> str:
        """Return the node at which the synapses of a population end."""
        return f"potential_{n}" if self.before else f"decoder_{n}"

    def outlet(self, n: int) -> str:
        """Return the node at which the synapses of a population start."""
        if n == 0 and not self.spiking_input:
            return "input"
        return f"decoder_{n}" if self.before else f"sent_{n}"

    def shape(self, n: int) -> tuple[int, ...]:
        """Return the shape of a population in the graph; all but the input are vectors."""
        shape = self.network.populations[n].shape
        return shape if n == 0 else (prod(shape),)

    def filled(self, n: int, value: float) -> NDArray[Any]:
        """Return an array with the same value for each unit."""
        return np.full(self.shape(n), value, self.dtype)

    def leaky(self, n: int, size: float, leak: NDArray[Any] | None = None) -> "NIRNode":
        """Return a leaky integrator with this step size."""
        leak = self.filled(n, 0.0) if leak is None else leak
        return self.nir.LI(tau=self.filled(n, self.tick / size), r=self.filled(n, 1.0), v_leak=leak)

    def bias(self, n: int) -> NDArray[Any]:
        """Return the sum of the biases of all connections that end in a population, as a vector."""
        shape = self.network.populations[n].shape
        offsets = [c.offset() for _, post, c in self.network.edges() if post == n]
        biases = [_array(b.expand(shape).flatten()) for b in offsets if b is not None]
        return sum(biases, self.filled(n, 0.0))

    def matrix(self, forward: Dense | Conv2d, weight: Tensor, pre: int, post: int) -> Tensor:
        """Return the full matrix of a connection, ``(n_post, n_pre)``; row n is the feedback current of unit n alone."""
        if isinstance(forward, Dense):
            return weight
        below, above = (self.network.populations[n].shape for n in (pre, post))
        n = prod(above)
        single = torch.eye(n, dtype=weight.dtype, device=weight.device).view(n, *above)
        with torch.no_grad():
            return forward.feedback_current(weight, single, weight.new_zeros(()).expand(n, *below)).flatten(1)

    def correlation(self, forward: Conv2d) -> "NIRNode":
        """Return the convolution of the input image with average pooling folded in; `add_units` adds the bias."""
        size = forward.pool_size if forward.pool == "avg" else 1
        kernel = average_kernel(forward.weight.detach(), size, forward.stride)
        stride, padding = forward.stride * size, forward.padding
        shape = self.network.populations[0].shape[1:]
        return self.nir.Conv2d(shape, _array(kernel), stride, padding, 1, 1, np.zeros(len(kernel), self.dtype))

    def flatten(self, shape: tuple[int, ...]) -> "NIRNode":
        """Return a node that flattens an image to a vector."""
        return self.nir.Flatten({"input": np.array(shape)}, 0, -1)


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


def forward_connection(connection: Connection) -> Connection:
    """Return the feedforward connection inside `Mismatched` and `Untied` wrappers."""
    written = connection.written if isinstance(connection, Mismatched) else connection
    return written.upward if isinstance(written, Untied) else written
