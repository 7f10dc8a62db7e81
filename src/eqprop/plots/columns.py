"""Increments and gradients of several reports in columns, to compare learning rules."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqprop._core.checks import non_negative_int, positive_int
from eqprop.plots.canvas import canvas, save, small_print
from eqprop.plots.curves import Panel, choose, draw_panel, keys

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["side_by_side"]


def side_by_side(
    reports: Mapping[str, Any], path: Path, *, components: int = 5, seed: int = 0, title: str = ""
) -> None:
    """Plot EP's increments (dashed) and minus BPTT's gradients (solid), a column for each report (Ernoult et al. 2020, Fig. 5b).

    Args:
        reports: reports by column title, of networks with the same populations. Weights that a network lacks, such as
            feedback weights, leave a gap.
        path: output path without suffix.
        components: number of random components in each panel, the same ones in every column.
        seed: seed of the random choice.
        title: title of the figure.

    Raises:
        ValueError: if there is no report.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    if not reports:
        raise ValueError("`reports` is empty: give at least one")
    positive_int("components", components)
    columns = {
        head: flat(choose(report, components, non_negative_int("seed", seed))) for head, report in reports.items()
    }
    with small_print():
        save(draw_columns(columns, title), path)


def flat(panels: Sequence[Sequence[Panel]]) -> dict[str, Panel]:
    """Return all panels of a report by title."""
    return {panel.title: panel for kind in panels for panel in kind}


def draw_columns(columns: Mapping[str, Mapping[str, Panel]], title: str) -> "Figure":
    """Draw a row for each population and weight of any report."""
    rows = list(dict.fromkeys(name for panels in columns.values() for name in panels))
    figure = canvas(0.4 + 2.1 * len(columns), 0.9 + 1.25 * len(rows))
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for place, (head, panels) in enumerate(columns.items()):
        for line, name in enumerate(rows):
            axes = grid[line, place]
            if name not in panels:
                axes.set_visible(False)
                continue
            draw_panel(axes, panels[name])
            axes.set_title(f"{head}\n{name}" if line == 0 else name, y=1.0, pad=13)
            if line == max(n for n, row in enumerate(rows) if row in panels):
                axes.set_xlabel("step $t$")
    figure.suptitle(title)
    steps = len(next(iter(next(iter(columns.values())).values())).ep)
    figure.legend(handles=keys(steps), loc="outside lower center", ncols=2, frameon=False)
    return figure
