"""What a training must know of the processes that do it: usually one. `eqprop.training.distributed.gloo` has several."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from eqprop.costs import Cost
from eqprop.estimators.base import Estimator
from eqprop.models.model import Model
from eqprop.solvers.settle import Solution
from eqprop.training.metrics import Metrics
from eqprop.training.signals import Interrupts
from eqprop.training.stream import Samples

__all__ = ["SINGLE_PROCESS", "Position", "Processes", "Seen", "SingleProcess"]

T = TypeVar("T")


class Position(NamedTuple):
    """When something is drawn: a batch of an epoch, under a seed."""

    seed: int
    epoch: int
    batch: int


Seen = tuple[Tensor, Solution | None, Tensor, Cost]
"""What `Metrics.add` takes."""


class Processes(ABC):
    """Those that train together; what a `Trainer` must know of the others.

    Attributes:
        rank: of this process, from 0; the first alone writes and tells.
        size: how many there are.
    """

    rank: int
    size: int

    @property
    def first(self) -> bool:
        """Whether this one writes and tells."""
        return self.rank == 0

    @abstractmethod
    def admit(self, estimator: Estimator, device: torch.device | str) -> None:
        """Raise ValueError for what they cannot train together."""

    @abstractmethod
    def broadcast_state(self, model: Model) -> None:
        """Give all the first one's weights, and its state of torch's default generator."""

    @abstractmethod
    def share(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
        """This one's part of a batch, and its weight: the fraction of the samples."""

    @abstractmethod
    def gradients(
        self, losses: Callable[[], Iterator[Tensor]], optimizer: Optimizer, weight: float, moment: Position
    ) -> Iterator[Tensor]:
        """The losses of this one's part, each when the whole batch's gradient is in the optimizer's parameters.

        Raises:
            FloatingPointError: in all of them, if one met a number that is not finite.
        """

    @abstractmethod
    def count(self, tally: Metrics, seen: Seen | None, interrupts: Interrupts) -> None:
        """Add what all have seen of a batch, and agree on signals; None if this one's part was empty."""

    @abstractmethod
    def sync(self, interrupts: Interrupts, tally: Metrics | None = None) -> None:
        """A signal that one of them heard is from now on asked of all; the sums of ``tally`` become those of all."""

    @abstractmethod
    def parts(self, batches: Samples, moment: Position) -> Iterator[tuple[Tensor, Tensor]]:
        """This one's parts of test batches, without empty ones."""

    @abstractmethod
    def failing(self) -> AbstractContextManager[None]:
        """A context in which the others `agree`, and in which what is not finite in one is raised in all."""

    @abstractmethod
    def broadcast(self, value: T) -> T:
        """The first one's value."""

    @abstractmethod
    def run_on_rank0(self, make: Callable[[], T]) -> T:
        """What the first one makes; the others wait for as long as it takes."""

    @abstractmethod
    def wait(self) -> None:
        """Go on when all are here."""

    @abstractmethod
    def should_report(self) -> bool:
        """Whether this one tells why they end: the one that asks first."""


class SingleProcess(Processes):
    """One process: nobody is asked, nobody waits."""

    rank, size = 0, 1

    def admit(self, estimator: Estimator, device: torch.device | str) -> None:
        """Everything."""

    def broadcast_state(self, model: Model) -> None:
        """It is."""

    def share(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
        """All of it."""
        return x, y, 1.0

    def gradients(
        self, losses: Callable[[], Iterator[Tensor]], optimizer: Optimizer, weight: float, moment: Position
    ) -> Iterator[Tensor]:
        """See `Processes`."""
        for loss in losses():
            optimizer.zero_grad()
            loss.backward()
            yield loss

    def count(self, tally: Metrics, seen: Seen | None, interrupts: Interrupts) -> None:
        """Its own."""
        if seen is not None:
            tally.add(*seen)

    def sync(self, interrupts: Interrupts, tally: Metrics | None = None) -> None:
        """It does."""

    def parts(self, batches: Samples, moment: Position) -> Iterator[tuple[Tensor, Tensor]]:
        """All of them."""
        return iter(batches)

    def failing(self) -> AbstractContextManager[None]:
        """As anywhere."""
        return nullcontext()

    def broadcast(self, value: T) -> T:
        """Its own."""
        return value

    def run_on_rank0(self, make: Callable[[], T]) -> T:
        """Its own."""
        return make()

    def wait(self) -> None:
        """It is here."""

    def should_report(self) -> bool:
        """Yes."""
        return True


SINGLE_PROCESS = SingleProcess()
