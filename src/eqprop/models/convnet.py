r"""Convolutional architectures: a chain of images, a dense head, and optional skip connections.

Population 0 is the input image. Each entry of ``channels`` adds an image, the pooled convolution of the one below. Each entry of
``dense`` adds a vector, fully connected to the population below. A skip joins two images by a 1 x 1 convolution whose stride
adapts their sizes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TypeVar
from warnings import warn

import torch

from eqprop._core.checks import MAX_INT, ArgumentError, non_negative_int, positive, positive_int, sequence
from eqprop.activations import Activation
from eqprop.connections.base import LinearConnection
from eqprop.connections.conv import Conv2d
from eqprop.connections.dense import Dense
from eqprop.connections.pooling import DEFAULT_POOL_SIZE, PoolName, check_pooling
from eqprop.connections.untied import Untied
from eqprop.costs import Cost, SquaredError
from eqprop.dynamics.base import Dynamics
from eqprop.dynamics.prototypical import Prototypical
from eqprop.models.mlp import check_architecture, check_parts, copy_cost
from eqprop.models.model import Model
from eqprop.network import Edge, Network, Population
from eqprop.solvers.settle import Settle

__all__ = ["ConvNet", "convnet"]

T = TypeVar("T")
Shape = tuple[int, ...]


@dataclass(frozen=True)
class ConvNet:
    """A chain of convolutions and a dense head, with optional skip connections.

    Connections, and with them parameters and learning rates, are ordered by their upper population; at each population the
    connection of the chain comes before the skips.

    Args:
        input_shape: ``(channels, height, width)`` of the input.
        channels: number of channels of each image population above the input.
        kernel_size: height and width of the kernels, one for all or one per convolution.
        padding: zeros added to each side of the lower image, one for all or one per convolution.
        stride: stride of the convolutions, one for all or one per convolution.
        pool: pooling of all convolutions, "max", "avg", "avg-nearest", "softmax" or None: see `Conv2d`.
        pool_size: height and width of the pooling windows; only with a pooling.
        dense: number of units of the vectors above the images, the output last. May be empty if a readout reads the last image.
        skips: pairs ``(pre, post)`` of image populations, 0 the input, to join by strided 1 x 1 convolutions. Each has its own
            learning rate.
        gain: factor of PyTorch's initial weights and biases, one for all or one per connection of the chain. A skip has the gain of
            the connection of the chain with the same upper population.
        activation: activation of every population, and of the input if the dynamics use ``rho(x)``.
        output_activation: activation of the last population, if different.
        dynamics: dynamics of the populations.
        cost: cost of the last population. Every build copies it and draws new readout weights.
        settle: steps or `Settle` of ``model(x)``; 30 steps if None.
        tied: False adds separate feedback weights to every connection between relaxing populations.
        angle: initial angle between forward and feedback weights in degrees; needs ``tied=False``.

    Raises:
        ArgumentError: if a number is out of range, a sequence has the wrong length, an image becomes empty, a skip cannot be built,
            an activation or a pooling is unknown, ``pool_size`` is given without a pooling, or an angle is given for tied weights;
            from `build`, if max pooling lies below activities that can be negative.

    >>> [p.shape for p in ConvNet((1, 28, 28), (32, 64)).build().network.populations]
    [(1, 28, 28), (32, 12, 12), (64, 4, 4), (10,)]
    """

    input_shape: tuple[int, int, int]
    channels: Sequence[int]
    kernel_size: int | Sequence[int] = 5
    padding: int | Sequence[int] = 0
    stride: int | Sequence[int] = 1
    pool: PoolName | None = "max"
    pool_size: int = DEFAULT_POOL_SIZE
    dense: Sequence[int] = (10,)
    skips: Sequence[tuple[int, int]] = ()
    gain: float | Sequence[float] = 1.0
    activation: str | Activation = "hard_sigmoid"
    output_activation: str | Activation | None = None
    dynamics: Dynamics = field(default_factory=Prototypical)
    cost: Cost = field(default_factory=SquaredError)
    settle: int | Settle | None = None
    tied: bool = True
    angle: float = 0.0

    def __post_init__(self) -> None:
        for name in ("input_shape", "channels", "dense"):
            self._set(name, _as_sizes(name, getattr(self, name)))
        if len(self.input_shape) != 3:
            raise ArgumentError(
                "input_shape", f"`input_shape` must be (channels, height, width), got {self.input_shape!r}"
            )
        check_parts(self.dynamics, self.cost)
        if not self.dense and isinstance(self.cost, SquaredError):
            raise ArgumentError(
                "dense", "`dense` is empty, so the last image is the output: give a `cost` that reads it out"
            )
        if not self.channels:
            raise ArgumentError(
                "channels", "`channels` must name at least one image population; without any, take `mlp`"
            )
        self._set("skips", tuple(map(_as_skip, sequence("skips", self.skips, "pairs of populations"))))
        for name, check in (("kernel_size", positive_int), ("padding", _padding), ("stride", positive_int)):
            self._set(name, _check_each(name, getattr(self, name), len(self.channels), "convolution", check))
        self._set("gain", _check_each("gain", self.gain, len(self.channels) + len(self.dense), "connection", positive))
        check_pooling(self.pool, self.pool_size)
        check_architecture(self.activation, self.output_activation, self.settle, self.tied, self.angle)
        shapes = self.shapes()
        for skip in self.skips:
            _skip_stride(skip, shapes[: len(self.channels) + 1])

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def shapes(self) -> list[Shape]:
        """Return the shape of each population, input first.

        Raises:
            ArgumentError: if an image becomes empty.
        """
        shapes: list[Shape] = [self.input_shape]
        for n, (channels, k, p, s) in enumerate(self._convolutions(), start=1):
            before = shapes[-1][1:]
            size = tuple(((m + 2 * p - k) // s + 1) // (self.pool_size if self.pool else 1) for m in before)
            if min(size) < 1:
                raise ArgumentError(
                    "channels",
                    f"population {n} would be empty: kernel {k}, padding {p}, stride {s} and pooling leave nothing of "
                    f"{before[0]} x {before[1]}; take smaller ones or fewer `channels`",
                )
            if prod((channels, *size)) > MAX_INT or channels * shapes[-1][0] * k * k > MAX_INT:
                raise ArgumentError(
                    "channels",
                    f"population {n} would have {prod((channels, *size))} units and kernels of {k} x {k}: take smaller paddings "
                    "and kernels, or fewer `channels`",
                )
            shapes.append((channels, *size))
        return [*shapes, *((n,) for n in self.dense)]

    def build(self) -> Model:
        """Draw the weights and return the model. Warn if "avg-nearest" makes EP's estimates multiples of the gradient."""
        if self.pool == "avg-nearest" and len(self.channels) > 1:
            warn(self._nearest_warning(), stacklevel=2)
        shapes = self.shapes()
        rho = [self.activation] * (len(shapes) - 1) + [self.output_activation or self.activation]
        populations = [Population(shape, r) for shape, r in zip(shapes, rho, strict=True)]
        cost = copy_cost(self.cost)
        return Model(Network(populations, self._edges(shapes)), self.dynamics, cost, self.settle or 30)

    def _nearest_warning(self) -> str:
        c, top = self.pool_size**2, len(self.channels)
        if self.skips:
            return (
                f'pool="avg-nearest" feeds {c} times the adjoint back, and with skips there is no energy of which EP\'s '
                'estimate is the gradient: take pool="avg"'
            )
        factors = ", ".join(f"{c ** (top - n)} times that of connection {n}" for n in range(1, top))
        return (
            f'pool="avg-nearest" feeds {c} times the adjoint back, so that EP\'s estimate is {factors}, counted from 1, '
            'input-first: divide these learning rates by as much, or take pool="avg"'
        )

    def _convolutions(self) -> list[tuple[int, int, int, int]]:
        """Return channels, kernel, padding and stride of each convolution of the chain."""
        n = len(self.channels)
        choices = (_expand(getattr(self, name), n) for name in ("kernel_size", "padding", "stride"))
        return list(zip(self.channels, *choices, strict=True))

    def _edges(self, shapes: list[Shape]) -> list[Edge]:
        edges: list[Edge] = []
        gains = _expand(self.gain, len(shapes) - 1)
        for post, gain in enumerate(gains, start=1):
            edges.append((post - 1, post, self._initialize(post - 1, self._chain_connection(post, shapes), gain)))
            for skip in self.skips:
                if skip[1] == post:
                    pre = skip[0]
                    stride = _skip_stride(skip, shapes)
                    connection = Conv2d(shapes[pre][0], shapes[post][0], 1, stride=stride, bias=False)
                    edges.append((pre, post, self._initialize(pre, connection, gain)))
        return edges

    def _chain_connection(self, post: int, shapes: list[Shape]) -> LinearConnection:
        """Return the connection of the chain whose upper population is ``post``."""
        below = shapes[post - 1]
        if post > len(self.channels):
            return Dense(prod(below), self.dense[post - 1 - len(self.channels)])
        channels, k, p, s = self._convolutions()[post - 1]
        return Conv2d(below[0], channels, k, stride=s, padding=p, pool=self.pool, pool_size=self.pool_size)

    def _initialize(self, pre: int, forward: LinearConnection, gain: float) -> LinearConnection | Untied:
        """Scale the weights, and add feedback weights to an untied connection between relaxing populations."""
        with torch.no_grad():
            for parameter in forward.parameters():
                parameter.mul_(gain)
        return forward if self.tied or pre == 0 else Untied(forward, self.angle)


def _padding(name: str, value: object) -> int:
    return non_negative_int(name, value, MAX_INT)


def _as_sizes(name: str, values: Sequence[int]) -> tuple[int, ...]:
    return tuple(positive_int(name, n) for n in sequence(name, values, "a list of whole numbers"))


def _as_skip(skip: Sequence[int]) -> tuple[int, int]:
    if len(sequence("skips", skip, "pairs of populations")) != 2:
        raise ArgumentError("skips", f"`skips` must be pairs of populations, got {skip!r}")
    return non_negative_int("skips", skip[0]), non_negative_int("skips", skip[1])


def _check_each(
    name: str, value: T | Sequence[T], n: int, what: str, check: Callable[[str, object], T]
) -> T | tuple[T, ...]:
    """Check one value for all, or each of ``n`` values."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return check(name, value)
    if len(value) != n:
        raise ArgumentError(name, f"`{name}` must be one value, or {n} of them, one per {what}, got {len(value)}")
    return tuple(check(name, one) for one in value)


def _expand(value: T | Sequence[T], n: int) -> Sequence[T]:
    """Repeat a single value ``n`` times; return a sequence unchanged."""
    return value if isinstance(value, Sequence) else (value,) * n


def _skip_stride(skip: tuple[int, int], images: Sequence[Shape]) -> int:
    """Return the stride of the 1 x 1 convolution that joins two images; raise if there is none."""
    pre, post = skip
    if not 0 <= pre < post < len(images):
        raise ArgumentError(
            "skips", f"`skips` must be pairs of images, the lower one first, from 0 to {len(images) - 1}, got {skip}"
        )
    stride = max(-(-a // b) for a, b in zip(images[pre][1:], images[post][1:], strict=True))
    if any((a - 1) // stride + 1 != b for a, b in zip(images[pre][1:], images[post][1:], strict=True)):
        sizes = " and ".join("{} x {}".format(*images[n][1:]) for n in skip)
        raise ArgumentError("skips", f"`skips` joins populations {pre} and {post}, but no stride makes {sizes} meet")
    return stride


def convnet(
    input_shape: tuple[int, int, int],
    channels: Sequence[int],
    *,
    kernel_size: int | Sequence[int] = 5,
    padding: int | Sequence[int] = 0,
    stride: int | Sequence[int] = 1,
    pool: PoolName | None = "max",
    pool_size: int = DEFAULT_POOL_SIZE,
    dense: Sequence[int] = (10,),
    skips: Sequence[tuple[int, int]] = (),
    gain: float | Sequence[float] = 1.0,
    activation: str | Activation = "hard_sigmoid",
    output_activation: str | Activation | None = None,
    dynamics: Dynamics | None = None,
    cost: Cost | None = None,
    settle: int | Settle | None = None,
    tied: bool = True,
    angle: float = 0.0,
) -> Model:
    """Return ``ConvNet(...).build()``; see `ConvNet` for the arguments.

    >>> import eqprop as ep
    >>> model = ep.convnet((1, 28, 28), (32, 64), pool="avg", settle=30)
    """
    dynamics = Prototypical() if dynamics is None else dynamics
    cost = SquaredError() if cost is None else cost
    return ConvNet(
        input_shape, channels, kernel_size, padding, stride, pool, pool_size, dense, skips, gain, activation,
        output_activation, dynamics, cost, settle, tied, angle,
    ).build()  # fmt: skip
