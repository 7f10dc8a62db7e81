"""What is measured over the batches of an epoch or of a test: cost, errors, residual, steps."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from eqprop.costs import Cost
from eqprop.solvers.settle import Solution

__all__ = ["Metrics", "Score"]


@dataclass(frozen=True)
class Score:
    """Means over samples.

    Attributes:
        cost: mean cost; NaN if there was no sample.
        error: fraction of samples whose largest score is not their class; None if the targets are no classes.
        residual: mean over samples of ``max |s_T - s_{T-1}|`` of the free phase; None if no phase was shown.
        steps: mean over batches of the steps taken in the free phase; None likewise.
        samples: number of samples.
    """

    cost: float
    error: float | None
    residual: float | None
    steps: float | None
    samples: int


class Metrics:
    """Running sums on the device; nothing waits for it until `score` is read.

    Args:
        device: where the batches live.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)  # cost, wrong, residual
        self.cost, self.wrong, self.residual = self.sums.unbind()
        self.samples = self.shown = self.classified = self.batches = self.steps = 0

    @torch.no_grad()
    def add(self, loss: Tensor, solution: Solution | None, y: Tensor, cost: Cost) -> None:
        """One batch.

        Args:
            loss: its mean cost, ``()``.
            solution: its free phase; None if the estimator did not show it.
            y: its targets.
            cost: reads predictions out.
        """
        n = y.shape[0]
        self.cost.add_(loss.detach(), alpha=n)
        self.samples += n
        if solution is None:
            return
        self.residual.add_(solution.residual.sum())
        if not y.is_floating_point():
            self.wrong.add_((cost.predict(solution.output).argmax(1) != y).sum())
            self.classified += n
        self.shown += n
        self.batches += 1
        self.steps += solution.steps

    def include(self, other: "Metrics") -> None:
        """Add the sums of another."""
        self.sums.add_(other.sums)
        self.samples += other.samples
        self.shown += other.shown
        self.classified += other.classified
        self.batches += other.batches
        self.steps += other.steps

    def score(self) -> Score:
        """The means so far; waits for the device."""
        cost, wrong, residual = (self.sums / self.samples).tolist() if self.samples else [math.nan] * 3
        whole = 0 < self.samples == self.shown
        error = wrong if whole and self.classified == self.samples else None
        return Score(
            cost, error, residual if whole else None, self.steps / self.batches if whole else None, self.samples
        )

    def state(self) -> tuple[Tensor, list[int]]:
        """The sums ``(3,)`` float64 and the counts, for a checkpoint."""
        return self.sums.cpu(), [self.samples, self.shown, self.classified, self.batches, self.steps]

    def restore(self, sums: Tensor, counts: list[int]) -> None:
        """What `state` gave."""
        self.sums.copy_(sums)
        self.samples, self.shown, self.classified, self.batches, self.steps = counts
