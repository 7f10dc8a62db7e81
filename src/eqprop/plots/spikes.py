"""Pictures of spikes: rasters, what is decoded of one unit, firing rates, and how near the steady state of the rate twin one comes.

Their phases are recordings (`eqprop.spiking.record`), one after another, a free one first; time is in ticks.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eqprop._core.state import Units, mean_distance
from eqprop.models.model import Model, relax
from eqprop.plots.canvas import PALETTE, canvas, positive, save, small_print
from eqprop.solvers.settle import AT_REST
from eqprop.spiking import Recording

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["approach", "decoding", "firing", "raster"]

GREY = "0.55"


def raster(phases: Sequence[Recording], path: Path, *, sample: int = 0, title: str = "") -> None:
    """Every spike of the units that were kept, a row a unit, a panel a population, the input at the bottom; the nudge is shaded.

    Args:
        phases: in their order, with the same units.
        path: where to write, without an ending.
        sample: whose spikes, by its place in the batch.
        title: of the picture.

    Raises:
        ValueError: if no unit was kept.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    numbers = kept(phases)
    with small_print():
        rows = [len(phases[0].traces[n].units) for n in numbers]
        figure = canvas(5.4, 1.1 + 0.11 * sum(rows) + 0.3 * len(rows))
        grid = figure.subplots(len(numbers), 1, sharex=True, squeeze=False, height_ratios=rows)[:, 0]
        for axes, n in zip(grid, numbers, strict=True):
            spikes = joined(phases, n, "spike", sample)
            at = [
                (spikes[:, unit].nonzero().flatten() + phases[0].ticks[0]).tolist() for unit in range(spikes.shape[1])
            ]
            axes.eventplot(at, colors=color_of(n), linelengths=0.75, linewidths=1.0)
            axes.set(yticks=[], ylim=(-0.7, len(at) - 0.3))
            if n == phases[0].populations[-1]:  # a unit a class
                axes.set_yticks(range(len(at)), [str(unit) for unit in phases[0].traces[n].units], fontsize=6)
            axes.set_ylabel(name_of(n, phases), rotation=0, ha="right", va="center")
            mark_nudges(axes, phases)
        finish(figure, list(grid), phases, title)
        save(figure, path)


def decoding(phases: Sequence[Recording], path: Path, *, sample: int = 0, title: str = "") -> None:
    r"""Of one unit of every population the value that it sends, its spikes, and what is decoded of them, in a band of ``± lambda``.

    Of the units that were kept it is the one that fires most nearly at every other tick.

    Args:
        phases: in their order, with the same units.
        path: where to write, without an ending.
        sample: whose units, by its place in the batch.
        title: of the picture.

    Raises:
        ValueError: if no unit was kept.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    numbers, ticks = kept(phases), span(phases)
    lam = torch.tensor([each for phase in phases for each in phase.lam])
    with small_print():
        figure = canvas(5.4, 0.9 + 1.25 * len(numbers))
        grid = figure.subplots(len(numbers), 1, sharex=True, squeeze=False)[:, 0]
        for axes, n in zip(grid, numbers, strict=True):
            spike, value, decoded = (joined(phases, n, what, sample) for what in ("spike", "value", "decoded"))
            rate = spike.double().mean(0)
            unit = int((rate - 0.5).abs().where(rate > 0, 1.0).argmin())
            s, color = value[:, unit], color_of(n)
            axes.fill_between(ticks, s - lam, s + lam, color=color, alpha=0.15, linewidth=0)
            axes.plot(ticks, s, color=color, linewidth=1.6)
            axes.plot(ticks, decoded[:, unit], color="black", linewidth=0.8)
            fired = [tick for tick, q in zip(ticks, spike[:, unit].tolist(), strict=True) if q]
            axes.eventplot([fired], colors="black", lineoffsets=-0.2, linelengths=0.14, linewidths=0.8)
            axes.set(ylim=(-0.3, 1.12), yticks=[0, 0.5, 1])
            axes.set_ylabel(
                f"{name_of(n, phases)}\nunit {phases[0].traces[n].units[unit]}", rotation=0, ha="right", va="center"
            )
            mark_nudges(axes, phases)
        figure.legend(handles=keys(), loc="outside lower center", ncols=4, frameon=False)
        finish(figure, list(grid), phases, title)
        save(figure, path)


def firing(phases: Sequence[Recording], path: Path, title: str = "") -> None:
    """Spikes per unit at each tick, by population, and how the rates of units are spread over the first phase.

    Args:
        phases: in their order.
        path: where to write, without an ending.
        title: of the picture.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    ticks = span(phases)
    with small_print():
        figure = canvas(6.4, 2.9)
        left, right = figure.subplots(1, 2)
        for place, n in enumerate(phases[0].populations):
            activity = torch.cat([phase.activity[place] for phase in phases])
            left.plot(ticks, activity, color=color_of(n), linewidth=1.2, label=name_of(n, phases))
            rates = phases[0].rates[place].flatten().cpu()
            weights = torch.full_like(rates, 1 / len(rates))
            look = {"color": color_of(n), "histtype": "step", "linewidth": 1.2}
            right.hist(rates.numpy(), bins=20, range=(0, 1), weights=weights.numpy(), **look)
        mark_nudges(left, phases)
        say_nudges(left, phases)
        in_ticks(left, phases)
        left.set(ylabel="spikes per unit", ylim=(0, None))
        right.set(xlabel="rate of a unit (spikes per tick)", ylabel="fraction of units", xlim=(0, 1), yscale="log")
        for axes in (left, right):
            axes.grid(alpha=0.25)
        figure.legend(loc="outside lower center", ncols=5, frameon=False)
        figure.suptitle(title)
        save(figure, path)


def approach(model: Model, x: Tensor, path: Path, title: str = "") -> None:
    """Mean distance ``|u - s*|`` of potentials to the rate twin's steady state over the ticks of a free phase; the twin beside it.

    The steady state is that which the twin finds from where the spiking network is at last: with several of them, a network that
    came to another one is not taken for one that did not come to rest.

    Args:
        model: a spiking one; watched for twice as long as it settles in a test.
        x: inputs ``(B, *shape)``.
        path: where to write, without an ending.
        title: of the picture.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    steps = 2 * model.settle.steps
    last = model.dynamics.units(relax(model, x, steps).state)
    rest = relax(model.rate_model(), x, AT_REST, state=last).state
    curves = {"spiking network": model, "rate twin": model.rate_model()}
    with small_print():
        figure = canvas(4.8, 3.0)
        axes = figure.subplots()
        for (label, which), look in zip(curves.items(), ("-", "--"), strict=True):
            gaps = positive(distances(which, x, steps, rest))
            axes.plot(range(1, steps + 1), gaps, look, linewidth=1.2, color=PALETTE[look == "--"], label=label)
        axes.axvline(model.settle.steps, color=GREY, linewidth=0.8, label="length of the free phase")
        axes.set(xlabel="tick", ylabel="mean $|u - s^*|$", yscale="log", title=title)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
        save(figure, path)


def distances(model: Model, x: Tensor, steps: int, rest: Units) -> Tensor:
    """Mean distance of all units to ``rest`` after each of so many steps of a free phase: ``(steps,)``."""
    found: list[float] = []
    relax(
        model,
        x,
        model.settle.plain_steps(steps),
        on_step=lambda state: found.append(mean_distance(model.dynamics.units(state), rest)),
    )
    return torch.tensor(found)


def kept(phases: Sequence[Recording]) -> list[int]:
    """Populations with units that were kept, the output first.

    Raises:
        ValueError: if there is none.
    """
    numbers = [n for n, traces in phases[0].traces.items() if traces.units]
    if not numbers:
        raise ValueError("no unit was kept whole: record with `units`")
    return sorted(numbers, reverse=True)


def joined(phases: Sequence[Recording], n: int, what: str, sample: int) -> Tensor:
    """Of one population's units and one sample, over all phases: ``(T, k)``."""
    return torch.cat([getattr(phase.traces[n], what)[:, sample] for phase in phases])


def span(phases: Sequence[Recording]) -> list[int]:
    """All ticks."""
    return [tick for phase in phases for tick in phase.ticks]


def name_of(n: int, phases: Sequence[Recording]) -> str:
    """What a population is called."""
    return "input" if n == 0 else "output" if n == phases[0].populations[-1] else f"population {n}"


def color_of(n: int) -> str:
    """Of a population."""
    return PALETTE[n % len(PALETTE)]


def mark_nudges(axes: Any, phases: Sequence[Recording]) -> None:
    """Shade the ticks with a nudge."""
    for phase in phases:
        if phase.beta:
            axes.axvspan(phase.ticks[0] - 0.5, phase.ticks[-1] + 0.5, color="0.92", zorder=0, linewidth=0)


def say_nudges(axes: Any, phases: Sequence[Recording]) -> None:
    """What the shade is, above it."""
    for phase in phases:
        if phase.beta:
            axes.annotate(
                rf"nudged, $\beta = {phase.beta:g}$",
                ((phase.ticks[0] + phase.ticks[-1]) / 2, 1.0),
                (0, 3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color="0.3",
            )


def in_ticks(axes: Any, phases: Sequence[Recording]) -> None:
    """An axis of all ticks, in tens or their like."""
    from matplotlib.ticker import MaxNLocator

    axes.set(xlabel="tick", xlim=(phases[0].ticks[0] - 0.5, phases[-1].ticks[-1] + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))


def finish(figure: "Figure", grid: Sequence[Any], phases: Sequence[Recording], title: str) -> None:
    """One axis of ticks for all panels, what is shaded, and the title."""
    for axes in grid[:-1]:
        axes.tick_params(bottom=False)
    in_ticks(grid[-1], phases)
    say_nudges(grid[0], phases)
    figure.suptitle(title)


def keys() -> list[Any]:
    """What the lines of a decoded train mean."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Line2D([], [], color=GREY, linewidth=1.4, label="value sent"),
        Patch(color=GREY, alpha=0.3, linewidth=0, label=r"$\pm\lambda$"),
        Line2D([], [], color="black", linewidth=0.8, label="decoded"),
        Line2D([], [], color="black", linestyle="", marker="|", markersize=6, label="spikes"),
    ]
