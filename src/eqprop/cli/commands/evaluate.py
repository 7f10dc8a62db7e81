"""``eqprop evaluate FOLDER``: test a trained model."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from eqprop.cli.console import table
from eqprop.cli.errors import UsageError
from eqprop.cli.layout import find_runs
from eqprop.cli.options import DATA_ROOT, DEVICE, parse
from eqprop.cli.parsers import as_device
from eqprop.training.metrics import Score, evaluate
from eqprop.training.rng import REST, seeded
from eqprop.training.session import load, prepare_data, read_run, threads

__all__ = ["Evaluate", "main", "one_run"]


@dataclass(frozen=True)
class Evaluate:
    """Test the model of a run folder: cost, error, and residual and steps of the free phase, on each part of its data.

    Args:
        folder: a run folder.
        which: the last weights, or those of the epoch with the lowest validation error (training error without a validation
            set).
        device: device to compute on: "cpu", "cuda" or "cuda:1".
        root: folder to look for the data in first.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    which: Literal["last", "best"] = "last"
    device: Annotated[str, DEVICE] = "cpu"
    root: Annotated[str | None, DATA_ROOT] = None

    def __post_init__(self) -> None:
        as_device(self.device)


def main(words: list[str]) -> int:
    """Test a model and print a table."""
    options = parse(Evaluate, words, "eqprop evaluate")
    folder = one_run(options.folder)
    run = read_run(folder)
    model = load(folder, options.which).to(options.device)
    data = replace(run.data, root=options.root, augment=None)  # training samples too are tested without augmentation
    session = prepare_data(replace(run, data=data), model, options.device)
    parts = {"train": session.train, "validation": session.validation, "test": session.test}
    with threads(run.threads), seeded(run.seed, REST):
        lines = [_line(part, evaluate(model, batches)) for part, batches in parts.items() if batches is not None]
    table(("part", "samples", "cost", "error", "residual", "steps"), lines)
    return 0


def one_run(folder: Path) -> Path:
    """Return the folder itself if it is a run folder.

    Raises:
        FileNotFoundError: if it contains no run.
        UsageError: if it contains several runs.
    """
    found = find_runs(folder)
    if folder not in found:
        raise UsageError(f"{folder} contains {len(found)} runs: name one of them, such as {found[0]}")
    return folder


def _line(part: str, score: Score) -> list[str]:
    formats = (score.cost, ".5f"), (score.error, ".2%"), (score.residual, ".1e"), (score.steps, "g")
    return [part, str(score.samples), *("–" if value is None else f"{value:{form}}" for value, form in formats)]
