"""Several reports side by side: how the match of increments and gradients changes from one rule to the next."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eqprop._core.checks import non_negative_int, positive_int
from eqprop.plots.canvas import canvas, save, small_print
from eqprop.plots.curves import Panel, choose, draw_panel, keys
from eqprop.theorem.report import GDUReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["side_by_side"]


def side_by_side(
    reports: Mapping[str, GDUReport], path: Path, *, components: int = 5, seed: int = 0, title: str = ""
) -> None:
    """EP's increments (dashed) on minus BPTT's gradients (solid), a column for each report (Ernoult et al. 2020, Figure 5b).

    Args:
        reports: by the heads of their columns; of networks with the same populations. Weights that a network does not have, as
            feedback weights of tied ones, leave a gap.
        path: where to write, without an ending.
        components: how many components to draw at random in each panel, the same ones in every column.
        seed: of the random choice.
        title: of the picture.

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
    """All panels of a report by title."""
    return {panel.title: panel for kind in panels for panel in kind}


def draw_columns(columns: Mapping[str, Mapping[str, Panel]], title: str) -> "Figure":
    """A row for each population and each weight that any report has."""
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
    steps = len(next(iter(next(iter(columns.values())).values())).process.ep)
    figure.legend(handles=keys(steps), loc="outside lower center", ncols=2, frameon=False)
    return figure
