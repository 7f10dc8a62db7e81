"""Angles over the epochs of a training: of feedback weights to forward ones, and of the update to BPTT's gradient."""

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

from eqprop.plots.canvas import PALETTE, canvas, save, small_print, whole_numbers

__all__ = ["angle_curves", "angled"]

Rows = Sequence[Mapping[str, Any]]
"""Epoch rows, as in ``metrics.jsonl``."""

WIDEST = 180.0
"""Degrees between opposite directions."""


def angled(rows: Rows) -> bool:
    """Whether any row holds an angle."""
    return any(row.get("weight_angles") or row.get("update_angle") is not None for row in rows)


def angle_curves(rows: Rows, connections: Sequence[str], path: Path, title: str = "") -> None:
    """Angles in degrees against epochs, beside a line at 90, where directions are orthogonal.

    Args:
        rows: with ``update_angle``, and ``weight_angles``, a list; an angle that is missing or None leaves a gap.
        connections: whose weights those of the list are, ``"1→2"``, in its order.
        path: where to write, without an ending.
        title: of the picture.

    Raises:
        ValueError: if there is no angle, or the connections are not as many as the angles of weights.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    if not angled(rows):
        raise ValueError("`rows` holds no angle: only runs with untied or continually moving weights have any")
    for count in {len(row["weight_angles"]) for row in rows if row.get("weight_angles")} - {len(connections)}:
        raise ValueError(
            f"`connections` must name {count}, as many as rows have angles of weights, got {list(connections)}"
        )
    curves = angles_of(rows, connections)
    with small_print():
        figure = canvas(4.8, 3.0)
        axes = figure.subplots()
        for n, (label, values) in enumerate(curves.items()):
            look = {"color": PALETTE[n % len(PALETTE)], "linewidth": 1.2, "marker": "o", "markersize": 2.5}
            axes.plot([row["epoch"] for row in rows], values, label=label, **look)
        axes.axhline(90, color="0.6", linewidth=0.8, linestyle="--", zorder=1, label="orthogonal (90°)")
        degrees(axes, max(angle for values in curves.values() for angle in values if angle == angle))
        axes.set(xlabel="epoch", ylabel="angle (degrees)", title=title)
        whole_numbers(axes)
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        save(figure, path)


def angles_of(rows: Rows, connections: Sequence[str]) -> dict[str, list[float]]:
    """The curves that have a point, by what they are called; NaN where there is none."""
    curves = {"update to BPTT's gradient": [or_gap(row.get("update_angle")) for row in rows]}
    columns = [row.get("weight_angles") or [nan] * len(connections) for row in rows]
    for name, values in zip(connections, zip(*columns, strict=True), strict=True):
        curves[f"feedback to forward weights, {name}"] = [or_gap(value) for value in values]
    return {label: values for label, values in curves.items() if any(value == value for value in values)}


def or_gap(angle: float | None) -> float:
    """The angle, or NaN for none."""
    return nan if angle is None else angle


def degrees(axes: Any, largest: float) -> None:
    """From 0 to a little above 90, or to where the largest angle is; a line each 30."""
    from matplotlib.ticker import MultipleLocator

    axes.set_ylim(0, min(max(100.0, largest + 5), WIDEST))
    axes.yaxis.set_major_locator(MultipleLocator(30))
    axes.grid(alpha=0.25)
