"""Learning-rate schedules as frozen dataclasses; ``build`` makes the `torch.optim.lr_scheduler` object, stepped once per epoch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, StepLR

from eqprop._core.checks import ArgumentError, fraction, non_negative, positive_int

__all__ = ["Constant", "Cosine", "Schedule", "StepDecay"]


class Schedule(ABC):
    """Base class of learning-rate schedules."""

    @abstractmethod
    def build(self, optimizer: Optimizer, epochs: int) -> LRScheduler | None:
        """Return the scheduler for a training of ``epochs`` epochs; None if the rates are constant."""

    def check_rates(self, rates: Sequence[float]) -> None:  # noqa: B027 - most schedules take any rates
        """Check that the schedule lowers these initial rates.

        Raises:
            ArgumentError: if it would raise one.
        """


@dataclass(frozen=True)
class Constant(Schedule):
    """Constant learning rates.

    >>> Constant()
    Constant()
    """

    def build(self, optimizer: Optimizer, epochs: int) -> None:
        """Return None."""


@dataclass(frozen=True)
class Cosine(Schedule):
    """Cosine annealing from the initial rates to ``floor`` over all epochs.

    Args:
        floor: final learning rate, at least 0.

    Raises:
        ValueError: if ``floor`` is negative or not finite.

    >>> Cosine(floor=1e-5)
    Cosine(floor=1e-05)
    """

    floor: float = 0.0

    def __post_init__(self) -> None:
        non_negative("floor", self.floor)

    def check_rates(self, rates: Sequence[float]) -> None:
        """Refuse a floor above an initial rate."""
        if self.floor > min(rates):
            raise ArgumentError(
                "floor", f"`floor` must be at most the initial learning rate, {min(rates):g}, got {self.floor!r}"
            )

    def build(self, optimizer: Optimizer, epochs: int) -> CosineAnnealingLR:
        """Return a `torch.optim.lr_scheduler.CosineAnnealingLR`."""
        return CosineAnnealingLR(optimizer, epochs, self.floor)


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Multiply the rates by ``factor`` every ``every`` epochs.

    Args:
        every: number of epochs between two decays.
        factor: decay factor, in [0, 1).

    Raises:
        ValueError: if ``every`` is not a positive whole number or ``factor`` is out of its range.

    >>> StepDecay(every=10).factor
    0.1
    """

    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        positive_int("every", self.every)
        fraction("factor", self.factor)

    def build(self, optimizer: Optimizer, epochs: int) -> StepLR:
        """Return a `torch.optim.lr_scheduler.StepLR`."""
        return StepLR(optimizer, self.every, self.factor)
