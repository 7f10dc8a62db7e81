"""Spikes: rasters, values sent and decoded, firing rates, and distances to the steady state of the rate model.

Phases are recordings (`eqprop.spiking.record`) in their order, the free phase first. Time is in ticks.
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

__all__ = ["decoded_values", "firing_rates", "raster", "steady_state_distance"]

GREY = "0.55"


def raster(phases: Sequence[Recording], path: Path, *, sample: int = 0, title: str = "") -> None:
    """Plot every spike of the recorded units: a row for each unit, a panel for each population, nudged ticks shaded.

    Args:
        phases: recordings of the same units, in order.
        path: output path without suffix.
        sample: index of the sample in the batch.
        title: title of the figure.

    Raises:
        ValueError: if no unit was recorded.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    numbers = _recorded_populations(phases)
    with small_print():
        rows = [len(phases[0].traces[n].units) for n in numbers]
        figure = canvas(5.4, 1.1 + 0.11 * sum(rows) + 0.3 * len(rows))
        grid = figure.subplots(len(numbers), 1, sharex=True, squeeze=False, height_ratios=rows)[:, 0]
        for axes, n in zip(grid, numbers, strict=True):
            spikes = _join_traces(phases, n, "spike", sample)
            at = [
                (spikes[:, unit].nonzero().flatten() + phases[0].ticks[0]).tolist() for unit in range(spikes.shape[1])
            ]
            axes.eventplot(at, colors=_population_color(n), linelengths=0.75, linewidths=1.0)
            axes.set(yticks=[], ylim=(-0.7, len(at) - 0.3))
            if n == phases[0].populations[-1]:  # a unit a class
                axes.set_yticks(range(len(at)), [str(unit) for unit in phases[0].traces[n].units], fontsize=6)
            axes.set_ylabel(_population_name(n, phases), rotation=0, ha="right", va="center")
            _shade_nudges(axes, phases)
        _finish_figure(figure, list(grid), phases, title)
        save(figure, path)


def decoded_values(phases: Sequence[Recording], path: Path, *, sample: int = 0, title: str = "") -> None:
    r"""Plot, for one unit of each population, the value sent, the spikes, the decoded value, and the band ``± lambda``.

    The unit is the recorded one whose firing rate is closest to 1/2.

    Args:
        phases: recordings of the same units, in order.
        path: output path without suffix.
        sample: index of the sample in the batch.
        title: title of the figure.

    Raises:
        ValueError: if no unit was recorded.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    numbers, ticks = _recorded_populations(phases), _ticks(phases)
    lam = torch.tensor([each for phase in phases for each in phase.lam])
    with small_print():
        figure = canvas(5.4, 0.9 + 1.25 * len(numbers))
        grid = figure.subplots(len(numbers), 1, sharex=True, squeeze=False)[:, 0]
        for axes, n in zip(grid, numbers, strict=True):
            spike, value, decoded = (_join_traces(phases, n, what, sample) for what in ("spike", "value", "decoded"))
            rate = spike.double().mean(0)
            unit = int((rate - 0.5).abs().where(rate > 0, 1.0).argmin())
            s, color = value[:, unit], _population_color(n)
            axes.fill_between(ticks, s - lam, s + lam, color=color, alpha=0.15, linewidth=0)
            axes.plot(ticks, s, color=color, linewidth=1.6)
            axes.plot(ticks, decoded[:, unit], color="black", linewidth=0.8)
            fired = [tick for tick, q in zip(ticks, spike[:, unit].tolist(), strict=True) if q]
            axes.eventplot([fired], colors="black", lineoffsets=-0.2, linelengths=0.14, linewidths=0.8)
            axes.set(ylim=(-0.3, 1.12), yticks=[0, 0.5, 1])
            axes.set_ylabel(
                f"{_population_name(n, phases)}\nunit {phases[0].traces[n].units[unit]}",
                rotation=0,
                ha="right",
                va="center",
            )
            _shade_nudges(axes, phases)
        figure.legend(handles=_legend_handles(), loc="outside lower center", ncols=4, frameon=False)
        _finish_figure(figure, list(grid), phases, title)
        save(figure, path)


def firing_rates(phases: Sequence[Recording], path: Path, title: str = "") -> None:
    """Plot spikes per unit over ticks for each population, and a histogram of the units' rates in the first phase.

    Args:
        phases: recordings, in order.
        path: output path without suffix.
        title: title of the figure.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    ticks = _ticks(phases)
    with small_print():
        figure = canvas(6.4, 2.9)
        left, right = figure.subplots(1, 2)
        for place, n in enumerate(phases[0].populations):
            activity = torch.cat([phase.activity[place] for phase in phases])
            left.plot(ticks, activity, color=_population_color(n), linewidth=1.2, label=_population_name(n, phases))
            rates = phases[0].rates[place].flatten().cpu()
            weights = torch.full_like(rates, 1 / len(rates))
            look = {"color": _population_color(n), "histtype": "step", "linewidth": 1.2}
            right.hist(rates.numpy(), bins=20, range=(0, 1), weights=weights.numpy(), **look)
        _shade_nudges(left, phases)
        _label_nudges(left, phases)
        _set_tick_axis(left, phases)
        left.set(ylabel="spikes per unit", ylim=(0, None))
        right.set(xlabel="rate of a unit (spikes per tick)", ylabel="fraction of units", xlim=(0, 1), yscale="log")
        for axes in (left, right):
            axes.grid(alpha=0.25)
        figure.legend(loc="outside lower center", ncols=5, frameon=False)
        figure.suptitle(title)
        save(figure, path)


def steady_state_distance(model: Model, x: Tensor, path: Path, title: str = "") -> None:
    """Plot the mean distance ``|u - s*|`` of potentials to a steady state of the rate model over the ticks of a free phase.

    The rate model finds the steady state s* from the last state of the spiking network. If there are several steady states, this
    distinguishes a network that settled to another one from a network that did not settle.

    Args:
        model: spiking model; it runs for twice the length of its free phase.
        x: inputs, ``(B, *shape)``.
        path: output path without suffix.
        title: title of the figure.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    steps = 2 * model.settle.steps
    last = model.dynamics.units(relax(model, x, steps).state)
    rest = relax(model.rate_model(), x, AT_REST, state=last).state
    curves = {"spiking network": model, "rate model": model.rate_model()}
    with small_print():
        figure = canvas(4.8, 3.0)
        axes = figure.subplots()
        for (label, which), look in zip(curves.items(), ("-", "--"), strict=True):
            gaps = positive(_distances(which, x, steps, rest))
            axes.plot(range(1, steps + 1), gaps, look, linewidth=1.2, color=PALETTE[look == "--"], label=label)
        axes.axvline(model.settle.steps, color=GREY, linewidth=0.8, label="length of the free phase")
        axes.set(xlabel="tick", ylabel="mean $|u - s^*|$", yscale="log", title=title)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
        save(figure, path)


def _distances(model: Model, x: Tensor, steps: int, rest: Units) -> Tensor:
    """Return the mean distance of all units to ``rest`` after each free step: ``(steps,)``."""
    found: list[float] = []
    relax(
        model,
        x,
        model.settle.plain_steps(steps),
        on_step=lambda state: found.append(mean_distance(model.dynamics.units(state), rest)),
    )
    return torch.tensor(found)


def _recorded_populations(phases: Sequence[Recording]) -> list[int]:
    """Return the populations with recorded units, the output first."""
    numbers = [n for n, traces in phases[0].traces.items() if traces.units]
    if not numbers:
        raise ValueError("`phases` holds no recorded unit: pass `units` to `eqprop.spiking.record`")
    return sorted(numbers, reverse=True)


def _join_traces(phases: Sequence[Recording], n: int, what: str, sample: int) -> Tensor:
    """Return a trace of one population's k recorded units and one sample over all phases: ``(T, k)``."""
    return torch.cat([getattr(phase.traces[n], what)[:, sample] for phase in phases])


def _ticks(phases: Sequence[Recording]) -> list[int]:
    return [tick for phase in phases for tick in phase.ticks]


def _population_name(n: int, phases: Sequence[Recording]) -> str:
    return "input" if n == 0 else "output" if n == phases[0].populations[-1] else f"population {n}"


def _population_color(n: int) -> str:
    return PALETTE[n % len(PALETTE)]


def _shade_nudges(axes: Any, phases: Sequence[Recording]) -> None:
    """Shade the nudged ticks."""
    for phase in phases:
        if phase.beta:
            axes.axvspan(phase.ticks[0] - 0.5, phase.ticks[-1] + 0.5, color="0.92", zorder=0, linewidth=0)


def _label_nudges(axes: Any, phases: Sequence[Recording]) -> None:
    """Label the shaded ticks."""
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


def _set_tick_axis(axes: Any, phases: Sequence[Recording]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set(xlabel="tick", xlim=(phases[0].ticks[0] - 0.5, phases[-1].ticks[-1] + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))


def _finish_figure(figure: "Figure", grid: Sequence[Any], phases: Sequence[Recording], title: str) -> None:
    """Add the shared axis of ticks, the labels of nudged phases, and the title."""
    for axes in grid[:-1]:
        axes.tick_params(bottom=False)
    _set_tick_axis(grid[-1], phases)
    _label_nudges(grid[0], phases)
    figure.suptitle(title)


def _legend_handles() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Line2D([], [], color=GREY, linewidth=1.4, label="value sent"),
        Patch(color=GREY, alpha=0.3, linewidth=0, label=r"$\pm\lambda$"),
        Line2D([], [], color="black", linewidth=0.8, label="decoded"),
        Line2D([], [], color="black", linestyle="", marker="|", markersize=6, label="spikes"),
    ]
