"""Measurements on logarithmic axes: dots for several settings, and curves."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqprop.plots.canvas import PALETTE, canvas, save, small_print

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["dot_plot", "over_length", "proportional"]

Dots = Mapping[str, Mapping[str, float]]
"""Positive values by setting and label."""

NARROW = 30
"""Below this ratio of the largest to the smallest value, an axis has ticks at 1, 2 and 5 times the powers of ten."""


def dot_plot(panels: Mapping[str, Dots], path: Path, title: str = "") -> None:
    """Plot values of several labels in several settings: a row for each setting, a marker for each label.

    Args:
        panels: values by axis label; all panels share the settings, and each has its own legend. Empty panels are left out.
        path: output path without suffix.
        title: title of the figure.

    Raises:
        ValueError: if there is no value.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    filled = {label: panel for label, panel in panels.items() if any(panel.values())}
    if not filled:
        raise ValueError("`panels` is empty: give at least one value")
    with small_print():
        save(_draw_dots(filled, title), path)


def _draw_dots(panels: Mapping[str, Dots], title: str) -> "Figure":
    settings = list(dict.fromkeys(setting for panel in panels.values() for setting in panel))
    figure = canvas(1.6 + 2.3 * len(panels), 1.9 + 0.32 * len(settings))
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (label, panel) in zip(grid, panels.items(), strict=True):
        _draw_panel(axes, panel, settings)
        axes.set(xlabel=label, xscale="log")
        _set_ticks(axes.xaxis, max(axes.get_xlim()) / min(axes.get_xlim()))
    grid[0].set_yticks(range(len(settings)), settings)
    grid[0].set_ylim(len(settings) - 0.5, -0.5)  # the first setting on top
    figure.suptitle(title)
    return figure


def _draw_panel(axes: Any, panel: Dots, settings: list[str]) -> None:
    names = dict.fromkeys(name for found in panel.values() for name in found)
    for name, color, mark in zip(names, cycle(PALETTE), cycle("os^Dv<>")):
        points = [(panel[s][name], n) for n, s in enumerate(settings) if name in panel.get(s, {})]
        style = {"color": color, "marker": mark, "markersize": 4, "linestyle": "", "markerfacecolor": "none"}
        axes.plot(*zip(*points, strict=True), label=name, **style)
    axes.grid(alpha=0.25)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4.5, ncols=2, frameon=False, columnspacing=1)


def _set_ticks(axis: Any, ratio: float) -> None:
    """Write plain numbers along a logarithmic axis whose ends have this ratio."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < NARROW else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def over_length(curves: Mapping[str, Sequence[tuple[float, float]]], path: Path, axis: str, what: str) -> None:
    """Plot curves over a length, with a tick at each length.

    Args:
        curves: points by label.
        path: output path without suffix.
        axis: label of the horizontal axis.
        what: label of the vertical axis.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    from matplotlib.ticker import FuncFormatter, NullFormatter

    with small_print():
        figure = canvas(4.6, 3.0)
        axes = figure.subplots()
        for n, (label, curve) in enumerate(curves.items()):
            x, y = zip(*curve, strict=True)
            axes.plot(x, y, color=PALETTE[n % len(PALETTE)], marker="os^D"[n % 4], markersize=4, label=label)
        axes.set(xlabel=axis, ylabel=what, xscale="log", yscale="log")
        axes.set_xticks(sorted({x for curve in curves.values() for x, _ in curve}), minor=False)
        for along in (axes.xaxis, axes.yaxis):
            along.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.25)
        figure.legend(loc="outside right center", frameon=False)
        save(figure, path)


def proportional(x: Sequence[float], curves: Mapping[str, Sequence[float]], path: Path, names: tuple[str, str]) -> None:
    """Plot curves together with a line of slope 1.

    Args:
        x: horizontal coordinates of all curves.
        curves: values by label.
        path: output path without suffix.
        names: labels of both axes.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    with small_print():
        figure = canvas(3.8, 2.9)
        axes = figure.subplots()
        for n, (label, y) in enumerate(curves.items()):
            axes.plot(x, y, color=PALETTE[n % len(PALETTE)], marker="o", markersize=4, label=label)
        slope = min(min(y) for y in curves.values()) / min(x) / 2  # below all curves
        axes.plot(x, [slope * at for at in x], color="0.6", linewidth=0.8, label="proportional")
        axes.set(xlabel=names[0], ylabel=names[1], xscale="log", yscale="log")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
        save(figure, path)
