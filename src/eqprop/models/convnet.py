r"""Convolutional architectures: a chain of images, a dense head, and skip connections where they are wanted.

Population 0 is the input image. Each entry of ``channels`` adds a population, the pooled image of a convolution of the one below;
each entry of ``dense`` adds a vector, fully connected to the one below. A skip joins two images further apart by a convolution
with a kernel of 1 x 1, strided so that their sizes meet.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TypeVar
from warnings import warn

import torch

from eqprop._core.checks import angle_in_degrees, non_negative_int, positive, positive_int
from eqprop.activations import Activation, as_activation
from eqprop.connections.base import LinearConnection
from eqprop.connections.conv import Conv2d
from eqprop.connections.dense import Dense
from eqprop.connections.pooling import PAIR, PoolName, check_pooling
from eqprop.connections.untied import Untied
from eqprop.costs import Cost, SquaredError
from eqprop.dynamics.base import Dynamics
from eqprop.dynamics.prototypical import Prototypical
from eqprop.models.mlp import fresh
from eqprop.models.model import Model
from eqprop.network import Edge, Network, Population
from eqprop.solvers.settle import Settle, as_settle

__all__ = ["ConvNet", "convnet"]

T = TypeVar("T")
Shape = tuple[int, ...]


@dataclass(frozen=True)
class ConvNet:
    """A chain of convolutions and a dense head, with skip connections on request.

    Args:
        input_shape: ``(channels, height, width)`` of the input.
        channels: of each image population, input-first.
        kernel_size: height and width of the kernels: one for all, or one a convolution; likewise the next two.
        padding: zeros on each side of the lower image.
        stride: of the convolutions.
        pool: "max", "avg", "avg-nearest", "softmax" or None, for all of them: see `Conv2d`.
        pool_size: height and width of the pooling's windows; without a pooling there are none.
        dense: units of the vectors above the images, the output last; may be empty where a readout reads the last image.
        skips: pairs ``(pre, post)`` of image populations, 0 the input, to be joined by strided convolutions of 1 x 1; each has a
            learning rate of its own.
        gain: what the weights and biases that PyTorch draws are multiplied with: one for all, or one a connection of the chain.
            Skips are drawn with the gain of the connection of the chain that ends where they do.
        activation: of every population, and of the input where the dynamics wants ``rho(x)``.
        output_activation: of the last population, if it is to differ.
        dynamics: how the populations move.
        cost: of the last population. Every build gets a copy of its own, with readout weights newly drawn.
        settle: how long ``model(x)`` settles; 30 steps if left out.
        tied: False gives every connection between relaxing populations feedback weights of its own.
        angle: initial angle between forward and feedback weights in degrees; needs ``tied=False``.

    Connections, and with them parameters and learning rates, are ordered by the population that they end in, the chain's before
    the skips'.

    Raises:
        ValueError: if a number is not a whole one in its range, there are as many of them as neither one nor one a convolution, an
            image becomes empty, a skip joins what it cannot, an activation or a pooling is unknown, windows have no pooling, or
            there is an angle between tied weights; on a build, if max pooling lies below activities that can be negative.

    >>> [p.shape for p in ConvNet((1, 28, 28), (32, 64)).build().network.populations]
    [(1, 28, 28), (32, 12, 12), (64, 4, 4), (10,)]
    """

    input_shape: tuple[int, int, int]
    channels: Sequence[int]
    kernel_size: int | Sequence[int] = 5
    padding: int | Sequence[int] = 0
    stride: int | Sequence[int] = 1
    pool: PoolName | None = "max"
    pool_size: int = PAIR
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
            self._set(name, counts(name, getattr(self, name)))
        if len(self.input_shape) != 3:
            raise ValueError(f"`input_shape` must be (channels, height, width), got {self.input_shape!r}")
        if not self.dense and isinstance(self.cost, SquaredError):
            raise ValueError("`dense` is empty, so the last image is the output: give a `cost` that reads it out")
        if not self.channels:
            raise ValueError("`channels` must name at least one image population; without any, take `mlp`")
        self._set("skips", tuple(map(pair, self.skips)))
        for name, check in (("kernel_size", positive_int), ("padding", non_negative_int), ("stride", positive_int)):
            self._set(name, each(name, getattr(self, name), len(self.channels), "convolution", check))
        self._set("gain", each("gain", self.gain, len(self.channels) + len(self.dense), "connection", positive))
        check_pooling(self.pool, self.pool_size)
        as_activation(self.activation)
        as_activation(self.output_activation or self.activation)
        if self.settle is not None:
            as_settle("settle", self.settle)
        angle_in_degrees("angle", self.angle)
        if self.tied and self.angle != 0:
            raise ValueError(f"`angle` is {self.angle!r}, but tied weights are their own feedback: add `tied=False`")
        shapes = self.shapes()
        for skip in self.skips:
            strided(skip, shapes[: len(self.channels) + 1])

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def shapes(self) -> list[Shape]:
        """Shape of each population, input first.

        Raises:
            ValueError: if an image becomes empty.
        """
        shapes: list[Shape] = [self.input_shape]
        for n, (channels, k, p, s) in enumerate(self._convolutions(), start=1):
            before = shapes[-1][1:]
            size = tuple(((m + 2 * p - k) // s + 1) // (self.pool_size if self.pool else 1) for m in before)
            if min(size) < 1:
                raise ValueError(
                    f"population {n} would be empty: kernel {k}, padding {p}, stride {s} and pooling leave nothing of "
                    f"{before[0]} x {before[1]}; take smaller ones or fewer `channels`"
                )
            shapes.append((channels, *size))
        return [*shapes, *((n,) for n in self.dense)]

    def build(self) -> Model:
        """Draw the weights and put the model together; warns of contrasts that are multiples of the gradient."""
        if self.pool == "avg-nearest" and len(self.channels) > 1:
            warn(self._amplified(), stacklevel=2)
        shapes = self.shapes()
        rho = [self.activation] * (len(shapes) - 1) + [self.output_activation or self.activation]
        populations = [Population(shape, r) for shape, r in zip(shapes, rho, strict=True)]
        cost = fresh(self.cost)
        return Model(Network(populations, self._edges(shapes)), self.dynamics, cost, self.settle or 30)

    def _amplified(self) -> str:
        """What is said of plain upsampling on a chain."""
        c, top = self.pool_size**2, len(self.channels)
        if self.skips:
            return (
                f'pool="avg-nearest" feeds {c} times the adjoint back, and with skips beside it there is no energy that EP\'s '
                'estimate is a gradient of: take pool="avg"'
            )
        factors = ", ".join(f"{c ** (top - n)} times that of connection {n}" for n in range(1, top))
        return (
            f'pool="avg-nearest" feeds {c} times the adjoint back, so that EP\'s estimate is {factors}, counted from 1, '
            'input-first: divide these learning rates by as much, or take pool="avg"'
        )

    def _convolutions(self) -> list[tuple[int, int, int, int]]:
        """Channels, kernel, padding and stride of each convolution of the chain."""
        n = len(self.channels)
        choices = (spread(getattr(self, name), n) for name in ("kernel_size", "padding", "stride"))
        return list(zip(self.channels, *choices, strict=True))

    def _edges(self, shapes: list[Shape]) -> list[Edge]:
        edges: list[Edge] = []
        gains = spread(self.gain, len(shapes) - 1)
        for post, gain in enumerate(gains, start=1):
            edges.append((post - 1, post, self._finished(post - 1, self._link(post, shapes), gain)))
            for skip in self.skips:
                if skip[1] == post:
                    pre = skip[0]
                    across = Conv2d(shapes[pre][0], shapes[post][0], 1, stride=strided(skip, shapes), bias=False)
                    edges.append((pre, post, self._finished(pre, across, gain)))
        return edges

    def _link(self, post: int, shapes: list[Shape]) -> LinearConnection:
        """The connection of the chain that ends in ``post``."""
        below = shapes[post - 1]
        if post > len(self.channels):
            return Dense(prod(below), self.dense[post - 1 - len(self.channels)])
        channels, k, p, s = self._convolutions()[post - 1]
        return Conv2d(below[0], channels, k, stride=s, padding=p, pool=self.pool, pool_size=self.pool_size)

    def _finished(self, pre: int, forward: LinearConnection, gain: float) -> LinearConnection | Untied:
        with torch.no_grad():
            for parameter in forward.parameters():
                parameter.mul_(gain)
        return forward if self.tied or pre == 0 else Untied(forward, self.angle)


def counts(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Whole numbers of at least 1.

    Raises:
        ValueError: if they are not.
    """
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(f"`{name}` must be a list of whole numbers, got {values!r}")
    return tuple(positive_int(name, n) for n in values)


def pair(skip: Sequence[int]) -> tuple[int, int]:
    """Two populations.

    Raises:
        ValueError: if it is anything else.
    """
    if not isinstance(skip, Sequence) or len(skip) != 2:
        raise ValueError(f"`skips` must be pairs of populations, got {skip!r}")
    return non_negative_int("skips", skip[0]), non_negative_int("skips", skip[1])


def each(name: str, value: T | Sequence[T], n: int, what: str, check: Callable[[str, object], T]) -> T | tuple[T, ...]:
    """One value for all, or one a convolution or connection, each of which passed ``check``.

    Raises:
        ValueError: if there is neither one value nor ``n`` of them.
    """
    if not isinstance(value, Sequence):
        return check(name, value)
    if len(value) != n:
        raise ValueError(f"`{name}` must be one value, or {n} of them, one a {what}, got {len(value)}")
    return tuple(check(name, one) for one in value)


def spread(value: T | Sequence[T], n: int) -> Sequence[T]:
    """``n`` values, where one may stand for all."""
    return value if isinstance(value, Sequence) else (value,) * n


def strided(skip: tuple[int, int], images: Sequence[Shape]) -> int:
    """The stride with which a convolution of 1 x 1 joins two images.

    Raises:
        ValueError: if there is none, or the two are not images, the first below the second.
    """
    pre, post = skip
    if not 0 <= pre < post < len(images):
        raise ValueError(
            f"`skips` must be pairs of images, the lower one first, from 0 to {len(images) - 1}, got {skip}"
        )
    stride = max(-(-a // b) for a, b in zip(images[pre][1:], images[post][1:], strict=True))
    if any((a - 1) // stride + 1 != b for a, b in zip(images[pre][1:], images[post][1:], strict=True)):
        sizes = " and ".join("{} x {}".format(*images[n][1:]) for n in skip)
        raise ValueError(f"`skips` joins populations {pre} and {post}, but no stride makes {sizes} meet")
    return stride


def convnet(
    input_shape: tuple[int, int, int],
    channels: Sequence[int],
    *,
    kernel_size: int | Sequence[int] = 5,
    padding: int | Sequence[int] = 0,
    stride: int | Sequence[int] = 1,
    pool: PoolName | None = "max",
    pool_size: int = PAIR,
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
    """``ConvNet(...).build()``: see `ConvNet` for the arguments and what they raise.

    >>> import eqprop as ep
    >>> model = ep.convnet((1, 28, 28), (32, 64), pool="avg", settle=30)
    """
    return ConvNet(
        input_shape, channels, kernel_size, padding, stride, pool, pool_size, dense, skips, gain, activation,
        output_activation, dynamics or Prototypical(), cost or SquaredError(), settle, tied, angle,
    ).build()  # fmt: skip
