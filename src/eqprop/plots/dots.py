"""Figures of several contenders in several settings, side by side: a line a setting, a dot a contender."""

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqprop.plots.canvas import PALETTE, canvas, save, small_print

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["dots"]

Dots = Mapping[str, Mapping[str, float]]
"""By setting and contender, a figure above 0."""

FEW = 30
"""Where values grow by less, powers of ten are too few numbers along an axis."""


def dots(panels: Mapping[str, Dots], path: Path, title: str = "") -> None:
    """A panel beside another, with the settings in common, on logarithmic axes.

    Args:
        panels: by what is along their axis; each has a legend of its own contenders, and a setting may lack some;
            a panel without any is left out.
        path: where to write, without an ending.
        title: of the picture.

    Raises:
        ValueError: if there is nothing to draw.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    drawn = {what: panel for what, panel in panels.items() if any(panel.values())}
    if not drawn:
        raise ValueError("`panels` is empty: give at least one figure")
    with small_print():
        save(draw_dots(drawn, title), path)


def draw_dots(panels: Mapping[str, Dots], title: str) -> "Figure":
    """The first setting is on top."""
    settings = list(dict.fromkeys(setting for panel in panels.values() for setting in panel))
    figure = canvas(1.6 + 2.3 * len(panels), 1.9 + 0.32 * len(settings))
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (what, panel) in zip(grid, panels.items(), strict=True):
        draw_panel(axes, panel, settings)
        axes.set(xlabel=what, xscale="log")
        number(axes.xaxis, max(axes.get_xlim()) / min(axes.get_xlim()))
    grid[0].set_yticks(range(len(settings)), settings)
    grid[0].set_ylim(len(settings) - 0.5, -0.5)
    figure.suptitle(title)
    return figure


def draw_panel(axes: Any, panel: Dots, settings: list[str]) -> None:
    """A color and a mark a contender."""
    names = dict.fromkeys(name for found in panel.values() for name in found)
    for name, color, mark in zip(names, cycle(PALETTE), cycle("os^Dv<>")):
        points = [(panel[s][name], n) for n, s in enumerate(settings) if name in panel.get(s, {})]
        look = {"color": color, "marker": mark, "markersize": 4, "linestyle": "", "markerfacecolor": "none"}
        axes.plot(*zip(*points, strict=True), label=name, **look)
    axes.grid(alpha=0.25)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4.5, ncols=2, frameon=False, columnspacing=1)


def number(axis: Any, span: float) -> None:
    """Plain numbers along a logarithmic axis, from whose one end to the other values grow by ``span``; as many as have room."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < FEW else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
