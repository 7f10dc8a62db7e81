"""Free phases: activities at the end, the residual of each step, and distances to a steady state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eqprop._core.state import State
from eqprop.models.model import Model, relax
from eqprop.plots.canvas import PALETTE, canvas, placed, positive, save, small_print
from eqprop.solvers.settle import residual

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ResidualCurve", "activities", "distances", "residual_curves", "settling"]

STYLES = ("-", "--", ":", "-.")


def activities(model: Model, x: Tensor, path: Path, title: str = "") -> None:
    """Plot a histogram of each population's activity at the end of a free phase.

    Args:
        model: model to settle.
        x: inputs, ``(B, *shape)``.
        path: output path without suffix.
        title: title of the figure.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    levels = relax(model, x, model.settle).activity
    columns = min(len(levels), 3)
    figure = canvas(3.2 * columns, 2.6 * ceil(len(levels) / columns))
    grid = figure.subplots(ceil(len(levels) / columns), columns, squeeze=False).flatten()
    for n, (axes, level) in enumerate(zip(grid, levels, strict=False), start=1):
        axes.hist(level.flatten().cpu().numpy(), bins=50, color=f"C{n - 1}", density=True)
        shape = "x".join(map(str, level.shape[1:]))
        axes.set(title=f"population {n} ({shape})", xlabel="activity", yscale="log")
    for axes in grid[len(levels) :]:
        axes.set_visible(False)
    grid[0].set_ylabel("density")
    figure.suptitle(title)
    save(figure, path)


def settling(model: Model, x: Tensor, path: Path, title: str = "") -> None:
    """Plot the residual ``max |s_t - s_{t-1}|`` over the steps t of a free phase: median and maximum over samples.

    Args:
        model: model to settle, for twice the length of its free phase, to show the effect of longer phases.
        x: inputs, ``(B, *shape)``.
        path: output path without suffix.
        title: title of the figure.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    residuals = _residuals(model, x, 2 * model.settle.steps)
    middle, largest = residuals.median(1).values, residuals.amax(1)
    steps = range(1, len(residuals) + 1)
    figure = canvas()
    axes = figure.subplots()
    axes.plot(steps, positive(middle), label="median of the samples")
    axes.plot(steps, positive(largest), linestyle="--", label="largest")
    axes.axvline(model.settle.steps, color="grey", linewidth=0.8, label="length of the free phase")
    axes.set(xlabel="step t", ylabel=r"residual $\max\,|s_t - s_{t-1}|$", title=title)
    axes.set_yscale("log" if (largest > 0).any() else "linear")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    save(figure, path)


def _residuals(model: Model, x: Tensor, steps: int) -> Tensor:
    """Return the residual of each sample after each free step, ``(steps, B)``, without keeping the trajectory."""
    units, residuals = model.dynamics.units, list[Tensor]()
    last = units(model.dynamics.init(model.network, x))

    def on_step(state: State) -> None:
        nonlocal last
        residuals.append(residual(last, units(state)))
        last = units(state)

    relax(model, x, model.settle.plain_steps(steps), on_step=on_step)
    return torch.stack(residuals).cpu()


@dataclass(frozen=True)
class ResidualCurve:
    """The residuals of one phase.

    Attributes:
        residuals: ``max |s_t - s_{t-1}|`` over all samples, after each step.
        milliseconds: time of a step.
    """

    residuals: Sequence[float]
    milliseconds: float

    def steps_to(self, residual: float) -> int | None:
        """Return the first step from which on no residual exceeds ``residual``, or None if there is none.

        >>> ResidualCurve([0.5, 0.01, 0.02, 0.001], 1.0).steps_to(0.015)
        4
        """
        above = [t for t, r in enumerate(self.residuals, start=1) if not r <= residual]
        first = above[-1] + 1 if above else 1
        return first if first <= len(self.residuals) else None


Networks = Mapping[str, Mapping[str, Mapping[str, ResidualCurve]]]
"""Curves by network, method and weights."""


def residual_curves(found: Networks, path: Path, title: str = "") -> None:
    """Plot residuals over steps (upper row) and over time (lower row), one column for each network.

    Args:
        found: curves by network (column), method (color) and weights (line style).
        path: output path without suffix.
        title: title of the figure.

    Raises:
        ValueError: if there is no network.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    if not found:
        raise ValueError("`found` is empty: give the curves of at least one network")
    with small_print():
        save(draw_residual_curves(found, title), path)


def draw_residual_curves(found: Networks, title: str = "") -> "Figure":
    """Return the figure of `residual_curves`."""
    figure = canvas(1.2 + 1.7 * len(found), 3.8)
    colors = dict(zip(dict.fromkeys(method for by_method in found.values() for method in by_method), cycle(PALETTE)))
    rows = placed(figure, [list(found)] * 2, sharey="col")
    for row, (unit, label) in zip(rows, (("steps", "step"), ("time", "milliseconds")), strict=True):
        for axes, network in row:
            for method, by_weights in found[network].items():
                for style, (weights, curve) in zip(STYLES, by_weights.items(), strict=False):
                    scale = 1.0 if unit == "steps" else curve.milliseconds
                    residuals = torch.tensor(curve.residuals)
                    x = scale * torch.arange(1, len(residuals) + 1)
                    name = f"{method}, {weights}" if weights else method
                    axes.plot(x, positive(residuals), style, color=colors[method], linewidth=1, label=name)
            axes.set(xlabel=label, xscale="log", yscale="log", title=network if unit == "steps" else "")
            axes.grid(alpha=0.25)
        row[0][0].set_ylabel(r"residual $\max\,|s_t - s_{t-1}|$")
    handles, names = rows[0][0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(title)
    return figure


Points = Sequence[tuple[float, float]]


def distances(
    panels: Mapping[str, Mapping[str, Points]],
    path: Path,
    title: str = "",
    *,
    apart: Mapping[str, Points] | None = None,
) -> None:
    """Plot distances to a steady state over ticks.

    Args:
        panels: ``(tick, distance)`` points by panel title and label.
        path: output path without suffix.
        title: title of the figure.
        apart: for some labels a second distance, to the state that the rate model reaches from zero; dotted, same color.

    Raises:
        ValueError: if there is no panel.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    if not panels:
        raise ValueError("`panels` is empty: give at least one panel")
    with small_print():
        save(_draw_distances(panels, title, apart or {}), path)


def _draw_distances(panels: Mapping[str, Mapping[str, Points]], title: str, apart: Mapping[str, Points]) -> "Figure":
    from matplotlib.lines import Line2D

    figure = canvas(0.4 + 3.3 * len(panels), 4.2)
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (name, curves) in zip(grid, panels.items(), strict=True):
        for n, (label, curve) in enumerate(curves.items()):
            style = {"color": PALETTE[n % len(PALETTE)], "linewidth": 1.1}
            axes.plot(*zip(*curve, strict=True), marker="os^Dv<>"[n % 7], markersize=3, label=label, **style)
            if label in apart:
                axes.plot(*zip(*apart[label], strict=True), linestyle=":", **style)
        axes.set(title=name, xlabel="tick", xscale="log", yscale="log")
        axes.grid(alpha=0.25)
        handles, _ = axes.get_legend_handles_labels()
        if set(curves) & set(apart):
            handles.append(Line2D([], [], color="0.3", linestyle=":", label="dotted: to the state from zero"))
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
    grid[0].set_ylabel(r"mean $|u - s^*|$ over all units")
    figure.suptitle(title)
    return figure
