"""What every loader returns."""

from typing import NamedTuple, TypeAlias

from torch import Tensor

__all__ = ["Samples", "Split"]

Samples: TypeAlias = tuple[Tensor, Tensor]
"""Inputs ``x``: ``(n, *shape)`` float32, and classes ``y``: ``(n,)`` int64."""


class Split(NamedTuple):
    """A data set in two parts.

    Attributes:
        train: ``(x, y)`` to learn from.
        test: ``(x, y)`` to judge by.
    """

    train: Samples
    test: Samples
