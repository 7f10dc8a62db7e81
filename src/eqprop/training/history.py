"""Rows: the metrics of each epoch, how they are read back from a file, and warnings that follow from them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from warnings import warn

from eqprop._core.files import DamagedError, parse_json
from eqprop.estimators.response import ResponseMeans
from eqprop.training.metrics import Score

__all__ = [
    "Row",
    "is_row",
    "make_row",
    "read_rows",
    "selection_metric",
    "warn_if_not_at_rest",
    "warn_if_saturated",
    "warn_if_stuck",
]

Row = dict[str, Any]
"""One epoch: ``epoch``, costs, errors (fractions; None without classes), ``residual``, ``steps``, ``rates``, ``seconds``; of
estimators that nudge ``nudged_residual``, ``nudged_distance`` and ``nudge``, all as in `Score`."""

PARTS = ("train", "validation", "test")

RESPONSE = ("nudged_residual", "nudged_distance", "nudge")
"""Columns of estimators that nudge."""

STUCK = 0.95
"""Fraction of the error of guessing above which a network counts as not learning."""

ENOUGH_SAMPLES = 100
"""Samples per epoch below which no such warning is given."""

SATURATED = 0.1
"""Fraction of saturated coders in a population above which a warning is given."""


def make_row(epoch: int, scores: Mapping[str, Score], rates: Sequence[float], seconds: float) -> Row:
    """Return the row of an epoch.

    Args:
        epoch: its number, from 1.
        scores: of "train", and of "validation" and "test" where they were evaluated.
        rates: learning rates of the parameter groups during the epoch.
        seconds: duration of the epoch.

    Raises:
        FloatingPointError: if a cost or a residual is not finite.
    """
    row: Row = {"epoch": epoch}
    for part in PARTS:
        if part in scores:
            row |= {f"{part}_cost": scores[part].cost, f"{part}_error": scores[part].error}
    train = scores["train"]
    row |= {"residual": train.residual, "steps": train.steps, "rates": list(rates), "seconds": round(seconds, 3)}
    if train.nudged_residual is not None:
        row |= {name: getattr(train, name) for name in RESPONSE}
    for name, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise FloatingPointError(
                f"the {name.replace('_', ' ')} is {value}: the training diverged; lower the learning rate"
            )
    return row


def selection_metric(row: Row) -> dict[str, Any]:
    """Return the metric that selects the best epoch: epoch, name and value.

    It is the validation error, or the training error without a validation set; the cost where there are no classes. The test set is
    never used.
    """
    part = "validation" if "validation_cost" in row else "train"
    by = f"{part}_cost" if row[f"{part}_error"] is None else f"{part}_error"
    return {"epoch": row["epoch"], "by": by, "value": row[by]}


def _is_stuck(row: Row, classes: int) -> bool:
    """Return whether no error of the row is clearly below that of guessing among the classes."""
    errors = [row[f"{part}_error"] for part in PARTS if row.get(f"{part}_error") is not None]
    return bool(errors) and min(errors) >= STUCK * (1 - 1 / classes)


def warn_if_stuck(rows: Sequence[Row], classes: int, samples: int) -> None:
    """Warn if the network does not learn: after the second epoch, or later when it gets as bad as guessing.

    Args:
        rows: all epochs so far.
        classes: number of classes.
        samples: number of training samples in the last epoch.
    """
    stuck = [_is_stuck(row, classes) for row in rows[-2:]]
    if samples < ENOUGH_SAMPLES or len(rows) < 2 or not stuck[-1] or (stuck[0] and len(rows) > 2):
        return
    warn(
        f"epoch {rows[-1]['epoch']}: the training error is {rows[-1]['train_error']:.1%} and guessing gives {1 - 1 / classes:.1%}: "
        "the network does not learn; lower the learning rate, or check beta, the number of steps and the residual",
        RuntimeWarning,
        stacklevel=8,
    )


def warn_if_saturated(rows: Sequence[Row]) -> None:
    """Warn in the first epoch in which many coders of a population are saturated (`eqprop.spiking.lagging`)."""
    saturated = [max(row.get("late") or [0.0]) > SATURATED for row in rows]
    if not saturated or not saturated[-1] or any(saturated[:-1]):
        return
    shares = ", ".join(f"{share:.0%}" for share in rows[-1]["late"])
    warn(
        f"epoch {rows[-1]['epoch']}: at the end of the free phase the decoded value is off by more than lambda for {shares} of the "
        "coders, by population: use a larger `lam`, one that decays, or more free ticks",
        RuntimeWarning,
        stacklevel=8,
    )


def warn_if_not_at_rest(rows: Sequence[Row], means: Callable[[Row], ResponseMeans]) -> None:
    """Warn in the first epoch whose phases have not come to rest or jumped, once for each problem.

    Args:
        rows: all epochs so far; those of earlier versions have no response.
        means: returns the response of a row.
    """
    found = [means(row).problems() if _has_response(row) else [] for row in rows]
    for problem in found[-1] if found else ():
        if any(problem in earlier for earlier in found[:-1]):
            continue
        row = rows[-1]
        warn(
            f"epoch {row['epoch']}: {problem} (means: free residual {row['residual']:.1e}, nudge {row['nudge']:.1e}, "
            f"nudged residual {row['nudged_residual']:.1e}, distance {row['nudged_distance']:.1e})",
            RuntimeWarning,
            stacklevel=8,
        )


def _has_response(row: Row) -> bool:
    """Return whether a row has all that the checks need, as finite numbers."""
    return all(isinstance(row.get(name), int | float) for name in ("residual", *RESPONSE))


def read_rows(content: bytes, name: str) -> list[Row]:
    """Return the rows of a metrics file; a last line that a kill cut short is left out.

    Raises:
        DamagedError: if any other line is not the row of its epoch.
    """
    lines = content.split(b"\n")
    while lines and not lines[-1]:
        lines.pop()
    rows = [_parse_row(line, epoch) for epoch, line in enumerate(lines, start=1)]
    if rows and rows[-1] is None:
        rows.pop()
    for epoch, row in enumerate(rows, start=1):
        if row is None:
            raise DamagedError(f"{name} is damaged: line {epoch} is not the row of epoch {epoch}")
    return [row for row in rows if row is not None]


def _parse_row(line: bytes, epoch: int) -> Row | None:
    """Return the row in a line; None if it is not the row of that epoch."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if is_row(row, epoch) else None


def is_row(row: object, epoch: int) -> bool:
    """Return whether a value from a file is the row of an epoch, with values that plots and tables can take."""
    required = {"train_cost", "train_error", "seconds"}
    if not isinstance(row, dict) or row.get("epoch") != epoch or not required <= row.keys():
        return False
    errors = [row[f"{part}_error"] is None for part in PARTS if f"{part}_error" in row]
    return all(_is_valid(name, value) for name, value in row.items()) and all(errors) == any(
        errors
    )  # all have classes, or none


def _is_valid(name: str, value: Any) -> bool:
    """Return whether a value can be that of the column: plots and tables take what is in the file."""
    if value is None:
        return name not in ("train_cost", "seconds")
    if name == "rates":
        return isinstance(value, list) and all(_is_number(rate) and rate >= 0 for rate in value)
    part, _, column = name.rpartition("_")
    if part in PARTS and column in ("cost", "error"):
        return _is_number(value) and (column == "cost" or 0 <= value <= 1)
    if name in ("residual", "steps", "seconds", *RESPONSE):
        return _is_number(value) and value >= 0
    return True  # a diagnostic of its own


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
