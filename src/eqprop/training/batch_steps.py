"""Training as a generator that pauses before every batch, so that several trainings can share one computation."""

from collections.abc import Generator, Iterable, Iterator
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError
from eqprop.data.batches import Batches
from eqprop.estimators.response import Response
from eqprop.solvers.settle import Solution
from eqprop.training.history import Row

__all__ = [
    "Batch",
    "BatchIterable",
    "BatchResult",
    "FitArguments",
    "Steps",
    "Training",
    "as_batch",
    "remaining_batches",
    "run_to_end",
]

Batch: TypeAlias = tuple[Tensor, Tensor]
"""Inputs and targets of a batch."""

BatchIterable: TypeAlias = Iterable[Batch]
"""Batches ``(x, y)``: ``x`` is ``(B, *shape)`` floats, ``y`` is ``(B,)`` classes or ``(B, n)`` floats."""


class FitArguments(NamedTuple):
    """Arguments of `Trainer.fit`."""

    batches: BatchIterable
    epochs: int
    validation: BatchIterable | None = None
    test: BatchIterable | None = None

    def check(self) -> None:
        """Check that the batches can be iterated.

        Raises:
            ArgumentError: if they cannot.
        """
        for name, batches in (("batches", self.batches), ("validation", self.validation), ("test", self.test)):
            if batches is not None and not isinstance(batches, Iterable) and not hasattr(batches, "__getitem__"):
                raise ArgumentError(name, f"`{name}` must be an iterable of batches (x, y), got {batches!r}")


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


def as_batch(batch: object) -> Batch:
    """Return a batch of a user's iterable as a tuple.

    Raises:
        ArgumentError: if it is not a pair of tensors.
    """
    if isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch):
        return batch[0], batch[1]
    if isinstance(batch, dict):
        got = f"a dict with the keys {', '.join(map(repr, batch))}: yield its inputs and its targets"
    elif isinstance(batch, tuple | list):
        kinds = ", ".join(type(part).__name__ for part in batch)
        got = f"{len(batch)} parts ({kinds}): yield two tensors (`torch.as_tensor` converts arrays)"
    else:
        got = f"an object of class {type(batch).__name__}"
    raise ArgumentError("batches", f"every batch must be a pair (x, y) of tensors, got {got}")


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
