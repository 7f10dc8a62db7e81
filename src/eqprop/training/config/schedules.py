"""Learning-rate schedules as frozen choices; ``build`` makes the `torch.optim.lr_scheduler` object, stepped once an epoch."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, StepLR

from eqprop._core.checks import fraction, non_negative, positive_int

__all__ = ["Constant", "Cosine", "Schedule", "StepDecay"]


class Schedule(ABC):
    """How the learning rates change from epoch to epoch."""

    @abstractmethod
    def build(self, optimizer: Optimizer, epochs: int) -> LRScheduler | None:
        """The scheduler for a training of that many epochs; None where nothing changes."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The rates stay.

    >>> Constant()
    Constant()
    """

    def build(self, optimizer: Optimizer, epochs: int) -> None:
        """Nothing to step."""


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from the rates down to ``floor``, over all epochs.

    Args:
        floor: the learning rate that is approached, at least 0.

    Raises:
        ValueError: if ``floor`` is negative or not finite.

    >>> Cosine(floor=1e-5)
    Cosine(floor=1e-05)
    """

    floor: float = 0.0

    def __post_init__(self) -> None:
        non_negative("floor", self.floor)

    def build(self, optimizer: Optimizer, epochs: int) -> CosineAnnealingLR:
        """`torch.optim.lr_scheduler.CosineAnnealingLR`."""
        return CosineAnnealingLR(optimizer, epochs, self.floor)


@dataclass(frozen=True)
class StepDecay(Schedule):
    """The rates are multiplied by ``factor`` every ``every`` epochs.

    Args:
        every: epochs between two steps.
        factor: in [0, 1).

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
        """`torch.optim.lr_scheduler.StepLR`."""
        return StepLR(optimizer, self.every, self.factor)
