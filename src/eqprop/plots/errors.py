"""Relative errors between increments and gradients: by layer, and over beta."""

import re
from collections.abc import Mapping, Sequence
from math import ceil, floor, log10, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqprop.plots.canvas import PALETTE, canvas, placed, save, scientific, small_print, symbol, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["against_beta", "relative_errors"]

POPULATION, WEIGHT, BIAS = "#0072B2", "#E69F00", "#999999"


def relative_errors(errors: Mapping[str, Mapping[str, float]], path: Path, title: str = "") -> None:
    """Plot relative errors as bars with their values on a logarithmic axis: a panel for each experiment, a bar for each layer.

    Args:
        errors: error by experiment ("EB-1h") and short name of the population ("s1") or parameter ("0→1 weight").
        path: output path without suffix.
        title: title of the figure.

    Raises:
        ValueError: if there is no experiment.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    if not errors:
        raise ValueError("`errors` must hold at least one experiment")
    with small_print():
        save(_draw_errors(errors, title), path)


def _draw_errors(errors: Mapping[str, Mapping[str, float]], title: str) -> "Figure":
    """All panels share the axis and the thickness of bars."""
    rows = wrapped(list(errors.items()))
    tallest = [max(len(bars) for _, bars in row) for row in rows]
    figure = canvas(0.3 + max(1.75 * len(rows[0]), 2.6), 0.5 + sum(0.4 + 0.17 * n for n in tallest))
    grid = placed(figure, rows, height_ratios=[0.8 + n for n in tallest])
    limits = _axis_exponents([value for bars in errors.values() for value in bars.values()])
    for n, line in zip(tallest, grid, strict=True):
        for axes, (label, bars) in line:
            _draw_bars(axes, label, bars, n, limits)
    for axes, _ in grid[-1]:
        axes.set_xlabel("relative error")
    figure.suptitle(title)
    figure.legend(handles=_legend_handles(errors), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _axis_exponents(values: Sequence[float]) -> tuple[int, int]:
    """Return the exponents of the axis limits, so that the smallest positive value has a bar and 1 is inside."""
    found = [value for value in values if value > 0] or [1.0]
    return min(-2, floor(log10(min(found) / 1.5))), max(0, ceil(log10(max(found) / 3)))


def _draw_bars(axes: Any, label: str, bars: Mapping[str, float], tallest: int, limits: tuple[int, int]) -> None:
    """Draw the bars, the first name on top, each followed by its value."""
    low, high = limits
    places = range(len(bars))
    axes.set(xscale="log", xlim=(10.0**low, 10.0 ** (high + 0.35 * (high - low))), title=label)
    axes.barh(places, list(bars.values()), height=0.72, color=[_kind_color(name) for name in bars])
    for place, value in zip(places, bars.values(), strict=True):
        start = max(value, 10.0**low)
        axes.annotate(
            _format_value(value), (start, place), (2, 0), textcoords="offset points", va="center", fontsize=6.5
        )
    axes.set_xticks([10.0**n for n in range(low, high + 1)])
    axes.set_xticks([], minor=True)
    axes.grid(axis="x", alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_bounds(10.0**low, 10.0**high)
    axes.set_yticks(places, [symbol(name) for name in bars])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(tallest - 0.5, -0.5)


def _format_value(value: float) -> str:
    """Format with two significant digits."""
    return f"{value:#.2g}" if abs(value) >= 1e-4 else f"${scientific(float(f'{value:.2g}'))}$"


def _kind_color(name: str) -> str:
    """Return the color of a population, bias or weight."""
    return POPULATION if re.fullmatch(r"s\d+", name) else BIAS if name.endswith("bias") else WEIGHT


def _legend_handles(errors: Mapping[str, Mapping[str, float]]) -> list[Any]:
    """Return legend entries of the colors in use."""
    from matplotlib.patches import Patch

    found = {_kind_color(name) for bars in errors.values() for name in bars}
    named = {POPULATION: "population", WEIGHT: "weight", BIAS: "bias"}
    return [Patch(color=kind, label=name) for kind, name in named.items() if kind in found]


def against_beta(points: Mapping[float, Mapping[str, Any]], path: Path, title: str = "") -> None:
    """Plot the relative error of each population and weight over beta, and the angle between EP's total update and BPTT's.

    A thin line shows the order of the error in theory: beta, or beta squared if all reports are centred. Zeros leave gaps.

    Args:
        points: ``summary()`` of a report by beta; of a negative beta the absolute value is used.
        path: output path without suffix.
        title: title of the figure.

    Raises:
        ValueError: if there is no point.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    if not points:
        raise ValueError("`points` must hold at least one beta")
    with small_print():
        save(_draw_against_beta(points, title), path)


def _draw_against_beta(points: Mapping[float, Mapping[str, Any]], title: str) -> "Figure":
    """Errors on the left, the angle on the right."""
    ordered = sorted(points.items(), key=lambda item: abs(item[0]))
    betas, summaries = [abs(beta) for beta, _ in ordered], [summary for _, summary in ordered]
    figure = canvas(6.6, 2.7)
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.08})
    populations, weights = _layer_curves(summaries)
    _draw_curves(left, betas, populations, marker="o", linestyle="-")
    _draw_curves(left, betas, weights, marker="s", linestyle="--")
    centred = all(summary["nudging"] == "centred" for summary in summaries)
    _draw_order(left, betas, [*populations, *weights], 2 if centred else 1)
    _draw_angle(right, betas, [summary["angle"] for summary in summaries])
    left.set_ylabel("relative error")
    for axes in (left, right):
        axes.set_xlabel(r"nudging strength $\beta$")
        axes.grid(alpha=0.25, linewidth=0.5)
    figure.suptitle(title)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", frameon=False)
    return figure


Curve = tuple[str, list[float]]
"""A symbol, and the relative error at every beta."""


def _layer_curves(summaries: Sequence[Mapping[str, Any]]) -> tuple[list[Curve], list[Curve]]:
    """Return the curves of the populations, and those of the weights."""

    def curve(kind: str, name: str, label: str) -> Curve:
        return symbol(label), [summary[kind][name]["relative_error"] for summary in summaries]

    weights = {name: facts["label"] for name, facts in summaries[0]["parameters"].items() if facts["weight"]}
    populations = [curve("populations", name, name) for name in summaries[0]["populations"]]
    return populations, [curve("parameters", name, label) for name, label in weights.items()]


def _draw_curves(axes: Any, betas: Sequence[float], curves: Sequence[Curve], **look: Any) -> None:
    """Draw each curve with markers; zeros leave gaps."""
    for n, (label, values) in enumerate(curves):
        heights = [value or nan for value in values]
        axes.plot(betas, heights, color=PALETTE[n % len(PALETTE)], label=label, markersize=3.5, linewidth=1, **look)


def _draw_order(axes: Any, betas: Sequence[float], curves: Sequence[Curve], order: int) -> None:
    """Set logarithmic axes, and draw a line of slope ``order`` below all curves."""
    points = [(beta, value) for _, values in curves for beta, value in zip(betas, values, strict=True) if value > 0]
    ends = _axis_limits(betas)
    axes.set(xscale="log", xlim=ends)
    if not points:
        axes.set(ylim=(-1, 1), yticks=[0])
        return
    lowest, highest = min(value for _, value in points), max(value for _, value in points)
    axes.set(yscale="log", ylim=(lowest / 3, highest * 2))
    factor = min(value / beta**order for beta, value in points) / 1.7
    label = r"$\propto\beta$" if order == 1 else rf"$\propto\beta^{order}$"
    axes.plot(ends, [factor * beta**order for beta in ends], color="grey", linewidth=0.7, label=label, zorder=1)


def _axis_limits(betas: Sequence[float]) -> tuple[float, float]:
    """Return axis limits with a margin, at least two orders of magnitude apart."""
    margin = max(1.5, (100 * betas[0] / betas[-1]) ** 0.5)
    return betas[0] / margin, betas[-1] * margin


def _draw_angle(axes: Any, betas: Sequence[float], angles: Sequence[float]) -> None:
    """Draw angles on an axis from zero, or on a logarithmic one if they span more than one order of magnitude."""
    wide = 0 < 10 * min(angles) < max(angles)
    axes.plot(betas, angles, color="black", marker="o", markersize=3.5, linewidth=1)
    axes.set(xscale="log", xlim=_axis_limits(betas), ylabel="angle of total update (degrees)")
    if wide:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.15 * max(angles) or 1.0)
