"""Distances and sizes over the length of a phase, on logarithmic axes: settling curves, and memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eqprop.plots.canvas import PALETTE, canvas, save, small_print

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["distances", "over_length"]

Curve = Sequence[tuple[float, float]]
"""Points."""


def distances(
    panels: Mapping[str, Mapping[str, Curve]], path: Path, title: str = "", *, apart: Mapping[str, Curve] | None = None
) -> None:
    """Distances over ticks.

    Args:
        panels: by title and label the distance at each tick.
        path: where to write, without an ending.
        title: of the picture.
        apart: for some labels a second distance, dotted in the same color: to the state that the twin reaches from zero.

    Raises:
        ValueError: if there is no panel.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    if not panels:
        raise ValueError("`panels` is empty: give at least one")
    with small_print():
        save(draw_distances(panels, title, apart or {}), path)


def draw_distances(panels: Mapping[str, Mapping[str, Curve]], title: str, apart: Mapping[str, Curve]) -> "Figure":
    """A panel beside another, with the axis of distances in common; each has its legend below."""
    from matplotlib.lines import Line2D

    figure = canvas(0.4 + 3.3 * len(panels), 4.2)
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (name, curves) in zip(grid, panels.items(), strict=True):
        for n, (label, curve) in enumerate(curves.items()):
            look = {"color": PALETTE[n % len(PALETTE)], "linewidth": 1.1}
            axes.plot(*zip(*curve, strict=True), marker="os^Dv<>"[n % 7], markersize=3, label=label, **look)
            if label in apart:
                axes.plot(*zip(*apart[label], strict=True), linestyle=":", **look)
        axes.set(title=name, xlabel="tick", xscale="log", yscale="log")
        axes.grid(alpha=0.25)
        handles, _ = axes.get_legend_handles_labels()
        if set(curves) & set(apart):
            handles.append(Line2D([], [], color="0.3", linestyle=":", label="dotted: to the state from zero"))
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
    grid[0].set_ylabel(r"mean $|u - s^*|$ over all units")
    figure.suptitle(title)
    return figure


def over_length(curves: Mapping[str, Curve], path: Path, axis: str, what: str) -> None:
    """Curves on logarithmic axes, each with its name at its end.

    Args:
        curves: by label.
        path: where to write, without an ending.
        axis: what is along.
        what: what is upwards.

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
            along.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.25)
        figure.legend(loc="outside right center", frameon=False)
        save(figure, path)
