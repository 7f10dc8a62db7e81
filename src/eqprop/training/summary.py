"""Summary of a training: the numbers of a table, from the rows of one run or of several seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from eqprop.training.run_folder import Row

__all__ = ["Spread", "Summary", "summarize"]

LAST = 5
"""Number of last epochs whose mean error is reported."""


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, and their standard deviation (n - 1 in the denominator; None for a single seed)."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of values."""
        return cls(mean(values), stdev(values) if len(values) > 1 else None)

    def percent(self) -> str:
        """Format as percent with two decimals."""
        return (
            f"{100 * self.mean:.2f}" + (f" ± {100 * self.deviation:.2f}" if self.deviation is not None else "") + " %"
        )


@dataclass(frozen=True)
class Summary:
    """Errors as fractions.

    Attributes:
        seeds: number of runs.
        epochs: number of epochs of the shortest run.
        train: training error in the last epoch.
        test: test error after the last epoch.
        test_last: mean of the test errors after the last five epochs; None if there are fewer.
        test_lowest: lowest test error of all epochs, as reported by papers that select the epoch on the test set.
        seconds: mean duration of a run.
    """

    seeds: int
    epochs: int
    train: Spread
    test: Spread
    test_last: Spread | None
    test_lowest: Spread
    seconds: float


def summarize(runs: Sequence[Sequence[Row]]) -> Summary | None:
    """Return the summary of runs that differ in their seed; None if one has no epoch yet, or an epoch has no test error."""
    if not all(rows and all(row.get("test_error") is not None for row in rows) for rows in runs):
        return None
    tests = [[row["test_error"] for row in rows] for rows in runs]
    return Summary(
        len(runs),
        min(map(len, runs)),
        Spread.of([rows[-1]["train_error"] for rows in runs]),
        Spread.of([errors[-1] for errors in tests]),
        Spread.of([mean(errors[-LAST:]) for errors in tests]) if all(len(errors) >= LAST for errors in tests) else None,
        Spread.of([min(errors) for errors in tests]),
        mean(sum(row["seconds"] for row in rows) for rows in runs),
    )
