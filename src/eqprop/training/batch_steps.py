"""Training as a generator that pauses before every batch, so that several trainings can share one computation."""

from collections.abc import Generator, Iterable, Iterator
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from eqprop.data.batches import Batches
from eqprop.estimators.response import Response
from eqprop.solvers.settle import Solution
from eqprop.training.history import Row

__all__ = ["BatchIterable", "BatchResult", "FitArguments", "Steps", "Training", "remaining_batches", "run_to_end"]

BatchIterable: TypeAlias = Iterable[tuple[Tensor, Tensor]]
"""Batches ``(x, y)``: ``x`` is ``(B, *shape)`` floats, ``y`` is ``(B,)`` classes or ``(B, n)`` floats."""


class FitArguments(NamedTuple):
    """Arguments of `Trainer.fit`."""

    batches: BatchIterable
    epochs: int
    validation: BatchIterable | None = None
    test: BatchIterable | None = None


class BatchResult(NamedTuple):
    """Result of a batch whose gradients the caller has computed and put into the trainer's parameters.

    Attributes:
        loss: mean cost over the batch, ``()``.
        solution: the free phase of the batch.
        response: the response to the nudge; None if the estimator did not report one.
    """

    loss: Tensor
    solution: Solution
    response: Response | None = None


Steps: TypeAlias = Generator[tuple[Tensor, Tensor], BatchResult | None, None]
"""Part of a `Training`."""

Training: TypeAlias = Generator[tuple[Tensor, Tensor], BatchResult | None, list[Row]]
"""Yields each batch ``(x, y)`` before training on it and returns the rows of all epochs.

If a `BatchResult` is sent, its gradients are used; if None is sent, the training computes the batch itself."""


def run_to_end(training: Training) -> list[Row]:
    """Run a training that computes every batch itself and return its rows."""
    while True:
        try:
            next(training)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def remaining_batches(
    batches: BatchIterable, epoch: int, done: int, rng_state: Tensor
) -> tuple[Iterator[tuple[Tensor, Tensor]], Tensor]:
    """Return the batches of an epoch that are not done yet.

    `Batches` computes the order of an epoch from its number. Any other iterable is iterated from its start, with torch's default
    generator in the state of the start of the epoch, so that an order drawn from that generator is drawn again.

    Args:
        batches: iterated once per epoch.
        epoch: number of the epoch, from 0.
        done: number of its batches that are done.
        rng_state: state of torch's default CPU generator at the start of the epoch; used if ``done`` is not 0.

    Returns:
        The iterator, and the generator state to pass in when this epoch is resumed.
    """
    now = torch.get_rng_state()
    if isinstance(batches, Batches):
        return batches.epoch(epoch, done), rng_state if done else now
    if done == 0:
        return iter(batches), now
    torch.set_rng_state(rng_state)
    left = iter(batches)
    for _ in range(done):
        next(left, None)
    torch.set_rng_state(now)
    return left, rng_state
