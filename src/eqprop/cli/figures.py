"""The figures of a run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from eqprop import plots
from eqprop.cli.errors import DISK_ERRORS, CommandFailedError
from eqprop.models.model import Model
from eqprop.spiking import Recording, operations
from eqprop.spiking.recording import UnitChoice, active_units
from eqprop.training.config.run import Run
from eqprop.training.diagnostics import names_of_angles, phases
from eqprop.training.rng import REST, seeded
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import PreparedRun, initial_device, load, prepare_data, read_history, threads

__all__ = ["DrawingFailedError", "draw_run", "drawable", "report_failed_drawing"]

SAMPLES = 1000
"""Test samples for activities and residuals."""

SPIKING_SAMPLES = 100
"""Test samples for spiking networks, whose phases are longer."""

UNITS = 10
"""Units of each population in a raster."""


class DrawingFailedError(CommandFailedError):
    """Figures could not be drawn; everything else is written."""


@contextmanager
def report_failed_drawing(folder: Path, kept: str, again: str = "") -> Iterator[None]:
    """Report what goes wrong with figures as such: the results are there, and no later work depends on figures.

    Args:
        folder: folder of the results, for the message.
        kept: what is there, such as "the results are written".
        again: command that draws the figures, if there is one.

    Raises:
        DrawingFailedError: in place of any error, except a missing package and an interruption.
    """
    try:
        yield
    except ModuleNotFoundError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            reason = f"{error.strerror}: make room"
        advice = f"\ntry again with `{again}`" if again else ""
        raise DrawingFailedError(f"{folder}: {kept}, but its figures could not be drawn: {reason}{advice}") from error


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
        DrawingFailedError: if a figure cannot be drawn.
        ValueError, OSError: if the run, its checkpoint or its data cannot be read; nothing is drawn then.
    """
    place = RunFolder.of(folder)
    run = place.run
    device, title = device or initial_device(place), plots.plain(run.title)
    with threads(run.threads), seeded(0, REST):  # some dynamics draw random numbers
        rows, model = read_history(place), load(place).to(device)
        session = prepared or prepare_data(replace(run, data=replace(run.data, root=root)), model, device)
        x = session.test.x[: SPIKING_SAMPLES if model.dynamics.spiking else SAMPLES]
        with report_failed_drawing(place.path, "it is trained", f"eqprop plot {place.path}"):
            if rows:
                plots.error_curves({"": [rows]}, place.plots / "errors", title)
            if plots.has_angles(rows):
                plots.angle_curves(rows, names_of_angles(model), place.plots / "angles", title)
            plots.activities(model, x, place.plots / "activities", title)
            plots.settling(model, x, place.plots / "settling", title)
            if model.dynamics.spiking:
                _draw_spikes(run, model, x, session.test.y[: len(x)], place.plots)


def _draw_spikes(run: Run, model: Model, x: Tensor, y: Tensor, folder: Path) -> None:
    """Draw spikes of a free phase and the nudged phase at beta after it, of the first sample and as batch means."""

    def record_phases(x: Tensor, y: Tensor, units: UnitChoice = 0) -> tuple[Recording, ...]:
        with seeded(0, REST):  # the same spikes in each call
            free, *nudged = phases(model, run.estimator, run.estimator.free_steps, x, y, units)
        return free, *nudged[-1:]

    title, units = plots.plain(run.title), active_units(record_phases(x[:1], y[:1])[0], 0, UNITS)
    first, batch = record_phases(x[:1], y[:1], units), record_phases(x, y)
    plots.raster(first, folder / "raster", title=title)
    plots.decoded_values(first, folder / "decoding", title=title)
    plots.firing_rates(batch, folder / "firing", f"{title}\n{_describe_costs(model, batch[0])}")
    plots.steady_state_distance(model, x, folder / "approach", title)


def _describe_costs(model: Model, free: Recording) -> str:
    """Return the spikes and operations of one inference, for a title."""
    text = f"one inference: {free.spikes:,.0f} spikes"
    try:
        found = operations(model, free)
    except ValueError:
        return text
    return f"{text}, {found.synops:,.0f} synaptic operations\nrate model: {found.macs:,.0f} multiply-accumulates"
