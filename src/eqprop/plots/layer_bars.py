"""How well gradients agree, layer by layer, as bars (Lin et al. 2024: average against max pooling)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from eqprop.plots.canvas import PALETTE, canvas, save, small_print

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["layer_bars"]

Bars = Mapping[str, Mapping[str, Sequence[float]]]
"""For each label, by layer, the cosines of one or more batches; none where none could be taken."""


def layer_bars(
    panels: Mapping[tuple[str, str], Bars],
    path: Path,
    title: str = "",
    *,
    marks: Mapping[tuple[str, str], Bars] | None = None,
    mark: str = "",
) -> None:
    """Cosines as bars, layers along the axis, a color a label; a thin line from a deviation below to one above.

    Args:
        panels: by row and column: what is held against, and which weights.
        path: where to write, without an ending.
        title: of the picture.
        marks: what could be reached at best, a black dash at each bar, for some of the panels.
        mark: what the legend calls it.

    Raises:
        ValueError: if there is no panel.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    if not panels:
        raise ValueError("`panels` is empty: give at least one")
    with small_print():
        save(draw_panels(panels, title, marks or {}, mark), path)


def draw_panels(
    panels: Mapping[tuple[str, str], Bars], title: str, marks: Mapping[tuple[str, str], Bars], mark: str
) -> "Figure":
    """A grid of panels with axes in common."""
    rows, columns = (list(dict.fromkeys(place[n] for place in panels)) for n in (0, 1))
    labels = list(dict.fromkeys(label for bars in panels.values() for label in bars))
    figure = canvas(0.6 + 3.0 * len(columns), 0.7 + 1.9 * len(rows))
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey=True)
    for (row, column), bars in panels.items():
        axes = grid[rows.index(row)][columns.index(column)]
        draw_bars(axes, bars, labels)
        draw_marks(axes, marks.get((row, column), {}), labels)
    for axes, column in zip(grid[0], columns, strict=True):
        axes.set_title(f"{column} weights")
    for line, row in zip(grid, rows, strict=True):
        line[0].set_ylabel(f"cosine to {row}")
    figure.suptitle(title)
    explain(figure, labels, mark if any(marks.values()) else "")
    return figure


def place_of(n: int, label: int, labels: int) -> float:
    """Where the bar of a label stands in the n-th layer."""
    return n + (label - (labels - 1) / 2) * 0.8 / labels


def draw_bars(axes: Any, bars: Bars, labels: Sequence[str]) -> None:
    """All bars of a panel; the range of cosines is fixed, so that panels compare."""
    layers = list(dict.fromkeys(layer for found in bars.values() for layer in found))
    for label, found in bars.items():
        k = labels.index(label)
        for n, layer in enumerate(layers):
            if values := found.get(layer):
                spread = stdev(values) if len(values) > 1 else 0.0
                at, look = place_of(n, k, len(labels)), {"ecolor": "0.25", "error_kw": {"elinewidth": 0.7}}
                axes.bar(at, mean(values), 0.8 / len(labels), yerr=spread, color=PALETTE[k % len(PALETTE)], **look)
    axes.set(ylim=(min(-0.25, axes.get_ylim()[0]), 1.15), yticks=[0, 0.25, 0.5, 0.75, 1])
    axes.set_xticks(range(len(layers)), layers)
    axes.axhline(0, color="0.3", linewidth=0.6)
    axes.axhline(1, color="0.6", linewidth=0.6, linestyle="--", zorder=0)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0)


def draw_marks(axes: Any, marks: Bars, labels: Sequence[str]) -> None:
    """What could be reached, at each bar."""
    for label, found in marks.items():
        for n, values in enumerate(found.values()):
            if values:
                at, half = place_of(n, labels.index(label), len(labels)), 0.4 / len(labels)
                axes.hlines(mean(values), at - half, at + half, color="black", linewidth=1.2, zorder=4)


def explain(figure: "Figure", labels: Sequence[str], mark: str) -> None:
    """Labels by their colors, and the marks."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=PALETTE[n % len(PALETTE)], label=label) for n, label in enumerate(labels)]
    if mark:
        handles.append(Line2D([], [], color="black", linewidth=1.2, label=mark))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
