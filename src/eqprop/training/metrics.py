"""Metrics over the batches of an epoch or of a test set: cost, error, residuals, settling steps, the response to the nudge."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from eqprop.costs import Cost
from eqprop.estimators.response import Response
from eqprop.models.model import Model
from eqprop.solvers.settle import Solution, settle

__all__ = ["Metrics", "Score", "evaluate", "has_finite_cost", "is_measured"]


@dataclass(frozen=True)
class Score:
    """Means over samples.

    Attributes:
        cost: mean cost; NaN without samples.
        error: fraction of samples whose largest output is not their class; None if targets are not classes.
        residual: mean over samples of ``max |s_T - s_{T-1}|`` at the end of the free phase; None if not every batch reported one.
        steps: mean over batches of the steps of the free phase; None likewise.
        samples: number of samples.
        nudged_residual: mean of ``max |s_K - s_{K-1}|`` at the end of the nudged phases, over the samples of the batches on which
            the response to the nudge was measured; None if it was on none. Of several strengths, each sample counts with its
            largest value.
        nudged_distance: mean of ``max |s^beta - s*|``; None likewise.
        nudge: mean of ``|dt beta dC/ds|``, the first step that the force causes; None likewise.
    """

    cost: float
    error: float | None
    residual: float | None
    steps: float | None
    samples: int
    nudged_residual: float | None = None
    nudged_distance: float | None = None
    nudge: float | None = None


class Metrics:
    """Running sums, kept on the device so that adding a batch does not synchronize with it; `score` does.

    Args:
        device: device of the batches.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        # cost, wrong, residual; residual and distance of the nudged phases, nudge
        self.sums = torch.zeros(6, dtype=torch.float64, device=device)
        self.cost, self.wrong, self.residual = self.sums[:3].unbind()  # views: in-place additions reach `sums`
        self.response = self.sums[3:]
        self.samples = self.observed = self.classified = self.batches = self.steps = self.nudged = 0

    @torch.no_grad()
    def add(
        self, loss: Tensor, solution: Solution | None, y: Tensor, cost: Cost, response: Response | None = None
    ) -> None:
        """Add a batch.

        Args:
            loss: mean cost of the batch, ``()``.
            solution: its free phase; None if the estimator did not report one.
            y: its targets, ``(B,)`` classes or ``(B, n)`` floats.
            cost: computes predictions from the output.
            response: its response to the nudge; None if the estimator did not report one.
        """
        n = y.shape[0]
        self.cost.add_(loss.detach(), alpha=n)
        self.samples += n
        if response is not None:
            parts = torch.stack([response.residual, response.distance, response.nudge])
            self.response.add_(parts.sum(1, dtype=torch.float64))
            self.nudged += n
        if solution is None:
            return
        self.residual.add_(solution.residual.sum())
        if not y.is_floating_point():
            self.wrong.add_((cost.predict(solution.output).argmax(1) != y).sum())
            self.classified += n
        self.observed += n
        self.batches += 1
        self.steps += solution.steps

    def merge(self, other: "Metrics") -> None:
        """Add the sums of ``other``."""
        self.load_state(self.sums + other.sums, [a + b for a, b in zip(self.counts(), other.counts(), strict=True)])

    def score(self) -> Score:
        """Return the means so far."""
        cost, wrong, residual, *response = (self.sums / self.samples).tolist() if self.samples else [math.nan] * 6
        complete = 0 < self.samples == self.observed
        error = wrong if complete and self.classified == self.samples else None
        steps = self.steps / self.batches if complete else None
        nudged = [value * self.samples / self.nudged for value in response] if self.nudged else [None] * 3
        return Score(cost, error, residual if complete else None, steps, self.samples, *nudged)

    def counts(self) -> list[int]:
        """Return the integer counts, in the order of a checkpoint."""
        return [self.samples, self.observed, self.classified, self.batches, self.steps, self.nudged]

    def load_state(self, sums: Tensor, counts: list[int]) -> None:
        """Replace the sums, float64, and the `counts`; those of earlier versions end before the response to the nudge."""
        self.sums.zero_()[: len(sums)].copy_(sums)
        counts = [*counts, *[0] * (6 - len(counts))]
        self.samples, self.observed, self.classified, self.batches, self.steps, self.nudged = counts


@torch.no_grad()
def evaluate(
    model: Model, batches: Iterable[tuple[Tensor, Tensor]], reduce: Callable[[Metrics], object] | None = None
) -> Score:
    """Run the free phase of ``model(x)`` on every batch and return the mean metrics.

    Args:
        model: the model, on its device; batches are moved there.
        batches: ``(x, y)``; ``x`` is ``(B, *shape)`` floats, ``y`` is ``(B,)`` classes or ``(B, n)`` floats.
        reduce: adds the sums of other processes, which evaluate other samples, to the metrics of this one.

    Raises:
        ValueError: if a batch does not fit the model, or there is none.
        FloatingPointError: if an input, a weight, a state or the cost is not finite.
    """
    device = next(model.parameters()).device
    metrics = Metrics(device)
    for x, y in batches:
        x, y = x.to(device), y.to(device)
        phase, start, target = model.prepare_batch(x, y)
        solution = settle(phase, start, model.settle)
        metrics.add(model.cost.value(solution.output, target).mean(), solution, y, model.cost)
    if reduce is not None:
        reduce(metrics)
    if not metrics.samples:
        raise ValueError("`batches` is empty: give at least one batch to evaluate on")
    score = metrics.score()
    if not math.isfinite(score.cost):
        raise FloatingPointError(f"the mean cost is {score.cost}: the weights have diverged")
    return score


@torch.no_grad()
def has_finite_cost(model: Model, x: Tensor, y: Tensor) -> bool:
    """Return whether states and cost of a batch are finite at the model's present weights."""
    device = next(model.parameters()).device
    try:
        phase, start, target = model.prepare_batch(x.to(device), y.to(device))
        output = settle(phase, start, model.settle).output
    except FloatingPointError:
        return False
    return math.isfinite(model.cost.value(output, target).mean().item())


def is_measured(batch: int) -> bool:
    """Return whether the response to the nudge is measured on a batch, by its number in the epoch from 0.

    It is on the first 64 and then on every eighth, which is enough for a mean and costs next to nothing.
    """
    return batch < 64 or batch % 8 == 0
