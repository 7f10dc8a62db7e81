"""Rows: what is kept of an epoch, and what may be concluded from it."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from warnings import warn

from eqprop._core.files import DamagedError
from eqprop.training.metrics import Score

__all__ = ["Row", "choose", "make_row", "read_rows", "warn_if_late", "warn_if_stuck"]

Row = dict[str, Any]
"""One epoch: ``epoch``, costs, errors (fractions; None without classes), ``residual``, ``steps``, ``rates``, ``seconds``."""

PARTS = ("train", "validation", "test")
STUCK = 0.95
"""Errors above this fraction of guessing's are worth a warning …"""

ENOUGH = 100
"""… if so many samples an epoch speak for it."""

LATE = 0.1
"""A larger share of the coders of a population that have something to send is worth a warning."""


def make_row(epoch: int, scores: Mapping[str, Score], rates: Sequence[float], seconds: float) -> Row:
    """The row of an epoch.

    Args:
        epoch: its number, from 1.
        scores: of "train", and of "validation" and "test" where there are any.
        rates: the learning rates that it was trained with.
        seconds: that it took.

    Raises:
        FloatingPointError: if a cost or a residual is not finite.
    """
    row: Row = {"epoch": epoch}
    for part in PARTS:
        if part in scores:
            row |= {f"{part}_cost": scores[part].cost, f"{part}_error": scores[part].error}
    train = scores["train"]
    row |= {"residual": train.residual, "steps": train.steps, "rates": list(rates), "seconds": round(seconds, 3)}
    for name, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise FloatingPointError(
                f"the {name.replace('_', ' ')} is {value}: the training diverged; lower the learning rate"
            )
    return row


def choose(row: Row) -> dict[str, Any]:
    """What makes an epoch the best: the validation error, else the training error; costs where there are no classes.

    The test samples decide nothing.
    """
    part = "validation" if "validation_cost" in row else "train"
    by = f"{part}_cost" if row[f"{part}_error"] is None else f"{part}_error"
    return {"epoch": row["epoch"], "by": by, "value": row[by]}


def stuck(row: Row, classes: int) -> bool:
    """Whether no error, of whatever samples, is clearly below that of guessing among that many classes."""
    errors = [row[f"{part}_error"] for part in PARTS if row.get(f"{part}_error") is not None]
    return bool(errors) and min(errors) >= STUCK * (1 - 1 / classes)


def warn_if_stuck(rows: Sequence[Row], classes: int, samples: int) -> None:
    """Warn once: in the second of two epochs in which nothing was learned, or after a better one.

    Args:
        rows: of all epochs so far.
        classes: among which a network that has learned nothing guesses.
        samples: of the last epoch.
    """
    late = [stuck(row, classes) for row in rows[-2:]]
    if samples < ENOUGH or len(rows) < 2 or not late[-1] or (late[0] and len(rows) > 2):
        return
    warn(
        f"epoch {rows[-1]['epoch']}: the training error is {rows[-1]['train_error']:.1%}, guessing has {1 - 1 / classes:.1%}: "
        "the network does not learn; lower the learning rate, or look at beta, the number of steps and the residual",
        RuntimeWarning,
        stacklevel=8,
    )


def warn_if_late(rows: Sequence[Row]) -> None:
    """Warn once, in the first epoch in which many coders of a population are lagging (`eqprop.spiking.lagging`)."""
    many = [max(row.get("late") or [0.0]) > LATE for row in rows]
    if not many or not many[-1] or any(many[:-1]):
        return
    shares = ", ".join(f"{share:.0%}" for share in rows[-1]["late"])
    warn(
        f"epoch {rows[-1]['epoch']}: at the end of the free phase {shares} of the coders, by population, are wound up so far that "
        "they are decoded more than lambda off: take a larger `lam`, one that decays, or more free ticks",
        RuntimeWarning,
        stacklevel=8,
    )


def read_rows(content: bytes, name: str) -> list[Row]:
    """The rows of a metrics file; a last line that a kill cut short is left out.

    Raises:
        DamagedError: if another line is not the row of its epoch.
    """
    lines = content.split(b"\n")
    while lines and not lines[-1]:
        lines.pop()
    rows = [as_row(line, epoch) for epoch, line in enumerate(lines, start=1)]
    if rows and rows[-1] is None:
        rows.pop()
    for epoch, row in enumerate(rows, start=1):
        if row is None:
            raise DamagedError(f"{name} is damaged: line {epoch} is not the row of epoch {epoch}")
    return [row for row in rows if row is not None]


def as_row(line: bytes, epoch: int) -> Row | None:
    """What a line holds, if it is the row of that epoch."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = (
        isinstance(row, dict) and row.get("epoch") == epoch and {"train_cost", "train_error", "seconds"} <= row.keys()
    )
    return row if whole else None
