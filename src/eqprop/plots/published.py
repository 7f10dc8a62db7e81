"""Measured values next to published ones: over a hyperparameter, over an angle, and one against the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from eqprop.plots.canvas import PALETTE, canvas, plain_numbers, save, small_print

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["beside_published", "error_by_angle", "sweep"]

Errors = Mapping[str, Mapping[float, Sequence[float]]]
"""Test errors (%) of one or more seeds, by label and hyperparameter."""

PublishedErrors = Mapping[str, Mapping[float, tuple[float, float]]]
"""Mean and standard deviation of published test errors (%), by label and hyperparameter."""

Points = Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]]
"""Measured points by rule: angles (degrees) and test errors (%) of one or more seeds."""

PublishedPoint = tuple[tuple[float, float | None], tuple[float, float]]
"""Mean and deviation of the angle (None if unknown) and of the error."""

PublishedPoints = Mapping[str, Sequence[PublishedPoint]]

MAX_DOWN = 0.8
"""Lower error bars end at this fraction of the mean: a logarithmic axis has no zero."""


def sweep(
    errors: Errors,
    path: Path,
    *,
    axis: str,
    published: PublishedErrors | None = None,
    title: str = "",
    log: bool = True,
) -> None:
    """Plot test errors over a hyperparameter.

    Args:
        errors: measured errors; of several seeds the mean is drawn, with a bar from minimum to maximum.
        path: output path without suffix.
        axis: name of the hyperparameter.
        published: published errors, drawn with a bar of one standard deviation.
        title: title of the figure.
        log: use a logarithmic axis for errors.

    Raises:
        ValueError: if there is nothing to draw.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    if not any(errors.values()) and not published:
        raise ValueError("`errors` is empty: give at least one error")
    with small_print():
        save(_draw_sweep(errors, axis, published or {}, title, log=log), path)


def _draw_sweep(errors: Errors, axis: str, published: PublishedErrors, title: str, *, log: bool) -> "Figure":
    figure = canvas(4.8, 3.0)
    axes = figure.subplots()
    style: dict[str, Any] = {"markersize": 4, "capsize": 2}
    for n, (label, curve) in enumerate(errors.items()):
        x = sorted(curve)
        y, bars = _mean_and_range([curve[at] for at in x])
        axes.errorbar(x, y, bars, color=PALETTE[n % len(PALETTE)], marker="o", label=label, **style)
    for label, known in published.items():
        x = sorted(known)
        y, deviations = [known[at][0] for at in x], [known[at][1] for at in x]
        low = [min(d, MAX_DOWN * m) for m, d in zip(y, deviations, strict=True)]
        axes.errorbar(x, y, [low, deviations], color="0.5", marker="s", linestyle=":", label=label, **style)
    axes.set(xlabel=axis, ylabel="test error (%)", title=title, yscale="log" if log else "linear")
    if log:
        plain_numbers(axes)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _mean_and_range(points: Sequence[Sequence[float]]) -> tuple[list[float], list[list[float]]]:
    """Return the mean of each point's values, and the lengths of the bars down to the minimum and up to the maximum."""
    means = [mean(values) for values in points]
    low = [m - min(values) for m, values in zip(means, points, strict=True)]
    high = [max(values) - m for m, values in zip(means, points, strict=True)]
    return means, [low, high]


def beside_published(pairs: Mapping[str, Sequence[tuple[float, Sequence[float]]]], path: Path, what: str) -> None:
    """Plot measured values against published ones; equal values lie on the diagonal.

    Args:
        pairs: for each label one or more points: the published value, and the measured values of several seeds.
        path: output path without suffix.
        what: name of the value.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    with small_print():
        figure = canvas(4.2, 3.4)
        axes = figure.subplots()
        largest = max(max(known, *own) for points in pairs.values() for known, own in points)
        axes.plot([0, largest], [0, largest], color="0.7", linewidth=0.8)
        for n, (label, points) in enumerate(pairs.items()):
            y, bars = _mean_and_range([own for _, own in points])
            style = {"color": PALETTE[n % len(PALETTE)], "marker": "os^Dv"[n % 5], "markersize": 4, "linestyle": ""}
            axes.errorbar([known for known, _ in points], y, bars, label=label, elinewidth=0.8, **style)
        axes.set(xlabel=f"published {what}", ylabel=f"{what}, here")
        figure.legend(loc="outside right center", frameon=False)
        save(figure, path)


def error_by_angle(
    panels: Mapping[str, tuple[Points, PublishedPoints]], path: Path, title: str = "", *, published: str = "published"
) -> None:
    """Plot test errors over the angle of the first update to BPTT's gradient (Ernoult et al. 2020, Figure 5a).

    Measured points are filled dots, with bars from minimum to maximum. Published points are open squares, with bars of their
    deviation. The points of a rule are joined in their order.

    Args:
        panels: measured and published points by panel, one panel for each definition of the angle.
        path: output path without suffix.
        title: title of the figure.
        published: label of the published points in the legend.

    Raises:
        ValueError: if there is no point.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    if not any(points for both in panels.values() for rules in both for points in rules.values()):
        raise ValueError("`panels` holds no point: give at least one")
    with small_print():
        save(_draw_angle_panels(panels, title, published), path)


def _draw_angle_panels(panels: Mapping[str, tuple[Points, PublishedPoints]], title: str, published: str) -> "Figure":
    rules = list(dict.fromkeys(rule for own, known in panels.values() for rule in (*known, *own)))
    colors = {rule: PALETTE[n % len(PALETTE)] for n, rule in enumerate(rules)}
    figure = canvas(0.4 + 3.1 * len(panels), 3.6)
    grid = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for axes, (name, (own, known)) in zip(grid, panels.items(), strict=True):
        for rule, points in known.items():
            _draw_published(axes, points, colors[rule])
        for rule, points in own.items():
            _draw_measured(axes, points, colors[rule])
        axes.axvline(90, color="0.6", linewidth=0.8, linestyle="--", zorder=1)
        axes.set(title=name, xlabel="angle of the first update to BPTT's gradient (degrees)", yscale="log")
        axes.grid(alpha=0.25)
    plain_numbers(grid[0])
    grid[0].set_ylabel("test error (%)")
    _set_degrees(grid[0])
    figure.suptitle(title)
    _add_legend(figure, colors, published if any(known for _, known in panels.values()) else None)
    return figure


def _draw_published(axes: Any, points: Sequence[PublishedPoint], color: str) -> None:
    x, y = [angle for (angle, _), _ in points], [error for _, (error, _) in points]
    across = [deviation or 0.0 for (_, deviation), _ in points]
    up = [deviation for _, (_, deviation) in points]
    down = [min(deviation, MAX_DOWN * error) for _, (error, deviation) in points]
    style = {"markersize": 6, "markerfacecolor": "white", "linestyle": ":", "linewidth": 0.8, "elinewidth": 0.6}
    axes.errorbar(x, y, [down, up], across, color=color, marker="s", zorder=2, **style)


def _draw_measured(axes: Any, points: Sequence[tuple[Sequence[float], Sequence[float]]], color: str) -> None:
    (x, across), (y, up) = (_mean_and_range([point[axis] for point in points]) for axis in (0, 1))
    style = {"markersize": 3.5, "linestyle": "-", "linewidth": 0.8, "elinewidth": 0.8}
    axes.errorbar(x, y, up, across, color=color, marker="o", zorder=3, **style)


def _set_degrees(axes: Any) -> None:
    """Show 0 to 120 degrees, or up to the largest angle, with a tick every 30 degrees."""
    from matplotlib.ticker import MultipleLocator

    axes.set_xlim(0, max(120.0, axes.get_xlim()[1]))
    axes.xaxis.set_major_locator(MultipleLocator(30))


def _add_legend(figure: "Figure", colors: Mapping[str, str], published: str | None) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=color, linewidth=2, label=rule) for rule, color in colors.items()]
    plain: dict[str, Any] = {"color": "0.3", "linestyle": ""}
    handles.append(Line2D([], [], marker="o", markersize=3.5, label="here", **plain))
    if published is not None:
        handles.append(Line2D([], [], marker="s", markersize=6, markerfacecolor="white", label=published, **plain))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
