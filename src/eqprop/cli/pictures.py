"""Which pictures are drawn of a run folder, and of several."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from eqprop import plots
from eqprop.training.folder import Folder, Row
from eqprop.training.session import load, prepare, read_run

__all__ = ["draw_comparison", "draw_run"]

SAMPLES = 1000
"""Test samples that activities and residuals are drawn of."""


def draw_run(folder: Path, device: str, root: str | None) -> bool:
    """Errors, activities and settling of one run, into its ``plots``; whether there was anything to draw with."""
    place, run = Folder(folder), read_run(folder)
    title = run.title
    try:
        if rows := place.rows():
            plots.error_curves({"": [rows]}, place.plots / "errors", title)
        session = prepare(replace(run, data=replace(run.data, root=root)), device)
        model, x = load(folder).to(device), session.test.x[:SAMPLES]
        plots.activities(model, x, place.plots / "activities", title)
        plots.settling(model, x, place.plots / "settling", title)
    except ModuleNotFoundError as error:
        sys.stderr.write(f"eqprop: {error}\n")
        return False
    return True


def draw_comparison(groups: Mapping[str, Sequence[Sequence[Row]]], path: Path, title: str) -> bool:
    """The error curves of several groups of seeds in one picture; whether there was anything to draw with."""
    try:
        plots.error_curves(groups, path, title)
    except ModuleNotFoundError as error:
        sys.stderr.write(f"eqprop: {error}\n")
        return False
    return True
