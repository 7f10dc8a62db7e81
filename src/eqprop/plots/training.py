"""Curves over the epochs of a training: errors or costs, and angles."""

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

import torch

from eqprop.plots.canvas import PALETTE, canvas, plain_numbers, save, small_print, whole_numbers

__all__ = ["angle_curves", "error_curves", "has_angles"]

Rows = Sequence[Mapping[str, Any]]
"""Epoch rows, as in ``metrics.jsonl``."""

STYLES = {"train": ":", "validation": "--", "test": "-"}


def error_curves(runs: Mapping[str, Sequence[Rows]], path: Path, title: str = "") -> None:
    """Plot errors over epochs on a logarithmic axis, or costs if the targets are not classes.

    Args:
        runs: epoch rows of one or more seeds, by label. Several seeds are drawn as their mean, with a band from minimum to maximum.
        path: output path without suffix.
        title: title of the figure.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    classes = all(rows[-1]["train_error"] is not None for seeds in runs.values() for rows in seeds)
    quantity = "error" if classes else "cost"
    curves = {
        (label, part): [[100 * row[key] if classes else row[key] for row in rows] for rows in seeds]
        for label, seeds in runs.items()
        for part in STYLES
        if all((key := f"{part}_{quantity}") in rows[0] for rows in seeds)
    }
    # A logarithmic axis has no zero: draw zeros at half the smallest positive value.
    floor = min((value for seeds in curves.values() for values in seeds for value in values if value), default=1.0) / 2
    figure = canvas()
    axes = figure.subplots()
    for (label, part), seeds in curves.items():
        color = f"C{list(runs).index(label)}"
        name = f"{label}, {part}" if label else part
        _draw_band(axes, seeds, floor, color=color, linestyle=STYLES[part], label=name)
    axes.set(xlabel="epoch", ylabel="error (%)" if classes else "cost", yscale="log", title=title)
    whole_numbers(axes)
    if classes:
        plain_numbers(axes)
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    save(figure, path)


def _draw_band(axes: Any, curves: list[list[float]], floor: float, **style: Any) -> None:
    """Draw the mean of the curves, and the band from minimum to maximum, up to the length of the shortest curve."""
    length = min(map(len, curves))
    values = torch.tensor([curve[:length] for curve in curves], dtype=torch.float64).clamp_min(floor)
    epochs = range(1, length + 1)
    marker = "o" if length == 1 else None
    axes.plot(epochs, values.mean(0), marker=marker, **style)
    if len(curves) > 1:
        axes.fill_between(epochs, values.amin(0), values.amax(0), color=style["color"], alpha=0.15, linewidth=0)


def has_angles(rows: Rows) -> bool:
    """Whether any row holds an angle."""
    return any(row.get("weight_angles") or row.get("update_angle") is not None for row in rows)


def angle_curves(rows: Rows, connections: Sequence[str], path: Path, title: str = "") -> None:
    """Plot angles in degrees over epochs, with a line at 90 degrees.

    Args:
        rows: epoch rows with ``update_angle`` (EP's update to BPTT's gradient) and ``weight_angles`` (feedback weights to
            forward weights, one for each connection). A missing angle leaves a gap.
        connections: name of the connection of each entry in ``weight_angles``, such as "1→2".
        path: output path without suffix.
        title: title of the figure.

    Raises:
        ValueError: if there is no angle, or the number of connections differs from that of ``weight_angles``.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    if not has_angles(rows):
        raise ValueError("`rows` holds no angle: only runs with untied or continually updated weights log angles")
    for count in {len(row["weight_angles"]) for row in rows if row.get("weight_angles")} - {len(connections)}:
        raise ValueError(f"`connections` must have {count} names, one for each weight angle, got {list(connections)}")
    curves = _angles_by_label(rows, connections)
    with small_print():
        figure = canvas(4.8, 3.0)
        axes = figure.subplots()
        for n, (label, values) in enumerate(curves.items()):
            style = {"color": PALETTE[n % len(PALETTE)], "linewidth": 1.2, "marker": "o", "markersize": 2.5}
            axes.plot([row["epoch"] for row in rows], values, label=label, **style)
        axes.axhline(90, color="0.6", linewidth=0.8, linestyle="--", zorder=1, label="orthogonal (90°)")
        _set_degrees(axes, max(angle for values in curves.values() for angle in values if angle == angle))
        axes.set(xlabel="epoch", ylabel="angle (degrees)", title=title)
        whole_numbers(axes)
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        save(figure, path)


def _angles_by_label(rows: Rows, connections: Sequence[str]) -> dict[str, list[float]]:
    """Return the curves with at least one angle; NaN marks a missing one."""
    curves = {"update to BPTT's gradient": [_or_nan(row.get("update_angle")) for row in rows]}
    columns = [row.get("weight_angles") or [nan] * len(connections) for row in rows]
    for name, values in zip(connections, zip(*columns, strict=True), strict=True):
        curves[f"feedback to forward weights, {name}"] = [_or_nan(value) for value in values]
    return {label: values for label, values in curves.items() if any(value == value for value in values)}


def _or_nan(angle: float | None) -> float:
    return nan if angle is None else angle


def _set_degrees(axes: Any, largest: float) -> None:
    """Show 0 to 100 degrees, or up to the largest angle, with a grid line every 30 degrees."""
    from matplotlib.ticker import MultipleLocator

    axes.set_ylim(0, min(max(100.0, largest + 5), 180.0))
    axes.yaxis.set_major_locator(MultipleLocator(30))
    axes.grid(alpha=0.25)
