"""Test errors against the angle of the first update to BPTT's gradient (Ernoult et al. 2020, Figure 5a)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from eqprop.plots.canvas import PALETTE, canvas, plain_numbers, save, small_print

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["error_by_angle"]

Own = Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]]
"""For each rule its points: angles in degrees, and errors in percent, each of one or more seeds."""

Known = Mapping[str, Sequence[tuple[tuple[float, float | None], tuple[float, float]]]]
"""For each rule its points: mean and deviation of the angle and of the error; None where it is not known."""


def error_by_angle(
    panels: Mapping[str, tuple[Own, Known]], path: Path, title: str = "", *, published: str = "published"
) -> None:
    """Own points are filled dots, with bars from least to most; published ones hollow squares, with bars of their deviation.

    Args:
        panels: for each definition of the angle own points and published ones, by rule; points of one rule are joined in their
            order where there are several.
        path: where to write, without an ending.
        title: of the picture.
        published: what the legend calls published points.

    Raises:
        ValueError: if there is no point.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    if not any(points for both in panels.values() for of in both for points in of.values()):
        raise ValueError("`panels` holds no point: give at least one")
    with small_print():
        save(draw_panels(panels, title, published), path)


def draw_panels(panels: Mapping[str, tuple[Own, Known]], title: str, published: str) -> "Figure":
    """A panel for each definition, with axes in common."""
    rules = list(dict.fromkeys(rule for own, known in panels.values() for rule in (*known, *own)))
    colors = {rule: PALETTE[n % len(PALETTE)] for n, rule in enumerate(rules)}
    figure = canvas(0.4 + 3.1 * len(panels), 3.6)
    grid = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for axes, (name, (own, known)) in zip(grid, panels.items(), strict=True):
        for rule, points in known.items():
            draw_known(axes, points, colors[rule])
        for rule, points in own.items():
            draw_own(axes, points, colors[rule])
        axes.axvline(90, color="0.6", linewidth=0.8, linestyle="--", zorder=1)
        axes.set(title=name, xlabel="angle of the first update to BPTT's gradient (degrees)", yscale="log")
        axes.grid(alpha=0.25)
    plain_numbers(grid[0])
    grid[0].set_ylabel("test error (%)")
    within_degrees(grid[0])
    figure.suptitle(title)
    explain(figure, colors, published if any(known for _, known in panels.values()) else None)
    return figure


def draw_known(axes: Any, points: Sequence[tuple[tuple[float, float | None], tuple[float, float]]], color: str) -> None:
    """Published points of one rule; a logarithm has no room for a deviation larger than its mean."""
    x, y = [angle for (angle, _), _ in points], [error for _, (error, _) in points]
    across = [deviation or 0.0 for (_, deviation), _ in points]
    up = [deviation for _, (_, deviation) in points]
    down = [min(deviation, 0.8 * error) for _, (error, deviation) in points]
    style = {"markersize": 6, "markerfacecolor": "white", "linestyle": ":", "linewidth": 0.8, "elinewidth": 0.6}
    axes.errorbar(x, y, [down, up], across, color=color, marker="s", zorder=2, **style)


def draw_own(axes: Any, points: Sequence[tuple[Sequence[float], Sequence[float]]], color: str) -> None:
    """Own points of one rule."""
    middles = [[mean(values[axis]) for values in points] for axis in (0, 1)]
    bars = [
        [[m - min(values[axis]) for m, values in zip(middles[axis], points, strict=True)],
         [max(values[axis]) - m for m, values in zip(middles[axis], points, strict=True)]]
        for axis in (0, 1)
    ]  # fmt: skip
    style = {"markersize": 3.5, "linestyle": "-", "linewidth": 0.8, "elinewidth": 0.8}
    axes.errorbar(*middles, bars[1], bars[0], color=color, marker="o", zorder=3, **style)


def within_degrees(axes: Any) -> None:
    """From 0 to 120, or to what is drawn; a line each 30."""
    from matplotlib.ticker import MultipleLocator

    axes.set_xlim(0, max(120.0, axes.get_xlim()[1]))
    axes.xaxis.set_major_locator(MultipleLocator(30))


def explain(figure: "Figure", colors: Mapping[str, str], published: str | None) -> None:
    """Rules by their colors, and what is whose."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=color, linewidth=2, label=rule) for rule, color in colors.items()]
    plain: dict[str, Any] = {"color": "0.3", "linestyle": ""}
    handles.append(Line2D([], [], marker="o", markersize=3.5, label="here", **plain))
    if published is not None:
        handles.append(Line2D([], [], marker="s", markersize=6, markerfacecolor="white", label=published, **plain))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
