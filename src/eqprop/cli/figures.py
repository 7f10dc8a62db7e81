"""The figures of a run folder."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from eqprop import plots
from eqprop.models.model import Model
from eqprop.spiking import Recording, operations
from eqprop.spiking.recording import UnitChoice, active_units
from eqprop.training.config.run import Run
from eqprop.training.diagnostics import names_of_angles, phases
from eqprop.training.rng import REST, seeded
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import PreparedRun, initial_device, load, prepare_data, read_history, threads

__all__ = ["draw_run", "drawable"]

SAMPLES = 1000
"""Test samples for activities and residuals."""

SPIKING_SAMPLES = 100
"""Test samples for spiking networks, whose phases are longer."""

UNITS = 10
"""Units of each population in a raster."""


def drawable() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_run(
    folder: Path | RunFolder, device: str | None, root: str | None, prepared: PreparedRun | None = None
) -> None:
    """Draw errors, activities and residuals of a run, and its angles and spikes if it has any, into ``plots`` of its folder.

    Args:
        folder: run folder.
        device: device to settle on; if None, the kind of device that the run started on.
        root: folder to search first for the data.
        prepared: the run, to save loading its data again.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
        ValueError, OSError: if the run, its checkpoint or its data cannot be read; nothing is drawn then.
    """
    place = RunFolder.of(folder)
    run = place.run
    device = device or initial_device(place)
    with threads(run.threads), seeded(0, REST):  # some dynamics draw random numbers
        rows, model = read_history(place), load(place).to(device)
        session = prepared or prepare_data(replace(run, data=replace(run.data, root=root)), model, device)
        x = session.test.x[: SPIKING_SAMPLES if model.dynamics.spiking else SAMPLES]
        if rows:
            plots.error_curves({"": [rows]}, place.plots / "errors", run.title)
        if plots.has_angles(rows):
            plots.angle_curves(rows, names_of_angles(model), place.plots / "angles", run.title)
        plots.activities(model, x, place.plots / "activities", run.title)
        plots.settling(model, x, place.plots / "settling", run.title)
        if model.dynamics.spiking:
            _draw_spikes(run, model, x, session.test.y[: len(x)], place.plots)


def _draw_spikes(run: Run, model: Model, x: Tensor, y: Tensor, folder: Path) -> None:
    """Draw spikes of a free phase and the nudged phase at beta after it, of the first sample and as batch means."""

    def record_phases(x: Tensor, y: Tensor, units: UnitChoice = 0) -> tuple[Recording, ...]:
        with seeded(0, REST):  # the same spikes in each call
            free, *nudged = phases(model, run.estimator, run.estimator.free_steps, x, y, units)
        return free, *nudged[-1:]

    units = active_units(record_phases(x[:1], y[:1])[0], 0, UNITS)
    first, batch = record_phases(x[:1], y[:1], units), record_phases(x, y)
    plots.raster(first, folder / "raster", title=run.title)
    plots.decoded_values(first, folder / "decoding", title=run.title)
    plots.firing_rates(batch, folder / "firing", f"{run.title}\n{_describe_costs(model, batch[0])}")
    plots.steady_state_distance(model, x, folder / "approach", run.title)


def _describe_costs(model: Model, free: Recording) -> str:
    """Return the spikes and operations of one inference, for a title."""
    text = f"one inference: {free.spikes:,.0f} spikes"
    try:
        found = operations(model, free)
    except ValueError:
        return text
    return f"{text}, {found.synops:,.0f} synaptic operations\nrate model: {found.macs:,.0f} multiply-accumulates"
