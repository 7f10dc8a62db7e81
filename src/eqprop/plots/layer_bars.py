"""Cosines between gradients as bars, layer by layer (Lin et al. 2024: average and max pooling)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from eqprop.plots.canvas import PALETTE, canvas, save, small_print

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["layer_bars"]

Bars = Mapping[str, Mapping[str, Sequence[float]]]
"""Cosines of one or more batches by label and layer; an empty sequence leaves a gap."""


def layer_bars(
    panels: Mapping[tuple[str, str], Bars],
    path: Path,
    title: str = "",
    *,
    marks: Mapping[tuple[str, str], Bars] | None = None,
    mark: str = "",
) -> None:
    """Plot mean cosines as bars, with a line of one standard deviation up and down: a group for each layer, a color for each label.

    Args:
        panels: cosines by row (reference gradient) and column (kind of weights).
        path: output path without suffix.
        title: title of the figure.
        marks: upper bounds for some of the panels, drawn as a black dash at each bar.
        mark: label of the upper bounds in the legend.

    Raises:
        ValueError: if there is no panel.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    if not panels:
        raise ValueError("`panels` is empty: give at least one panel")
    with small_print():
        save(_draw_panels(panels, title, marks or {}, mark), path)


def _draw_panels(
    panels: Mapping[tuple[str, str], Bars], title: str, marks: Mapping[tuple[str, str], Bars], mark: str
) -> "Figure":
    rows, columns = (list(dict.fromkeys(place[n] for place in panels)) for n in (0, 1))
    labels = list(dict.fromkeys(label for bars in panels.values() for label in bars))
    figure = canvas(0.6 + 3.0 * len(columns), 0.7 + 1.9 * len(rows))
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey=True)
    for (row, column), bars in panels.items():
        axes = grid[rows.index(row)][columns.index(column)]
        _draw_bars(axes, bars, labels)
        _draw_marks(axes, marks.get((row, column), {}), labels)
    for axes, column in zip(grid[0], columns, strict=True):
        axes.set_title(f"{column} weights")
    for line, row in zip(grid, rows, strict=True):
        line[0].set_ylabel(f"cosine to {row}")
    figure.suptitle(title)
    _add_legend(figure, labels, mark if any(marks.values()) else "")
    return figure


def _bar_position(n: int, label: int, labels: int) -> float:
    """Return the horizontal position of a label's bar in layer n."""
    return n + (label - (labels - 1) / 2) * 0.8 / labels


def _draw_bars(axes: Any, bars: Bars, labels: Sequence[str]) -> None:
    """Draw the bars of a panel; all panels have the same range."""
    layers = list(dict.fromkeys(layer for found in bars.values() for layer in found))
    for label, found in bars.items():
        k = labels.index(label)
        for n, layer in enumerate(layers):
            if values := found.get(layer):
                spread = stdev(values) if len(values) > 1 else 0.0
                at, look = _bar_position(n, k, len(labels)), {"ecolor": "0.25", "error_kw": {"elinewidth": 0.7}}
                axes.bar(at, mean(values), 0.8 / len(labels), yerr=spread, color=PALETTE[k % len(PALETTE)], **look)
    axes.set(ylim=(min(-0.25, axes.get_ylim()[0]), 1.15), yticks=[0, 0.25, 0.5, 0.75, 1])
    axes.set_xticks(range(len(layers)), layers)
    axes.axhline(0, color="0.3", linewidth=0.6)
    axes.axhline(1, color="0.6", linewidth=0.6, linestyle="--", zorder=0)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0)


def _draw_marks(axes: Any, marks: Bars, labels: Sequence[str]) -> None:
    for label, found in marks.items():
        for n, values in enumerate(found.values()):
            if values:
                at, half = _bar_position(n, labels.index(label), len(labels)), 0.4 / len(labels)
                axes.hlines(mean(values), at - half, at + half, color="black", linewidth=1.2, zorder=4)


def _add_legend(figure: "Figure", labels: Sequence[str], mark: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=PALETTE[n % len(PALETTE)], label=label) for n, label in enumerate(labels)]
    if mark:
        handles.append(Line2D([], [], color="black", linewidth=1.2, label=mark))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
