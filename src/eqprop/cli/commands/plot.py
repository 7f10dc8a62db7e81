"""``eqprop plot FOLDER``: draw the pictures of a run, or of all runs in a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from eqprop.cli.console import echo
from eqprop.cli.devices import as_device
from eqprop.cli.figures import draw_run
from eqprop.cli.options import parse
from eqprop.cli.runs import runs_in
from eqprop.cli.summary import group
from eqprop.plots import error_curves
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import load, read_history, read_run

__all__ = ["Plot", "main"]


@dataclass(frozen=True)
class Plot:
    """Draw errors, angles and spikes where a run has any, activities, and the residual against steps; of several runs also all
    errors in one.

    Args:
        folder: a run folder, or one that holds several.
        device: where to settle: "cpu", "cuda" or "cuda:1".
        root: a folder to look for the data in first.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    device: str = "cpu"
    root: Annotated[str | None, tyro.conf.arg(name="data.root", help_behavior_hint="")] = None

    def __post_init__(self) -> None:
        as_device(self.device)


def main(words: list[str]) -> int:
    """Draw, and say where."""
    options = parse(Plot, words, "eqprop plot")
    found = runs_in(options.folder)
    folders = begun(found)
    for folder in folders:  # nothing is drawn before all is known to be sound
        load(folder)
        read_history(folder)
    for folder in folders:
        draw_run(folder, options.device, options.root)
        echo(f"pictures in {folder / 'plots'}")
    if len(folders) > 1 and (groups := group(folders)):
        curves = {label: [rows for _, rows in members] for label, members in groups.items()}
        error_curves(curves, options.folder / "plots" / "errors", read_run(folders[0]).name)
        echo(f"pictures in {options.folder / 'plots'}")
    for folder in found:
        if folder not in folders:
            echo(f"{folder} has not begun")
    return 0


def begun(folders: Sequence[Path]) -> Sequence[Path]:
    """Without those of several whose turn has not come yet: there is nothing to draw of them."""
    places = {folder: RunFolder(folder) for folder in folders if read_run(folder)}
    return [folder for folder, place in places.items() if place.has_started] or folders
