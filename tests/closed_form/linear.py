"""Solutions of linear networks: with the identity for activation the steady state is the solution of a linear system.

Phi = sum over edges (i, j) of <s^j, W s^i + b>, so the currents are u = A s + d(x): A holds W in block (j, i) and its
transpose in block (i, j), twice the symmetric part where i = j, and d holds the biases and what the input sends. Hence

    free       (I - A) s* = d                               pulled by a constant force f    (I - A) s = d + f
    nudged     (I - A + beta P) s = d + beta y              P projects on the output
    loss       dL/dtheta = lambda . d(A s + d)/dtheta       (I - A)^T lambda = P (s* - y)   (implicit function theorem)

both for s <- u + f and for s <- s + dt (-s + u + f), which rest at the same points.
"""

from dataclasses import dataclass

import numpy as np
import torch

import eqprop as ep
from reference.bridge import filled

CHAIN = [(0, 1), (1, 2), (2, 3)]
SHORT = [(0, 1), (1, 2)]
SKIP = [(0, 1), (0, 2), (1, 2)]
LATERAL = [(0, 1), (1, 1), (1, 2), (2, 2)]
GRAPHS = {"chain": CHAIN, "short": SHORT, "skip": SKIP, "lateral": LATERAL}
SIZES = (3, 4, 2, 3)


@dataclass(frozen=True)
class Linear:
    """``edges`` hold ``(pre, post, weight, bias)``; ``sizes[n]`` units in population n."""

    sizes: tuple
    edges: list

    def block(self, n):
        start = sum(self.sizes[1:n])
        return slice(start, start + self.sizes[n])

    @property
    def units(self):
        return sum(self.sizes[1:])

    @property
    def output(self):
        return self.block(len(self.sizes) - 1)

    def matrix(self):
        a = np.zeros((self.units, self.units))
        for i, j, weight, _ in self.edges:
            if i > 0:
                a[self.block(j), self.block(i)] += weight
                a[self.block(i), self.block(j)] += weight.T
        return a

    def drive(self, x):
        d = np.zeros(self.units)
        for i, j, weight, bias in self.edges:
            d[self.block(j)] += bias
            if i == 0:
                d[self.block(j)] += weight @ x
        return d

    def at_output(self, values):
        stacked = np.zeros(self.units)
        stacked[self.output] = values
        return stacked

    def pulled(self, x, force):
        return np.linalg.solve(np.eye(self.units) - self.matrix(), self.drive(x) + self.at_output(force))

    def free(self, x):
        return self.pulled(x, np.zeros(self.sizes[-1]))

    def nudged(self, x, y, beta):
        projector = np.diag(self.at_output(1.0))
        system = np.eye(self.units) - self.matrix() + beta * projector
        return np.linalg.solve(system, self.drive(x) + beta * self.at_output(y))

    def adjoint(self, slope):
        return np.linalg.solve(np.eye(self.units) - self.matrix().T, self.at_output(slope))

    def phi_slopes(self, x, s):
        """dPhi/dtheta, weight and bias edge by edge."""
        slopes = []
        for i, j, _, _ in self.edges:
            pre = x if i == 0 else s[self.block(i)]
            slopes += [np.outer(s[self.block(j)], pre), s[self.block(j)]]
        return slopes

    def chained(self, x, s, adjoint):
        """lambda . d(A s + d)/dtheta, weight and bias edge by edge."""
        slopes = []
        for i, j, _, _ in self.edges:
            if i == 0:
                of_weight = np.outer(adjoint[self.block(j)], x)
            else:
                one = np.outer(adjoint[self.block(j)], s[self.block(i)])
                of_weight = one + np.outer(s[self.block(j)], adjoint[self.block(i)])
            slopes += [of_weight, adjoint[self.block(j)]]
        return slopes

    def chained_input(self, adjoint):
        """lambda . dd/dx."""
        return sum(weight.T @ adjoint[self.block(j)] for i, j, weight, _ in self.edges if i == 0)

    def contrast(self, x, a, b, norm):
        pairs = zip(self.phi_slopes(x, a), self.phi_slopes(x, b), strict=True)
        return [(one - other) / norm for one, other in pairs]

    def ep(self, x, y, beta):
        """One-sided EP at a finite beta."""
        return self.contrast(x, self.free(x), self.nudged(x, y, beta), beta)

    def centred(self, x, y, beta):
        return self.contrast(x, self.nudged(x, y, -beta), self.nudged(x, y, beta), 2 * beta)

    def loss(self, x, y):
        return 0.5 * np.sum((self.free(x)[self.output] - y) ** 2)

    def gradients(self, x, y):
        s = self.free(x)
        return self.chained(x, s, self.adjoint(s[self.output] - y))


def mean(samples):
    """Mean over samples of lists of arrays."""
    return [sum(parts) / len(samples) for parts in zip(*samples, strict=True)]


def case(graph, dynamics, seed=40):
    """A library model and its closed-form solution; the matrix A has spectral radius 1/2."""
    ends = GRAPHS[graph]
    sizes = SIZES[: 1 + max(post for _, post in ends)]
    populations = [ep.Population(n, "identity") for n in sizes]
    edges = [(i, j, ep.Dense(sizes[i], sizes[j])) for i, j in ends]
    model = filled(ep.Model(ep.Network(populations, edges), dynamics, ep.SquaredError()), seed)
    radius = np.max(np.abs(np.linalg.eigvalsh(read(model, sizes, ends).matrix())))
    with torch.no_grad():
        for (i, _), connection in zip(ends, model.network.connections, strict=True):
            connection.weight.mul_(0.5 / radius if i > 0 else 1.0)
    draw = np.random.default_rng(seed + 1)
    x, y = draw.standard_normal((4, sizes[0])), draw.standard_normal((4, sizes[-1]))
    return model, read(model, sizes, ends), x, y


def read(model, sizes, ends):
    arrays = [(c.weight.detach().numpy().copy(), c.bias.detach().numpy().copy()) for c in model.network.connections]
    return Linear(sizes, [(i, j, *pair) for (i, j), pair in zip(ends, arrays, strict=True)])
