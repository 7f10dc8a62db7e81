"""A training as a course that stops at every batch, so that somebody else may compute what is learned from it."""

from collections.abc import Generator
from typing import NamedTuple, TypeAlias

from torch import Tensor

from eqprop.solvers.settle import Solution
from eqprop.training.history import Row
from eqprop.training.stream import Samples

__all__ = ["BatchResult", "FitArguments", "Steps", "Training", "run_to_end"]


class FitArguments(NamedTuple):
    """What a training goes over; see `Trainer.fit`."""

    batches: Samples
    epochs: int
    validation: Samples | None = None
    test: Samples | None = None


class BatchResult(NamedTuple):
    """What somebody else has computed of a batch, whose gradients are in the trainer's parameters.

    Attributes:
        loss: the mean cost of its samples, ``()``.
        solution: their free phase.
    """

    loss: Tensor
    solution: Solution


Steps: TypeAlias = Generator[tuple[Tensor, Tensor], BatchResult | None, None]
"""Part of a training."""

Training: TypeAlias = Generator[tuple[Tensor, Tensor], BatchResult | None, list[Row]]
"""A training that stops at every batch ``(x, y)`` before it learns from it: from what it is sent, or by itself if that is None.
It returns its rows."""


def run_to_end(training: Training) -> list[Row]:
    """The rows of a training that gets no help."""
    while True:
        try:
            next(training)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
