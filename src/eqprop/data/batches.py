r"""Batches of samples, in an order that is a pure function of a seed and an epoch's number.

The order of epoch `n` under `seed` is ``torch.randperm`` of a fresh CPU generator, seeded by the first 32-bit word that
``numpy.random.SeedSequence([seed, n])`` gives. NumPy promises that these words never change from one release to the next, and
that pairs which differ in a single bit give unrelated words. So a run can go on in the middle of any epoch without a saved
generator, epochs share no order, and seed 1's first epoch is not seed 0's second.

How images are augmented is drawn likewise, for a whole epoch at once, by the word of that pair under the spawn key `MOVES`. The
k-th draw is that of the k-th sample in the epoch's order: of which batch it is part changes nothing.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from eqprop._core.checks import finite, instance, non_negative_int, positive_int
from eqprop.data.augmentation import Augment
from eqprop.data.split import Samples

__all__ = ["Batches", "hold_out"]

HOLD_OUT_SEED = 1597
"""Of the one permutation that `hold_out` draws by; any number would do, as long as it stays."""

MOVES = (0, 1)
"""Spawn key of what augmentation draws; with two words it is none of `eqprop.training.rng`, which have one."""


@dataclass(frozen=True, eq=False)
class Batches:
    """Samples in batches; iterating gives the batches of epoch 0.

    Attributes:
        x: inputs ``(n, ...)``, on the device where they are wanted.
        y: targets ``(n, ...)``, on the same device.
        size: samples a batch; the last batch holds what is left.
        seed: a whole number of at least 0.
        shuffle: whether every epoch has its own order; if not, batches are views of `x` and `y`.
        augment: how images ``(n, H, W)`` or ``(n, C, H, W)`` are varied, anew in every epoch; None: not at all.
        black: what a black pixel is among them, one number or one a channel: not 0 where they have been normalized.
        shape: of a sample in a batch; its own where left out. A model with a flat input takes augmented images so.

    Raises:
        ValueError: if `x` and `y` differ in length or device or are empty, a number is out of range, or the samples are no
            images, which alone can be augmented.

    >>> batches = Batches(torch.arange(10.0), torch.arange(10), size=4, shuffle=False)
    >>> [y.tolist() for x, y in batches]
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    """

    x: Tensor
    y: Tensor
    size: int
    seed: int = 0
    shuffle: bool = True
    augment: Augment | None = None
    black: Sequence[float] = (0.0,)
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_samples(self.x, self.y)
        positive_int("size", self.size)
        non_negative_int("seed", self.seed)
        if self.augment is not None:
            instance("augment", self.augment, Augment).check(self.x.shape[1:])
            check_black(self.black, self.x)
        if self.shape is not None and math.prod(self.shape) != self.x[0].numel():
            raise ValueError(f"`shape` must hold the {self.x[0].numel()} values of a sample, got {self.shape}")

    def __len__(self) -> int:
        return -(-len(self.x) // self.size)

    def __iter__(self) -> Iterator[Samples]:
        return self.epoch(0)

    def epoch(self, n: int, start: int = 0) -> Iterator[Samples]:
        """The batches of epoch `n`, counted from 0, from batch number `start` on.

        Raises:
            ValueError: if `n` is negative, or `start` is not from 0 to ``len(self)``.
        """
        non_negative_int("n", n)
        if non_negative_int("start", start) > len(self):
            raise ValueError(f"`start` must be at most {len(self)}, the number of batches, got {start}")
        batches = self.shuffled(self.order(n), start) if self.shuffle else self.slices(start)
        if self.augment is not None:
            batches = self.augmented(batches, self.augment, n, start)
        return batches if self.shape is None else ((self.shaped(x), y) for x, y in batches)

    def order(self, n: int) -> Tensor:
        """Epoch `n`'s permutation of the samples, on their device."""
        return torch.randperm(len(self.x), generator=self.generator(n)).to(self.x.device)

    def generator(self, n: int, key: tuple[int, ...] = ()) -> torch.Generator:
        """What epoch `n` draws from, for the purpose of that spawn key."""
        word = np.random.SeedSequence([self.seed, n], spawn_key=key).generate_state(1)[0]
        return torch.Generator().manual_seed(int(word))

    def shaped(self, x: Tensor) -> Tensor:
        """Samples in the shape that they have in a batch."""
        return x if self.shape is None else x.reshape(-1, *self.shape)

    def shuffled(self, order: Tensor, start: int) -> Iterator[Samples]:
        """Batches gathered along `order`."""
        for index in order.split(self.size)[start:]:
            yield self.x.index_select(0, index), self.y.index_select(0, index)

    def slices(self, start: int) -> Iterator[Samples]:
        """Batches as they lie."""
        for first in range(start * self.size, len(self.x), self.size):
            yield self.x[first : first + self.size], self.y[first : first + self.size]

    def augmented(self, batches: Iterator[Samples], augment: Augment, n: int, start: int) -> Iterator[Samples]:
        """Batches from number `start` on, with the images moved as epoch `n` has drawn."""
        drawn = augment.draw(len(self.x), self.generator(n, MOVES)).to(self.x.device)
        black = self.x.new_tensor(self.black).reshape(-1, 1, 1)
        for (x, y), moves in zip(batches, drawn.split(self.size)[start:], strict=True):
            yield augment(x, moves, black), y


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


def check_black(black: Sequence[float], x: Tensor) -> None:
    """One number, or one a channel of the images."""
    channels = x.shape[1] if x.ndim == 4 else 1
    if len([finite("black", value) for value in black]) not in (1, channels):
        raise ValueError(f"`black` must be one number, or one for each of {channels} channels, got {len(black)}")
