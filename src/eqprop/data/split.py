"""Samples, their split into training and test parts, and a validation part held out from the training samples."""

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError, instance, positive_int, sequence
from eqprop._core.tensors import check_dense

__all__ = ["Samples", "Split", "check_samples", "hold_out"]

Samples: TypeAlias = tuple[Tensor, Tensor]
"""Inputs ``x (n, *shape)`` float32 and classes ``y (n,)`` int64."""

HOLD_OUT_SEED = 1597
"""Seed of the permutation that `hold_out` uses. Changing it would change every validation set."""


class Split(NamedTuple):
    """A data set in two parts.

    Attributes:
        train: training samples ``(x, y)``.
        test: test samples ``(x, y)``.
    """

    train: Samples
    test: Samples


def hold_out(samples: Samples, count: int) -> tuple[Samples, Samples]:
    """Split off `count` training samples for validation.

    One fixed permutation chooses them: they are the same for every seed, and a larger `count` includes those of a smaller one.

    Args:
        samples: ``(x, y)`` with n training samples.
        count: number of samples to hold out, from 1 to n - 1.

    Returns:
        ``(train, validation)``, each ``(x, y)``: copies, in the order of `samples`.

    Raises:
        ValueError: if `count` is out of range, or `x` and `y` differ in length or device or are empty.

    >>> train, validation = hold_out((torch.rand(10, 2), torch.arange(10)), 3)
    >>> len(train[0]), len(validation[1])
    (7, 3)
    """
    if len(sequence("samples", samples, "a pair (x, y)")) != 2:
        raise ArgumentError("samples", f"`samples` must be a pair (x, y), got {len(samples)} parts")
    x, y = samples
    check_samples(x, y)
    if positive_int("count", count) >= len(x):
        raise ArgumentError("count", f"`count` must be below the number of samples, {len(x)}, got {count}")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(HOLD_OUT_SEED))
    held_out = torch.zeros(len(x), dtype=torch.bool).index_fill_(0, order[:count], True).to(x.device)
    return (x[~held_out], y[~held_out]), (x[held_out], y[held_out])


def check_samples(x: Tensor, y: Tensor) -> None:
    """Check that there are as many inputs as targets, at least one of each, on one device.

    Raises:
        ValueError: if they do not match, or are not tensors.
    """
    for name, value in (("x", x), ("y", y)):
        instance(name, value, Tensor)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"`x` and `y` must have the same length, got shapes {tuple(x.shape)} and {tuple(y.shape)}")
    if len(x) == 0:
        raise ValueError("`x` and `y` must hold at least one sample, got none")
    if x.device != y.device:
        raise ValueError(f"`x` and `y` must be on one device, got {x.device} and {y.device}")
    check_dense("x", x)
    check_dense("y", y)
