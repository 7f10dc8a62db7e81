"""Which pictures are drawn of a run folder, and of several."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from eqprop import plots
from eqprop.models.model import Model
from eqprop.spiking import Recording, Spiking, operations
from eqprop.spiking.recording import Choice, lively
from eqprop.training.config.run import Run
from eqprop.training.diagnostics import names_of_angles, phases
from eqprop.training.rng import REST, seeded
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import initial_device, load, prepare_run, read_history, read_run, threads

__all__ = ["draw_run", "drawable"]

SAMPLES = 1000
"""Test samples that activities and residuals are drawn of."""

SPIKING = 100
"""The same of networks that spike, whose phases are longer."""

UNITS = 10
"""Of each population, in a raster."""


def drawable() -> bool:
    """Whether there is anything to draw with."""
    return find_spec("matplotlib") is not None


def draw_run(folder: Path, device: str | None, root: str | None) -> None:
    """Errors, angles where there are any, activities, settling, and spikes where there are any, of one run, into its ``plots``.

    Args:
        folder: of the run.
        device: where to settle; on the kind of device that it began on, if none is named.
        root: a folder to look for the data in first.

    Raises:
        ModuleNotFoundError: if there is nothing to draw with.
        ValueError, OSError: if the run, its checkpoint or its data are not sound; nothing is drawn then.
    """
    place, run = RunFolder(folder), read_run(folder)
    device = device or initial_device(place)
    with threads(run.threads), seeded(0, REST):  # for dynamics that draw
        rows, model = read_history(folder), load(folder).to(device)
        session = prepare_run(replace(run, data=replace(run.data, root=root)), device)
        x = session.test.x[: SPIKING if isinstance(model.dynamics, Spiking) else SAMPLES]
        if rows:
            plots.error_curves({"": [rows]}, place.plots / "errors", run.title)
        if plots.angled(rows):
            plots.angle_curves(rows, names_of_angles(model), place.plots / "angles", run.title)
        plots.activities(model, x, place.plots / "activities", run.title)
        plots.settling(model, x, place.plots / "settling", run.title)
        if isinstance(model.dynamics, Spiking):
            draw_spikes(run, model, x, session.test.y[: len(x)], place.plots)


def draw_spikes(run: Run, model: Model, x: Tensor, y: Tensor, folder: Path) -> None:
    """What units send in a free phase and in the nudged one at beta that follows: of the first sample, and of all on average."""

    def followed(x: Tensor, y: Tensor, units: Choice = 0) -> tuple[Recording, ...]:
        with seeded(0, REST):  # the same spikes again for the same inputs
            free, *nudged = phases(model, run.estimator, run.estimator.free_steps, x, y, units)
        return free, *nudged[-1:]

    units = lively(followed(x[:1], y[:1])[0], 0, UNITS)
    one, all_ = followed(x[:1], y[:1], units), followed(x, y)
    plots.raster(one, folder / "raster", title=run.title)
    plots.decoding(one, folder / "decoding", title=run.title)
    plots.firing(all_, folder / "firing", f"{run.title}\n{costs(model, all_[0])}")
    plots.approach(model, x, folder / "approach", run.title)


def costs(model: Model, free: Recording) -> str:
    """Of an inference, for a title."""
    said = f"an inference: {free.spikes:,.0f} spikes"
    try:
        found = operations(model, free)
    except ValueError:
        return said
    return f"{said}, {found.synops:,.0f} synaptic operations\nrate twin: {found.macs:,.0f} multiply-accumulates"
