r"""Pooling of the image that a convolution computes, and the adjoint of the pooling.

A pooling ``P`` reduces each ``size x size`` window of ``z`` to its maximum or a mean. Rows and columns that do not fill a window
are left out. In ``phi = <post, P(z)>`` the current into ``z`` is ``dP/dz^T post``, which depends on ``z`` unless P is linear:

    pooling    P(z)                                         dP/dz
    max        max z                                        1 at the maximum, else 0
    average    mean z                                       1 / size^2; a convolution folds it into its weights, see `Conv2d`
    softmax    sum p z,  p = softmax(z)                     p (1 + z - P(z))                     (Laborieux & Zenke 2022)

"avg-nearest" is a mean whose feedback is nearest-neighbor upsampling, ``size^2`` times the adjoint. Then phi is no common energy
of both directions. A chain still has an energy, with one factor per layer: see `eqprop.connections.conv`.

Max pooling is convex. If the activity above is non-negative, phi is convex in ``z`` and never below its tangent, so that a step
to the maximum of the tangent never decreases phi. With negative activities above, the dynamics alternate between two units and
never settle.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from eqprop._core.checks import ArgumentError, one_of, positive_int

__all__ = ["DEFAULT_POOL_SIZE", "MaxPool", "NoPool", "Pool", "PoolName", "SoftmaxPool", "check_pooling"]

PoolName = Literal["max", "avg", "avg-nearest", "softmax"]

DEFAULT_POOL_SIZE = 2
"""Default height and width of a window."""


def check_pooling(pool: object, size: object) -> None:
    """Check the name of a pooling and the size of its windows.

    Raises:
        ArgumentError: if the pooling is unknown, the size is not a positive whole number, or a size is given without a pooling.
    """
    one_of("pool", pool, (*get_args(PoolName), None))
    if positive_int("pool_size", size) != DEFAULT_POOL_SIZE and pool is None:
        raise ArgumentError("pool_size", f"`pool_size` is {size}, but `pool` is None: leave it out, or name a pooling")


@dataclass(frozen=True)
class Pool(ABC):
    """Base class of poolings of an image ``z``, ``(B, C, H, W)``, in ``size x size`` windows."""

    size: int
    fixed: ClassVar[bool] = False
    """Whether the adjoint is the same for every ``z``, that is, the pooling is linear."""

    @abstractmethod
    def pool(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(P(z), trace)``; the trace contains what `unpool` needs to know of ``z``."""

    @abstractmethod
    def unpool(self, s: Tensor, trace: Tensor, shape: torch.Size) -> Tensor:
        """Return ``dP/dz^T s``, of the shape of ``z``."""


@dataclass(frozen=True)
class NoPool(Pool):
    """The identity, ``P(z) = z``."""

    fixed: ClassVar[bool] = True

    def pool(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``z``."""
        return z, z

    def unpool(self, s: Tensor, trace: Tensor, shape: torch.Size) -> Tensor:
        """Return ``s``."""
        return s


@dataclass(frozen=True)
class MaxPool(Pool):
    """The maximum of each window; the first one of equal values."""

    def pool(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maxima and their indices."""
        return F.max_pool2d(z, self.size, return_indices=True)

    def unpool(self, s: Tensor, trace: Tensor, shape: torch.Size) -> Tensor:
        """Place each value where the maximum of its window was."""
        return F.max_unpool2d(s, trace, (self.size, self.size), output_size=shape[2:])


@dataclass(frozen=True)
class SoftmaxPool(Pool):
    """The mean of each window, weighted by the softmax of its values."""

    def pool(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means and the slopes ``p (1 + z - P(z))``, the latter ``(B, C, h, w, size^2)``."""
        z = self._windows(z)
        p = torch.softmax(z, -1)
        pooled = (p * z).sum(-1)
        return pooled, p * (1 + z - pooled.unsqueeze(-1))

    def unpool(self, s: Tensor, trace: Tensor, shape: torch.Size) -> Tensor:
        """Multiply the slopes of each window by its value and arrange the windows as an image; units in no window get 0."""
        q = (s.unsqueeze(-1) * trace).unflatten(-1, (self.size, self.size)).permute(0, 1, 2, 4, 3, 5)
        q = q.flatten(4, 5).flatten(2, 3)
        return F.pad(q, (0, shape[3] - q.shape[3], 0, shape[2] - q.shape[2]))

    def _windows(self, z: Tensor) -> Tensor:
        """Return the values of each window: ``(B, C, h, w, size^2)``."""
        h, w = (n // self.size for n in z.shape[2:])
        z = z[:, :, : h * self.size, : w * self.size].unflatten(3, (w, self.size)).unflatten(2, (h, self.size))
        return z.permute(0, 1, 2, 4, 3, 5).flatten(4)
