"""How fast phases come to rest: the residual over steps and over time, of several orders side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from eqprop.plots.canvas import PALETTE, canvas, placed, positive, save, small_print

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Course", "courses"]

STYLES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Course:
    """One phase, watched.

    Attributes:
        residuals: ``max |s_t - s_{t-1}|`` after each step, over all samples.
        milliseconds: that a step takes.
    """

    residuals: Sequence[float]
    milliseconds: float

    def steps_to(self, residual: float) -> int | None:
        """The first step from which on no residual is larger; None if there is none.

        >>> Course([0.5, 0.01, 0.02, 0.001], 1.0).steps_to(0.015)
        4
        """
        above = [t for t, r in enumerate(self.residuals, start=1) if not r <= residual]
        first = above[-1] + 1 if above else 1
        return first if first <= len(self.residuals) else None


def courses(found: Mapping[str, Mapping[str, Mapping[str, Course]]], path: Path, title: str = "") -> None:
    """Residual over steps, above, and over time, below; a column a network.

    Args:
        found: by network, by order (a color each) and by weights (a style each).
        path: where to write, without an ending.
        title: of the picture.

    Raises:
        ValueError: if there is nothing to draw.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    if not found:
        raise ValueError("`found` is empty: give the courses of at least one network")
    with small_print():
        save(draw_courses(found, title), path)


def draw_courses(found: Mapping[str, Mapping[str, Mapping[str, Course]]], title: str = "") -> "Figure":
    """Two panels a network."""
    figure = canvas(1.2 + 1.7 * len(found), 3.8)
    colors = dict(zip(dict.fromkeys(order for by_order in found.values() for order in by_order), cycle(PALETTE)))
    rows = placed(figure, [list(found)] * 2, sharey="col")
    for row, (unit, label) in zip(rows, (("steps", "step"), ("time", "milliseconds")), strict=True):
        for axes, network in row:
            for order, kinds in found[network].items():
                for style, (weights, course) in zip(STYLES, kinds.items(), strict=False):
                    scale = 1.0 if unit == "steps" else course.milliseconds
                    residuals = torch.tensor(course.residuals)
                    at = scale * torch.arange(1, len(residuals) + 1)
                    name = f"{order}, {weights}" if weights else order
                    axes.plot(at, positive(residuals), style, color=colors[order], linewidth=1, label=name)
            axes.set(xlabel=label, xscale="log", yscale="log", title=network if unit == "steps" else "")
            axes.grid(alpha=0.25)
        row[0][0].set_ylabel(r"residual $\max\,|s_t - s_{t-1}|$")
    handles, names = rows[0][0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(title)
    return figure
