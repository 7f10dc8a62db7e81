"""A map over T, K and beta of the agreement between EP's estimate and the full gradient of BPTT."""

from collections.abc import Sequence
from math import floor, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqprop.plots.canvas import canvas, placed, save, scientific, small_print, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["agreement_map"]

WIDTH = 6.0
"""Width of a row of panels, in inches."""

COLOURS = "cividis"
"""Readable for color-blind readers, and in gray."""

FRAME = "#D55E00"


def agreement_map(cells: Sequence[Any], path: Path, *, wanted: float, chosen: Any = None, title: str = "") -> None:
    """Plot the cosine of EP's and BPTT's gradients over K and beta, a panel for each T; bold if enough signs agree.

    Args:
        cells: measured settings, see `eqprop.theorem.tuning`; missing ones (K > T) are left blank.
        path: output path without suffix.
        wanted: smallest fraction of equal signs that is printed in bold.
        chosen: setting to frame.
        title: title of the figure.

    Raises:
        ValueError: if there is no cell, or the chosen one is not among them.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    if not cells:
        raise ValueError("`cells` must hold at least one setting")
    if chosen is not None and chosen not in cells:
        raise ValueError(f"`chosen` must be one of the cells, got {chosen!r}")
    with small_print():
        save(draw_map(cells, wanted, chosen, title), path)


def draw_map(cells: Sequence[Any], wanted: float, chosen: Any, title: str) -> "Figure":
    """A panel for each T, one scale of colors for all."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    steps, betas = sorted({cell.nudged_steps for cell in cells}), sorted({cell.beta for cell in cells})
    width, height = 0.3 + 0.32 * len(steps), 0.5 + 0.25 * len(betas)
    rows = wrapped(sorted({cell.free_steps for cell in cells}), most=max(1, int(WIDTH / width)))
    figure = canvas(max(3.6, 1.2 + width * len(rows[0])), 1.1 + max(1.5, height * len(rows)))
    scale = ScalarMappable(Normalize(lowest(cells), 1.0), COLOURS)
    grid = placed(figure, rows)
    for line in grid:
        for axes, time in line:
            axes.set_title(f"$T = {time}$")
            draw_cells(axes, [cell for cell in cells if cell.free_steps == time], (steps, betas), scale, wanted)
            if chosen is not None and chosen.free_steps == time:
                frame(axes, steps.index(chosen.nudged_steps), betas.index(chosen.beta))
        line[0][0].set_ylabel(r"nudging strength $\beta$")
        line[0][0].set_yticks(range(len(betas)), [f"${scientific(beta)}$" for beta in betas])
    for axes, _ in grid[-1]:
        axes.set_xlabel("nudged steps $K$")
    figure.colorbar(scale, ax=figure.axes, label="cosine of EP and BPTT", aspect=25)
    figure.suptitle(title)
    explain(figure, wanted, chosen)
    return figure


def lowest(cells: Sequence[Any]) -> float:
    """Where the scale of colors begins: the lowest cosine, rounded down to a tenth."""
    return min(0.9, floor(10 * min(cell.cosine for cell in cells)) / 10)


def draw_cells(
    axes: Any, cells: Sequence[Any], grid: tuple[Sequence[int], Sequence[float]], scale: Any, wanted: float
) -> None:
    """Draw a colored square with its cosine for each cell, K to the right and beta upwards."""
    steps, betas = grid
    colors = [[nan] * len(steps) for _ in betas]
    for cell in cells:
        x, y = steps.index(cell.nudged_steps), betas.index(cell.beta)
        colors[y][x] = cell.cosine
        dark = sum(scale.to_rgba(cell.cosine)[:3]) < 1.38
        axes.text(
            x,
            y,
            f"{cell.cosine:.2f}".replace("-", "\N{MINUS SIGN}"),
            ha="center",
            va="center",
            fontsize=6.5,
            color="white" if dark else "black",
            weight="bold" if cell.same_sign >= wanted else "normal",
        )
    across, up = ([n - 0.5 for n in range(len(values) + 1)] for values in grid)
    axes.pcolormesh(across, up, colors, cmap=scale.cmap, norm=scale.norm, edgecolors="white", linewidth=0.8)
    axes.set_xticks(range(len(steps)), [str(k) for k in steps])
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def frame(axes: Any, x: int, y: int) -> None:
    """Draw a frame around one cell."""
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=FRAME, linewidth=1.8, clip_on=False, zorder=3)
    )


def explain(figure: "Figure", wanted: float, chosen: Any) -> None:
    """Add the legend of bold numbers and of the frame."""
    from matplotlib.patches import Patch

    handles = [Patch(fill=False, linewidth=0, label=f"bold: at least {100 * wanted:g} % of the signs agree")]
    if chosen is not None:
        label = rf"chosen: $T = {chosen.free_steps}$, $K = {chosen.nudged_steps}$, $\beta = {scientific(chosen.beta)}$"
        handles.append(Patch(fill=False, edgecolor=FRAME, linewidth=1.8, label=label))
    figure.legend(handles=handles, loc="outside lower center", frameon=False)
