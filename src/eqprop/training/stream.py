"""The batches that are left of an epoch, whatever they come from."""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

from eqprop.data.batches import Batches

__all__ = ["Samples", "remaining_batches"]

Samples: TypeAlias = Iterable[tuple[Tensor, Tensor]]
"""Batches ``(x, y)``: ``(B, *shape)`` floats, and ``(B,)`` classes or ``(B, n)`` floats."""


def remaining_batches(
    batches: Samples, epoch: int, done: int, drawn: Tensor
) -> tuple[Iterator[tuple[Tensor, Tensor]], Tensor]:
    """What is left of an epoch.

    `Batches` knows its order. Another iterable is walked from its beginning: one that draws its order from torch's default
    generator is given the generator's state of that epoch's beginning, so that it draws the same one again.

    Args:
        batches: what is iterated once an epoch.
        epoch: number of the epoch, from 0.
        done: batches of it that are done.
        drawn: state of torch's default generator when this epoch began; not used if none is done.

    Returns:
        The iterator, and the state to come back with.
    """
    now = torch.get_rng_state()
    if isinstance(batches, Batches):
        return batches.epoch(epoch, done), drawn if done else now
    if done == 0:
        return iter(batches), now
    torch.set_rng_state(drawn)
    left = iter(batches)
    for _ in range(done):
        next(left, None)
    torch.set_rng_state(now)
    return left, drawn
