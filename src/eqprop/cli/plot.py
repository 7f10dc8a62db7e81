"""``eqprop plot FOLDER``: draw the pictures of a run, or of all runs in a folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from eqprop.cli.outcome import group
from eqprop.cli.parse import parse
from eqprop.cli.pictures import draw_comparison, draw_run
from eqprop.cli.show import say
from eqprop.cli.study import runs_in
from eqprop.training.session import read_run

__all__ = ["Plot", "main"]


@dataclass(frozen=True)
class Plot:
    """Draw error curves, histograms of activities, and the residual against steps; of several runs also all errors in one.

    Args:
        folder: a run folder, or one that holds several.
        device: where to settle: "cpu", "cuda" or "cuda:1".
        root: a folder to look for the data in first.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    device: str = "cpu"
    root: Annotated[str | None, tyro.conf.arg(name="data.root")] = None


def main(words: list[str]) -> int:
    """Draw, and say where."""
    options = parse(Plot, words, "eqprop plot")
    folders = runs_in(options.folder)
    drawn = [draw_run(folder, options.device, options.root) and folder / "plots" for folder in folders]
    if len(folders) > 1:
        curves = {label: [rows for _, rows in members] for label, members in group(folders).items()}
        path = options.folder / "plots" / "errors"
        drawn.append(draw_comparison(curves, path, read_run(folders[0]).name) and path.parent)
    for place in drawn:
        if place:
            say(f"pictures in {place}")
    return 0 if all(drawn) else 2
