r"""Pooling of the image that a convolution gives, and its adjoint at that image.

A pooling ``P`` takes the best, or a mean, of each ``size x size`` window of ``z``; rows and columns that fill no window are
left out. In ``phi = <post, P(z)>`` the current into ``z`` is ``dP/dz^T post``, which depends on ``z`` unless P is linear:

    max        P(z) = max z                                 to the unit that is the largest now
    average    P(z) = mean z                                evenly; a convolution folds it into its weights, see `Conv2d`
    softmax    P(z) = sum p z,  p = softmax(z)              p (1 + z - P(z))                     (Laborieux & Zenke 2022)

*Nearest*: means whose way back is plain nearest-neighbor upsampling are ``size^2`` times the adjoint, so that phi is no common
energy any more. On a chain there still is one, with a weight for each layer: `eqprop.connections.conv`.

Max pooling is convex. Where the activity above it is at least 0 so is phi in ``z``: moving to where its tangent is largest never
loses what was gained. With negative activities above, the dynamics chatter between two units and never settle.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from eqprop._core.checks import one_of, positive_int

__all__ = ["PAIR", "MaxPool", "NoPool", "Pool", "PoolName", "SoftmaxPool", "check_pooling"]

PoolName = Literal["max", "avg", "avg-nearest", "softmax"]

PAIR = 2
"""Height and width of a window, where nothing is said."""


def check_pooling(pool: object, size: object) -> None:
    """See that a pooling is known, and that windows have a size and something to pool them.

    Raises:
        ValueError: if not.
    """
    one_of("pool", pool, (*get_args(PoolName), None))
    if positive_int("pool_size", size) != PAIR and pool is None:
        raise ValueError(f"`pool_size` is {size}, but `pool` is None: leave it out, or name a pooling")


@dataclass(frozen=True)
class Pool(ABC):
    """A pooling of ``z``, ``(B, C, H, W)``, by windows of ``size``."""

    size: int
    fixed: ClassVar[bool] = False
    """Whether its adjoint is the same at every ``z``."""

    @abstractmethod
    def pool(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``(P(z), trace)``: the trace is what `spread` wants to know of ``z``."""

    @abstractmethod
    def spread(self, s: Tensor, trace: Tensor, shape: torch.Size) -> Tensor:
        """``dP/dz^T s``: from the pooled image's size back to ``shape``, that of ``z``."""


@dataclass(frozen=True)
class NoPool(Pool):
    """``P(z) = z``."""

    fixed: ClassVar[bool] = True

    def pool(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``z`` itself."""
        return z, z

    def spread(self, s: Tensor, trace: Tensor, shape: torch.Size) -> Tensor:
        """``s`` itself."""
        return s


@dataclass(frozen=True)
class MaxPool(Pool):
    """The largest of each window; the first of several."""

    def pool(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The maxima, and where they are."""
        return F.max_pool2d(z, self.size, return_indices=True)

    def spread(self, s: Tensor, trace: Tensor, shape: torch.Size) -> Tensor:
        """Each value goes to where the maximum was."""
        return F.max_unpool2d(s, trace, (self.size, self.size), output_size=shape[2:])


@dataclass(frozen=True)
class SoftmaxPool(Pool):
    """The mean of each window, weighted by the softmax of its values."""

    def pool(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The means, and the slopes ``p (1 + z - P(z))`` within the windows."""
        z = self._windows(z)
        p = torch.softmax(z, -1)
        pooled = (p * z).sum(-1)
        return pooled, p * (1 + z - pooled.unsqueeze(-1))

    def spread(self, s: Tensor, trace: Tensor, shape: torch.Size) -> Tensor:
        """Each value goes to its window, by the slopes."""
        q = (s.unsqueeze(-1) * trace).unflatten(-1, (self.size, self.size)).permute(0, 1, 2, 4, 3, 5)
        q = q.flatten(4, 5).flatten(2, 3)
        return F.pad(q, (0, shape[3] - q.shape[3], 0, shape[2] - q.shape[2]))

    def _windows(self, z: Tensor) -> Tensor:
        """The values of each window side by side: ``(B, C, h, w, size^2)``."""
        h, w = (n // self.size for n in z.shape[2:])
        z = z[:, :, : h * self.size, : w * self.size].unflatten(3, (w, self.size)).unflatten(2, (h, self.size))
        return z.permute(0, 1, 2, 4, 3, 5).flatten(4)
