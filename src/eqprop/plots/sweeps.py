"""Errors of many trainings against the one number in which they differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from eqprop.plots.canvas import PALETTE, canvas, plain_numbers, save, small_print

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["beside_published", "proportional", "sweep"]

Errors = Mapping[str, Mapping[float, Sequence[float]]]
"""For each label, at each number, the errors of one or more seeds, in percent."""

Published = Mapping[str, Mapping[float, tuple[float, float]]]
"""For each label, at each number, mean and standard deviation, in percent."""


def sweep(
    errors: Errors, path: Path, *, axis: str, published: Published | None = None, title: str = "", log: bool = True
) -> None:
    """Test errors against a number, own ones as points joined by lines, published ones as bars of their deviation.

    Args:
        errors: what was found; of several seeds the mean is drawn, and a bar from least to most.
        path: where to write, without an ending.
        axis: what the number is.
        published: what others found.
        title: of the picture.
        log: a logarithmic axis of errors.

    Raises:
        ValueError: if there is nothing to draw.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    if not any(errors.values()) and not published:
        raise ValueError("`errors` is empty: give at least one error")
    with small_print():
        save(draw_sweep(errors, axis, published or {}, title, log=log), path)


def draw_sweep(errors: Errors, axis: str, published: Published, title: str, *, log: bool) -> "Figure":
    """One curve a label."""
    figure = canvas(4.8, 3.0)
    axes = figure.subplots()
    for n, (label, curve) in enumerate(errors.items()):
        x = sorted(curve)
        y = [mean(curve[at]) for at in x]
        low = [mean(curve[at]) - min(curve[at]) for at in x]
        high = [max(curve[at]) - mean(curve[at]) for at in x]
        axes.errorbar(
            x, y, [low, high], color=PALETTE[n % len(PALETTE)], marker="o", markersize=4, capsize=2, label=label
        )
    for label, known in published.items():
        x = sorted(known)
        low = [min(known[at][1], 0.8 * known[at][0]) for at in x]
        high = [known[at][1] for at in x]
        y = [known[at][0] for at in x]
        axes.errorbar(x, y, [low, high], color="0.5", marker="s", markersize=4, capsize=2, linestyle=":", label=label)
    axes.set(xlabel=axis, ylabel="test error (%)", title=title, yscale="log" if log else "linear")
    if log:
        plain_numbers(axes)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def beside_published(pairs: Mapping[str, Sequence[tuple[float, Sequence[float]]]], path: Path, what: str) -> None:
    """Own values against published ones; where both are the same they lie on the diagonal.

    Args:
        pairs: for each label one or more points: the published value and own ones of several seeds.
        path: where to write, without an ending.
        what: the value's name.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    with small_print():
        figure = canvas(4.2, 3.4)
        axes = figure.subplots()
        most = max(max(known, *own) for points in pairs.values() for known, own in points)
        axes.plot([0, most], [0, most], color="0.7", linewidth=0.8)
        for n, (label, points) in enumerate(pairs.items()):
            middles = [mean(own) for _, own in points]
            low = [middle - min(own) for middle, (_, own) in zip(middles, points, strict=True)]
            high = [max(own) - middle for middle, (_, own) in zip(middles, points, strict=True)]
            look = {"color": PALETTE[n % len(PALETTE)], "marker": "os^Dv"[n % 5], "markersize": 4, "linestyle": ""}
            axes.errorbar([known for known, _ in points], middles, [low, high], label=label, elinewidth=0.8, **look)
        axes.set(xlabel=f"published {what}", ylabel=f"{what}, here")
        figure.legend(loc="outside right center", frameon=False)
        save(figure, path)


def proportional(x: Sequence[float], curves: Mapping[str, Sequence[float]], path: Path, names: tuple[str, str]) -> None:
    """Curves on logarithmic axes beside a line of slope 1.

    Args:
        x: where the curves are known.
        curves: their values by label.
        path: where to write, without an ending.
        names: of both axes.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    with small_print():
        figure = canvas(3.8, 2.9)
        axes = figure.subplots()
        for n, (label, y) in enumerate(curves.items()):
            axes.plot(x, y, color=PALETTE[n % len(PALETTE)], marker="o", markersize=4, label=label)
        least = min(min(y) for y in curves.values()) / min(x) / 2
        axes.plot(x, [least * at for at in x], color="0.6", linewidth=0.8, label="proportional")
        axes.set(xlabel=names[0], ylabel=names[1], xscale="log", yscale="log")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
        save(figure, path)
