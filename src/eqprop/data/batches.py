r"""Batches of samples, in an order that is a pure function of a seed and an epoch's number.

The order of epoch `n` under `seed` is ``torch.randperm`` of a fresh CPU generator, seeded by the first 32-bit word that
``numpy.random.SeedSequence([seed, n])`` gives. NumPy promises that these words never change from one release to the next, and
that pairs which differ in a single bit give unrelated words. So a run can go on in the middle of any epoch without a saved
generator, epochs share no order, and seed 1's first epoch is not seed 0's second.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from eqprop.checks import natural, positive_int
from eqprop.data.split import Samples

__all__ = ["Batches", "hold_out"]

HOLD_OUT_SEED = 1597
"""Of the one permutation that `hold_out` draws by; any number would do, as long as it stays."""


@dataclass(frozen=True, eq=False)
class Batches:
    """Samples in batches; iterating gives the batches of epoch 0.

    Attributes:
        x: inputs ``(n, ...)``, on the device where they are wanted.
        y: targets ``(n, ...)``, on the same device.
        size: samples a batch; the last batch holds what is left.
        seed: a whole number of at least 0.
        shuffle: whether every epoch has its own order; if not, batches are views of `x` and `y`.

    Raises:
        ValueError: if `x` and `y` differ in length or device or are empty, or a number is out of range.

    >>> batches = Batches(torch.arange(10.0), torch.arange(10), size=4, shuffle=False)
    >>> [y.tolist() for x, y in batches]
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    """

    x: Tensor
    y: Tensor
    size: int
    seed: int = 0
    shuffle: bool = True

    def __post_init__(self) -> None:
        check_samples(self.x, self.y)
        positive_int("size", self.size)
        natural("seed", self.seed)

    def __len__(self) -> int:
        return -(-len(self.x) // self.size)

    def __iter__(self) -> Iterator[Samples]:
        return self.epoch(0)

    def epoch(self, n: int, start: int = 0) -> Iterator[Samples]:
        """The batches of epoch `n`, counted from 0, from batch number `start` on.

        Raises:
            ValueError: if `n` is negative, or `start` is not from 0 to ``len(self)``.
        """
        natural("n", n)
        if natural("start", start) > len(self):
            raise ValueError(f"`start` must be at most {len(self)}, the number of batches, got {start}")
        return self.shuffled(self.order(n), start) if self.shuffle else self.slices(start)

    def order(self, n: int) -> Tensor:
        """Epoch `n`'s permutation of the samples, on their device."""
        word = np.random.SeedSequence([self.seed, n]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(word))
        return torch.randperm(len(self.x), generator=generator).to(self.x.device)

    def shuffled(self, order: Tensor, start: int) -> Iterator[Samples]:
        """Batches gathered along `order`."""
        for index in order.split(self.size)[start:]:
            yield self.x.index_select(0, index), self.y.index_select(0, index)

    def slices(self, start: int) -> Iterator[Samples]:
        """Batches as they lie."""
        for first in range(start * self.size, len(self.x), self.size):
            yield self.x[first : first + self.size], self.y[first : first + self.size]


def hold_out(samples: Samples, count: int) -> tuple[Samples, Samples]:
    """Take `count` training samples away to tune on, so that nobody tunes on the test set.

    They are drawn by one fixed permutation: the same for every seed, and the first of a larger `count`.

    Args:
        samples: ``(x, y)`` of n training samples.
        count: how many to take, from 1 to n - 1.

    Returns:
        ``(train, validation)``, each ``(x, y)``, copied, in the order of `samples`.

    Raises:
        ValueError: if `count` is out of range or `x` and `y` differ in length.

    >>> train, validation = hold_out((torch.rand(10, 2), torch.arange(10)), 3)
    >>> len(train[0]), len(validation[1])
    (7, 3)
    """
    x, y = samples
    check_samples(x, y)
    if positive_int("count", count) >= len(x):
        raise ValueError(f"`count` must be below the number of samples, {len(x)}, got {count}")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(HOLD_OUT_SEED))
    held_out = torch.zeros(len(x), dtype=torch.bool).index_fill_(0, order[:count], True).to(x.device)
    return (x[~held_out], y[~held_out]), (x[held_out], y[held_out])


def check_samples(x: Tensor, y: Tensor) -> None:
    """As many inputs as targets, at least one, on one device."""
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"`x` and `y` must be equally long, got shapes {tuple(x.shape)} and {tuple(y.shape)}")
    if len(x) == 0:
        raise ValueError("`x` and `y` must hold at least one sample, got none")
    if x.device != y.device:
        raise ValueError(f"`x` and `y` must be on one device, got {x.device} and {y.device}")
