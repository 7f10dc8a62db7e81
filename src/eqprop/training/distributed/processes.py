"""What a trainer asks of the processes that train one model: usually one. `eqprop.training.distributed.gloo` connects several."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from eqprop.costs import Cost
from eqprop.estimators.base import Estimator
from eqprop.estimators.response import Response
from eqprop.models.model import Model
from eqprop.solvers.settle import Solution
from eqprop.training.batch_steps import BatchIterable
from eqprop.training.metrics import Metrics
from eqprop.training.signals import Interrupts

__all__ = ["SINGLE_PROCESS", "Measured", "Position", "Processes", "SingleProcess"]

T = TypeVar("T")


class Position(NamedTuple):
    """A batch of an epoch under a seed: the key of the random numbers that are drawn there."""

    seed: int
    epoch: int
    batch: int


Measured: TypeAlias = tuple[Tensor, Solution | None, Tensor, Cost, Response | None]
"""Arguments of `Metrics.add`."""


class Processes(ABC):
    """The processes that train one model together.

    Attributes:
        rank: of this process, from 0. Only rank 0 logs and saves.
        size: number of processes.
    """

    rank: int
    size: int

    @property
    def is_rank0(self) -> bool:
        """Whether this process logs and saves."""
        return self.rank == 0

    @abstractmethod
    def check_estimator(self, estimator: Estimator, device: torch.device | str) -> None:
        """Raise ValueError if these processes cannot train with that estimator on that device."""

    @abstractmethod
    def broadcast_state(self, model: Model) -> None:
        """Copy the weights and the state of torch's default generator from rank 0 to all processes."""

    @abstractmethod
    def shard(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return this process's part of a batch and the fraction of the samples that it holds."""

    @abstractmethod
    def average_gradients(
        self, losses: Callable[[], Iterator[Tensor]], optimizer: Optimizer, weight: float, position: Position
    ) -> Iterator[Tensor]:
        """Yield each loss of this process's part once the gradient of the whole batch is in the optimizer's parameters.

        Raises:
            FloatingPointError: in all processes, if one of them met a number that is not finite.
        """

    @abstractmethod
    def add_batch(self, metrics: Metrics, measured: Measured | None, interrupts: Interrupts) -> None:
        """Add a batch as measured by all processes, and `sync` signals; ``measured`` is None if this process's part was empty."""

    @abstractmethod
    def sync(self, interrupts: Interrupts, metrics: Metrics | None = None) -> None:
        """Request in all processes the signal that one of them received; replace ``metrics`` by the sum over all."""

    @abstractmethod
    def shard_batches(self, batches: BatchIterable, position: Position) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's non-empty parts of test batches."""

    @abstractmethod
    def share_failure(self) -> AbstractContextManager[None]:
        """Return a context in which a FloatingPointError of one process is raised by the next `sync` of all others."""

    @abstractmethod
    def broadcast(self, value: T) -> T:
        """Return the value of rank 0."""

    @abstractmethod
    def run_on_rank0(self, function: Callable[[], T]) -> T:
        """Call ``function`` on rank 0 alone and return its result everywhere; the others wait without a time limit."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait for all processes."""

    @abstractmethod
    def should_report(self) -> bool:
        """Return whether this process reports an error: True for the first process that asks."""


class SingleProcess(Processes):
    """One process: no communication."""

    rank, size = 0, 1

    def check_estimator(self, estimator: Estimator, device: torch.device | str) -> None:
        """Accept every estimator."""

    def broadcast_state(self, model: Model) -> None:
        """Do nothing."""

    def shard(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return the whole batch."""
        return x, y, 1.0

    def average_gradients(
        self, losses: Callable[[], Iterator[Tensor]], optimizer: Optimizer, weight: float, position: Position
    ) -> Iterator[Tensor]:
        """Yield each loss after its backward pass."""
        for loss in losses():
            optimizer.zero_grad()
            loss.backward()
            yield loss

    def add_batch(self, metrics: Metrics, measured: Measured | None, interrupts: Interrupts) -> None:
        """Add the batch."""
        if measured is not None:
            metrics.add(*measured)

    def sync(self, interrupts: Interrupts, metrics: Metrics | None = None) -> None:
        """Do nothing."""

    def shard_batches(self, batches: BatchIterable, position: Position) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over the whole batches."""
        return iter(batches)

    def share_failure(self) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()

    def broadcast(self, value: T) -> T:
        """Return the value."""
        return value

    def run_on_rank0(self, function: Callable[[], T]) -> T:
        """Call the function."""
        return function()

    def barrier(self) -> None:
        """Do nothing."""

    def should_report(self) -> bool:
        """Return True."""
        return True


SINGLE_PROCESS = SingleProcess()
