"""Which pictures are drawn of a run folder, and of several."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from eqprop import plots
from eqprop.training.folder import Folder
from eqprop.training.probe import names_of_angles
from eqprop.training.session import begun_on, history, load, prepare, read_run, threads

__all__ = ["draw_run", "drawable"]

SAMPLES = 1000
"""Test samples that activities and residuals are drawn of."""


def drawable() -> bool:
    """Whether there is anything to draw with."""
    return find_spec("matplotlib") is not None


def draw_run(folder: Path, device: str | None, root: str | None) -> None:
    """Errors, angles where there are any, activities and settling of one run, into its ``plots``.

    Args:
        folder: of the run.
        device: where to settle; on the kind of device that it began on, if none is named.
        root: a folder to look for the data in first.

    Raises:
        ModuleNotFoundError: if there is nothing to draw with.
        ValueError, OSError: if the run, its checkpoint or its data are not sound; nothing is drawn then.
    """
    place, run = Folder(folder), read_run(folder)
    device = device or begun_on(place)
    with threads(run.threads):
        rows, model = history(folder), load(folder).to(device)
        session = prepare(replace(run, data=replace(run.data, root=root)), device)
        x = session.test.x[:SAMPLES]
        if rows:
            plots.error_curves({"": [rows]}, place.plots / "errors", run.title)
        if plots.angled(rows):
            plots.angle_curves(rows, names_of_angles(model), place.plots / "angles", run.title)
        plots.activities(model, x, place.plots / "activities", run.title)
        plots.settling(model, x, place.plots / "settling", run.title)
