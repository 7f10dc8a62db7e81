"""``eqprop plot FOLDER``: draw the figures of a run, or of all runs in a folder."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from eqprop.cli.console import echo
from eqprop.cli.figures import DrawingFailedError, draw_run, report_failed_drawing
from eqprop.cli.layout import find_runs, missing_runs
from eqprop.cli.options import parse
from eqprop.cli.parsers import as_device
from eqprop.cli.summary import draw_all, group_runs
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import load, read_history, read_run

__all__ = ["Plot", "main"]


@dataclass(frozen=True)
class Plot:
    """Draw errors over epochs, activities, and the residual over steps of each run, and its angles and spikes if it has any. For
    several runs, also draw all errors in one figure.

    Args:
        folder: a run folder, or a folder of run folders.
        device: device to settle on: "cpu", "cuda" or "cuda:1".
        root: folder to search first for the data.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    device: str = "cpu"
    root: Annotated[str | None, tyro.conf.arg(name="data.root", help_behavior_hint="")] = None

    def __post_init__(self) -> None:
        as_device(self.device)


def main(words: list[str]) -> int:
    """Draw the figures of all runs; return the exit code."""
    options = parse(Plot, words, "eqprop plot")
    found, missing = find_runs(options.folder), missing_runs(options.folder)
    folders = _started_runs(found)
    for folder in folders:  # check every run before drawing the first
        load(folder)
        read_history(folder)
    failed = 0
    for folder in folders:
        try:
            draw_run(folder, options.device, options.root)
        except DrawingFailedError as error:  # the others can still be drawn
            sys.stderr.write(f"eqprop: {error}\n")
            failed = 1
        else:
            echo(f"plots in {folder / 'plots'}")
    if len(folders) > 1 and (groups := group_runs(folders)):
        curves = {label: [rows for _, rows in members] for label, members in groups.items()}
        with report_failed_drawing(options.folder, "all runs are trained"):
            draw_all(curves, options.folder, read_run(folders[0]).name)
        echo(f"plots in {options.folder / 'plots'}")
    for folder in found:
        if folder not in folders:
            echo(f"{folder} has not started")
    for folder in missing:
        echo(f"{folder} is missing: `eqprop train --resume {options.folder}` trains it")
    return failed


def _started_runs(folders: Sequence[Path]) -> Sequence[Path]:
    """Leave out runs without a checkpoint, unless no run has one."""
    places = {folder: RunFolder(folder) for folder in folders if read_run(folder)}
    return [folder for folder, place in places.items() if place.has_started] or folders
