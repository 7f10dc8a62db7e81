r"""Dense weights that move within a phase, at the cost of small matrix products.

Inside a phase, gradient descent at the rate eta follows the contrast of one step after another (`Network.contrast`). With the
activities (free, a, b) that it compares, ``d = a_post - b_post`` and ``c = 1 / (norm B)``,

    tied       W <- W - eta c (a_post^T a_pre - b_post^T b_pre)
    untied     W <- W - eta c d^T free_pre           V <- V - eta c free_post^T (a_pre - b_pre)
    bias       b <- b - eta c sum d

The input ``x`` is constant during the phase, and so is the 1 that multiplies a bias. The current that they send can be updated
without the weights themselves:

    W x + b  of every sample:      u <- u - c (eta_W x x^T + eta_b 1 1^T) d,

with the B x B Gram matrix of the input. For 784 pixels, 512 units and B = 20 that is 400 numbers instead of 400,000.

The gradients of all steps sum to that of one contrast, from the first state to the last, where the pre-synaptic activity is the
input or the weights are tied, since then they telescope. For other untied weights the sum is one product over all steps stacked.
No update is computed as a difference of weights: in single precision, small rates would be lost to rounding.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eqprop._core.precision import full_precision
from eqprop.connections.base import Connection, Ends
from eqprop.connections.dense import Dense, PreparedDense
from eqprop.connections.untied import Untied
from eqprop.network import Contrast, Drive, Edge, Network

__all__ = ["FastWeights", "summed_contrast", "supports_fast_weights"]


def supports_fast_weights(network: Network) -> bool:
    """Return whether every connection is dense, tied or untied, between vectors, and no two share weights.

    Subclasses do not count: they may override anything.
    """
    weights = [p for _, _, connection in network.edges() for p in connection.parameters()]
    kinds = {type(c.upward if type(c) is Untied else c) for c in network.connections}
    vectors = all(len(p.shape) == 1 for p in network.populations)
    return type(network) is Network and kinds <= {Dense} and vectors and len(weights) == len(set(weights))


@dataclass(frozen=True, eq=False)
class FastWeights:
    """A drive whose weights move. Each update makes a new one and modifies no tensor.

    Attributes:
        drive: currents at the present weights.
        kernels: ``- gain c (eta_W x x^T + eta_b 1 1^T)`` of each relaxing population, summed over the edges into it, ``(B, B)``.
        sizes: ``eta c`` of forward and feedback weights of each prepared connection.
        ends: ``(pre, post)`` of each prepared connection.
    """

    drive: Drive
    kernels: tuple[Tensor, ...]
    sizes: tuple[tuple[float, float], ...]
    ends: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, network: Network, drive: Drive, rates: Mapping[nn.Parameter, float], norm: float) -> "FastWeights":
        """Return the drive of a network at its present weights.

        Args:
            network: for which `supports_fast_weights`.
            drive: its drive.
            rates: learning rate of every parameter that moves.
            norm: that of the contrasts.
        """
        x, c = drive.input, 1 / (norm * drive.input.shape[0])
        kernels = [x.new_zeros(x.shape[0], x.shape[0]) for _ in network.relaxing]
        for pre, post, connection in network.edges():
            weight, bias, _ = _weights_of(connection)
            if pre == 0:
                kernels[post - 1].addmm_(x, x.t(), alpha=-drive.gains[post - 1] * c * rates.get(weight, 0.0))
            if bias is not None:
                kernels[post - 1].sub_(drive.gains[post - 1] * c * rates.get(bias, 0.0))
        inner = [(pre, post, _weights_of(connection)) for pre, post, connection in network.edges() if pre != 0]
        sizes = ((c * rates.get(weight, 0.0), c * rates.get(feedback, 0.0)) for *_, (weight, _, feedback) in inner)
        return cls(drive, tuple(kernels), tuple(sizes), tuple((pre, post) for pre, post, _ in inner))

    def updated(self, step: Contrast) -> "FastWeights":
        """Return the drive after one step of gradient descent along a contrast."""
        x = self.drive.input
        with full_precision(x):
            constant = tuple(
                torch.addmm(u, kernel, a - b)
                for u, kernel, a, b in zip(self.drive.constant, self.kernels, step.a, step.b, strict=True)
            )
            prepared = tuple(
                connection.updated(*step.ends(x, *ends), sizes)
                for connection, ends, sizes in zip(self._prepared(), self.ends, self.sizes, strict=True)
            )
        return FastWeights(Drive(x, constant, prepared, self.drive.gains), self.kernels, self.sizes, self.ends)

    def _prepared(self) -> Iterator[PreparedDense]:
        for connection in self.drive.prepared:
            assert isinstance(connection, PreparedDense)
            yield connection


def _weights_of(connection: Connection) -> tuple[nn.Parameter, nn.Parameter | None, nn.Parameter]:
    """Return forward weights, bias and feedback weights."""
    if isinstance(connection, Untied):
        assert isinstance(connection.upward, Dense)
        return connection.upward.weight, connection.upward.bias, connection.feedback
    assert isinstance(connection, Dense)
    return connection.weight, connection.bias, connection.weight


def summed_contrast(network: Network, x: Tensor, total: Contrast, steps: Sequence[Contrast]) -> Tensor:
    """Return a scalar whose gradient is the sum of the gradients of the steps' contrasts.

    Args:
        network: for which `supports_fast_weights`.
        x: activity of the input.
        total: the contrast between the first state and the last.
        steps: the contrasts between successive states.
    """

    def term(edge: Edge) -> Tensor:
        pre, post, connection = edge
        if pre == 0 or isinstance(connection, Dense):
            return connection.contrast(*total.ends(x, pre, post))
        each = zip(*(step.ends(x, pre, post) for step in steps), strict=True)
        return connection.contrast(*(Ends(*map(torch.cat, zip(*state, strict=True))) for state in each))

    with full_precision(x):
        terms = [term(edge) for edge in network.edges()]
        return sum(terms[1:], terms[0]) / (total.norm * x.shape[0])
