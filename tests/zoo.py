"""Small networks that the laws are tested on: chains, skips, laterals, images, mixed activations, custom connections."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

import eqprop as ep

INPUT, BATCH, CLASSES = 4, 3, 3


class LowRank(ep.Connection):
    """``<post, U V^T pre>``; a custom connection that supplies only phi."""

    def __init__(self, n_pre: int, n_post: int) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.randn(n_post, 2) / 3)
        self.v = nn.Parameter(torch.randn(n_pre, 2) / 2)

    def phi(self, pre: Tensor, post: Tensor) -> Tensor:
        return ((pre @ self.v) * (post @ self.u)).sum(1)


class LinearLowRank(LowRank):
    """The same, declared to be linear in post: its current from the input is computed once."""

    linear = True


class Bump(ep.Connection):
    """A term that is linear in neither end: ``sum sin(post M pre)``."""

    def __init__(self, n_pre: int, n_post: int) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.randn(n_post, n_pre) / 4)

    def phi(self, pre: Tensor, post: Tensor) -> Tensor:
        return torch.sin((post @ self.m) * pre).sum(1)


SMOOTH = ep.Activation(lambda u: torch.atan(u), name="arctangent")  # custom: no derivative, no potential


@dataclass(frozen=True)
class Graph:
    """Sizes or shapes (the input first), activations of the relaxing populations, and edges."""

    sizes: tuple[int | tuple[int, ...], ...]
    activations: tuple[str | ep.Activation, ...]
    edges: tuple[tuple[int, int, Callable[[Any, Any], ep.Connection]], ...]

    def network(self, activation: str | None = None) -> ep.Network:
        """Build the network, with ``activation`` in every population if it is given."""
        rho = (activation,) * len(self.sizes) if activation else (self.activations[0], *self.activations)
        populations = [ep.Population(n, r) for n, r in zip(self.sizes, rho, strict=True)]
        return ep.Network(populations, [(i, j, kind(self.sizes[i], self.sizes[j])) for i, j, kind in self.edges])


def no_bias(n_pre: int, n_post: int) -> ep.Dense:
    return ep.Dense(n_pre, n_post, bias=False)


def head(pre: tuple[int, ...], n_post: int) -> ep.Dense:
    """A dense connection from an image."""
    return ep.Dense(prod(pre), n_post)


def conv(kernel: int, **choices: Any) -> Callable[[Any, Any], ep.Conv2d]:
    """A convolution between images."""
    return lambda pre, post: ep.Conv2d(pre[0], post[0], kernel, **choices)


D = ep.Dense
GRAPHS = {
    "one-layer": Graph((4, 3), ("tanh",), ((0, 1, D),)),
    "chain": Graph((4, 5, 3), ("tanh", "tanh"), ((0, 1, D), (1, 2, D))),
    "sigmoid-chain": Graph((4, 5, 3), ("sigmoid", "sigmoid"), ((0, 1, D), (1, 2, D))),
    "deep-chain": Graph((4, 5, 4, 3), ("tanh", "sigmoid", "tanh"), ((0, 1, D), (1, 2, no_bias), (2, 3, D))),
    "linear-output": Graph((4, 5, 3), ("tanh", "identity"), ((0, 1, D), (1, 2, D))),
    "input-skip": Graph((4, 5, 3), ("tanh", "tanh"), ((0, 1, D), (0, 2, D), (1, 2, D))),
    "skip": Graph((4, 5, 4, 3), ("tanh", "tanh", "tanh"), ((0, 1, D), (1, 2, D), (2, 3, D), (1, 3, D))),
    "lateral": Graph((4, 5, 3), ("tanh", "tanh"), ((0, 1, D), (1, 1, no_bias), (1, 2, D))),
    "lateral-output": Graph((4, 5, 3), ("tanh", "sigmoid"), ((0, 1, D), (1, 2, D), (2, 2, no_bias))),
    "parallel": Graph((4, 5, 3), ("tanh", "tanh"), ((0, 1, D), (1, 2, D), (1, 2, no_bias))),
    "downward": Graph((4, 5, 3), ("tanh", "tanh"), ((0, 1, D), (2, 1, D))),
    "own-activation": Graph((4, 5, 3), (SMOOTH, SMOOTH), ((0, 1, D), (1, 2, D))),
    "own-connection": Graph(
        (4, 5, 3), ("tanh", "tanh"), ((0, 1, LinearLowRank), (0, 2, LowRank), (1, 2, LinearLowRank), (1, 2, D))
    ),
    "own-lateral": Graph((4, 5, 3), ("tanh", "tanh"), ((0, 1, D), (1, 1, LowRank), (1, 2, D))),
    "images": Graph(
        ((1, 6, 7), (2, 3, 4), (2, 2, 2), 3),
        ("sigmoid", "sigmoid", "tanh"),
        ((0, 1, conv(2, pool="max", padding=1)), (1, 2, conv(2, pool="max", padding=1, bias=False)), (2, 3, head)),
    ),
    "residual-images": Graph(
        ((2, 5, 5), (2, 5, 5), (2, 2, 2), (1, 2, 2), 3),
        ("tanh", "sigmoid", "tanh", "tanh"),
        (
            (0, 1, conv(3, padding=1)),
            (1, 2, conv(2, pool="avg")),
            (2, 3, conv(1, pool="softmax", pool_size=1)),
            (1, 3, conv(3, stride=2)),
            (3, 4, head),
        ),
    ),
    "nonlinear-connection": Graph((4, 4, 4), ("tanh", "tanh"), ((0, 1, Bump), (0, 1, D), (1, 2, Bump), (1, 2, D))),
}


def model(
    name: str,
    dynamics: ep.Dynamics,
    cost: str = "squared",
    seed: int = 1,
    scale: float = 0.5,
    activation: str | None = None,
) -> ep.Model:
    """Return a model with the network of that name in float64, with weights small enough for it to settle quickly."""
    torch.manual_seed(seed)
    network = GRAPHS[name].network(activation)
    out = network.populations[-1].shape[0]
    built = ep.Model(
        network, dynamics, ep.SquaredError() if cost == "squared" else ep.CrossEntropyReadout(out, CLASSES)
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(scale)
    return built.double()


def spiking(name: str, dynamics: ep.Dynamics, cost: str = "squared", seed: int = 1, scale: float = 1.0) -> ep.Model:
    """Return the same with hard sigmoids and biases that keep most units between 0 and 1."""
    built = model(name, dynamics, cost, seed, scale, activation="hard_sigmoid")
    with torch.no_grad():
        for key, parameter in built.network.named_parameters():
            if key.endswith("bias"):
                parameter.add_(0.3)
    return built


def untied(of: ep.Model, angle: float = 40.0) -> ep.Model:
    """Return the model with separate feedback weights in every dense connection; other connections are the same objects."""
    edges = [(i, j, ep.Untied(c, angle) if type(c) is ep.Dense else c) for i, j, c in of.network.edges()]
    return ep.Model(ep.Network(of.network.populations, edges), of.dynamics, of.cost).double()


def batch(of: ep.Model, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Return random inputs and classes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(BATCH, *of.network.populations[0].shape, generator=generator, dtype=torch.double)
    return x, torch.randint(CLASSES, (BATCH,), generator=generator)


def state(of: ep.Model, seed: int = 3) -> tuple[Tensor, ...]:
    """Return random activities of the relaxing populations."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(BATCH, *p.shape, generator=generator, dtype=torch.double) for p in of.network.relaxing)


def gradient(of: ep.Model, estimator: ep.Estimator, x: Tensor, y: Tensor) -> Tensor:
    """Return the gradients of all parameters as one vector."""
    of.zero_grad()
    for loss in estimator(of, x, y):
        loss.backward()
    return torch.cat([torch.zeros(0).double() if p.grad is None else p.grad.flatten() for p in of.parameters()])


def distance(a: Tensor, b: Tensor) -> float:
    """Return the relative distance of ``a`` to ``b``."""
    return ((a - b).norm() / b.norm()).item()
