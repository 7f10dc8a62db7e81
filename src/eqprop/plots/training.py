"""Pictures of trainings: errors over epochs, activities, and how a free phase settles."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eqprop._core.state import State
from eqprop.models.model import Model, relax
from eqprop.plots.canvas import canvas, plain_numbers, positive, save, whole_numbers
from eqprop.solvers.settle import residual

__all__ = ["activities", "error_curves", "settling"]

Rows = Sequence[Mapping[str, Any]]
"""Epoch rows, as in ``metrics.jsonl``."""

STYLES = {"train": ":", "validation": "--", "test": "-"}


def error_curves(runs: Mapping[str, Sequence[Rows]], path: Path, title: str = "") -> None:
    """Error against epochs, on a logarithmic axis; costs where there are no classes.

    Args:
        runs: for each label the rows of one or more seeds; of several the mean is drawn, and a band from least to most.
        path: where to write, without an ending.
        title: of the picture.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    classes = all(rows[-1]["train_error"] is not None for several in runs.values() for rows in several)
    what = "error" if classes else "cost"
    curves = {
        (label, part): [[100 * row[key] if classes else row[key] for row in rows] for rows in several]
        for label, several in runs.items()
        for part in STYLES
        if all((key := f"{part}_{what}") in rows[0] for rows in several)
    }
    floor = (
        min((value for several in curves.values() for values in several for value in values if value), default=1.0) / 2
    )
    figure = canvas()
    axes = figure.subplots()
    for (label, part), several in curves.items():
        color = f"C{list(runs).index(label)}"
        name = f"{label}, {part}" if label else part
        draw_band(axes, several, floor, color=color, linestyle=STYLES[part], label=name)
    axes.set(xlabel="epoch", ylabel="error (%)" if classes else "cost", yscale="log", title=title)
    whole_numbers(axes)
    if classes:
        plain_numbers(axes)
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    save(figure, path)


def draw_band(axes: Any, curves: list[list[float]], floor: float, **look: Any) -> None:
    """The mean of curves of equal length (the shortest counts), and the band that they fill; zeros are drawn at ``floor``."""
    length = min(map(len, curves))
    values = torch.tensor([curve[:length] for curve in curves], dtype=torch.float64).clamp_min(floor)
    epochs = range(1, length + 1)
    marker = "o" if length == 1 else None
    axes.plot(epochs, values.mean(0), marker=marker, **look)
    if len(curves) > 1:
        axes.fill_between(epochs, values.amin(0), values.amax(0), color=look["color"], alpha=0.15, linewidth=0)


def activities(model: Model, x: Tensor, path: Path, title: str = "") -> None:
    """Histograms of each population's activity after a free phase.

    Args:
        model: what settles.
        x: inputs ``(B, *shape)``.
        path: where to write, without an ending.
        title: of the picture.

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


def residuals_of(model: Model, x: Tensor, steps: int) -> Tensor:
    """``max |s_t - s_{t-1}|`` of each sample after each of so many steps of a free phase, ``(steps, B)``; no state is kept."""
    units, residuals = model.dynamics.units, list[Tensor]()
    last = units(model.dynamics.init(model.network, x))

    def see(state: State) -> None:
        nonlocal last
        residuals.append(residual(last, units(state)))
        last = units(state)

    relax(model, x, model.settle.plain_steps(steps), on_step=see)
    return torch.stack(residuals).cpu()


def settling(model: Model, x: Tensor, path: Path, title: str = "") -> None:
    """Residual ``max |s_t - s_{t-1}|`` against the step t of a free phase: the median and the largest of the samples.

    Args:
        model: what settles; for twice as long as it does in a test, to show what longer phases would bring.
        x: inputs ``(B, *shape)``.
        path: where to write, without an ending.
        title: of the picture.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    residuals = residuals_of(model, x, 2 * model.settle.steps)
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
