r"""Batches of samples in an order that is a pure function of a seed and an epoch number.

The order of epoch `n` under `seed` is ``torch.randperm`` of a new CPU generator, seeded with the first 32-bit word of
``numpy.random.SeedSequence([seed, n])``. NumPy guarantees that these words never change between releases, and that pairs that
differ in a single bit give independent words. So a run can resume in the middle of any epoch without a saved generator, and
no two epochs of different seeds or numbers share an order.

Augmentation draws its numbers in the same way, for a whole epoch in one call, from the word of that pair under the spawn key
`MOVES`. The k-th row belongs to the k-th sample in the epoch's order, whatever the batch size.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError, boolean, finite, instance, non_negative_int, positive_int, sequence
from eqprop.data.augmentation import Augment
from eqprop.data.split import Samples, check_samples

__all__ = ["Batches"]

MOVES = (0, 1)
"""Spawn key of the augmentation stream. It has two words, so it differs from the keys of `eqprop.training.rng`, which have one."""


@dataclass(frozen=True, eq=False)
class Batches:
    """Samples in batches. Iterating over the object gives the batches of epoch 0.

    Attributes:
        x: inputs ``(n, ...)``; batches are on the same device.
        y: targets ``(n, ...)`` on the same device.
        size: number of samples in a batch; the last batch holds the rest.
        seed: integer of at least 0.
        shuffle: give every epoch its own order; if False, batches are views of `x` and `y`.
        augment: random transformation of images ``(n, H, W)`` or ``(n, C, H, W)``, drawn again in every epoch; None: none.
        black: value of a black pixel (not 0 after normalization): one number, or one per channel.
        shape: shape of a sample in a batch; None: as in `x`. Models with a flat input use it to get augmented images.

    Raises:
        ValueError: if `x` and `y` are empty or differ in length or device, a number is out of range, or the samples are not
            images and `augment` is given.

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
        boolean("shuffle", self.shuffle)
        if self.shape is not None:
            object.__setattr__(
                self,
                "shape",
                tuple(positive_int("shape", n) for n in sequence("shape", self.shape, "a list of whole numbers")),
            )
        if self.augment is not None:
            instance("augment", self.augment, Augment).check(self.x.shape[1:])
            _check_black(self.black, self.x)
        if self.shape is not None and math.prod(self.shape) != self.x[0].numel():
            raise ArgumentError(
                "shape", f"`shape` must hold the {self.x[0].numel()} values of a sample, got {self.shape}"
            )

    def __len__(self) -> int:
        return -(-len(self.x) // self.size)

    def __iter__(self) -> Iterator[Samples]:
        return self.epoch(0)

    def epoch(self, n: int, start: int = 0) -> Iterator[Samples]:
        """Return an iterator over the batches of epoch `n`, counted from 0, starting at batch number `start`.

        Raises:
            ValueError: if `n` is negative, or `start` is not from 0 to ``len(self)``.
        """
        non_negative_int("n", n)
        if non_negative_int("start", start) > len(self):
            raise ArgumentError("start", f"`start` must be at most {len(self)}, the number of batches, got {start}")
        batches = self._shuffled_batches(self.order(n), start) if self.shuffle else self._ordered_batches(start)
        if self.augment is not None:
            batches = self._augmented_batches(batches, self.augment, n, start)
        return batches if self.shape is None else ((self.reshape(x), y) for x, y in batches)

    def order(self, n: int) -> Tensor:
        """Return the permutation of the samples in epoch `n`, on their device."""
        return torch.randperm(len(self.x), generator=self._generator(n)).to(self.x.device)

    def reshape(self, x: Tensor) -> Tensor:
        """Reshape samples to the shape that they have in a batch."""
        return x if self.shape is None else x.reshape(-1, *self.shape)

    def _generator(self, n: int, key: tuple[int, ...] = ()) -> torch.Generator:
        """Return a new generator for epoch `n` and the purpose of a spawn key."""
        word = np.random.SeedSequence([self.seed, n], spawn_key=key).generate_state(1)[0]
        return torch.Generator().manual_seed(int(word))

    def _shuffled_batches(self, order: Tensor, start: int) -> Iterator[Samples]:
        for index in order.split(self.size)[start:]:
            yield self.x.index_select(0, index), self.y.index_select(0, index)

    def _ordered_batches(self, start: int) -> Iterator[Samples]:
        for first in range(start * self.size, len(self.x), self.size):
            yield self.x[first : first + self.size], self.y[first : first + self.size]

    def _augmented_batches(self, batches: Iterator[Samples], augment: Augment, n: int, start: int) -> Iterator[Samples]:
        """Transform batches from number `start` on with the numbers drawn for epoch `n`."""
        # one draw and one copy to the device for the whole epoch
        drawn = augment.draw(len(self.x), self._generator(n, MOVES)).to(self.x.device)
        black = self.x.new_tensor(self.black).reshape(-1, 1, 1)
        for (x, y), moves in zip(batches, drawn.split(self.size)[start:], strict=True):
            yield augment(x, moves, black), y


def _check_black(black: Sequence[float], x: Tensor) -> None:
    channels = x.shape[1] if x.ndim == 4 else 1
    if len([finite("black", value) for value in black]) not in (1, channels):
        raise ArgumentError(
            "black", f"`black` must be one number, or one for each of {channels} channels, got {len(black)}"
        )
