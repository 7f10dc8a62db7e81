"""``eqprop evaluate FOLDER``: test a trained model."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from eqprop.cli.console import table
from eqprop.cli.devices import as_device
from eqprop.cli.errors import UsageError
from eqprop.cli.options import parse
from eqprop.cli.runs import runs_in
from eqprop.training.metrics import Score, evaluate
from eqprop.training.rng import REST, seeded
from eqprop.training.session import load, prepare_run, read_run, threads

__all__ = ["Evaluate", "main"]


@dataclass(frozen=True)
class Evaluate:
    """Test the model of a run folder on its data: cost, error, residual and steps of the free phase.

    Args:
        folder: a run folder.
        which: the weights of the last epoch or batch, or of the best epoch by validation, else training, error.
        device: where to settle: "cpu", "cuda" or "cuda:1".
        root: a folder to look for the data in first.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    which: Literal["last", "best"] = "last"
    device: str = "cpu"
    root: Annotated[str | None, tyro.conf.arg(name="data.root", help_behavior_hint="")] = None

    def __post_init__(self) -> None:
        as_device(self.device)


def main(words: list[str]) -> int:
    """Test and print a table."""
    options = parse(Evaluate, words, "eqprop evaluate")
    folder = one_run(options.folder)
    run = read_run(folder)
    model = load(folder, options.which).to(options.device)
    data = replace(run.data, root=options.root, augment=None)  # training samples are judged as they are
    session = prepare_run(replace(run, data=data), options.device)
    parts = {"train": session.train, "validation": session.validation, "test": session.test}
    with threads(run.threads), seeded(run.seed, REST):
        lines = [line(part, evaluate(model, batches)) for part, batches in parts.items() if batches is not None]
    table(("part", "samples", "cost", "error", "residual", "steps"), lines)
    return 0


def one_run(folder: Path) -> Path:
    """The folder itself.

    Raises:
        FileNotFoundError: if it holds no run.
        UsageError: if it is not a run's, but holds several.
    """
    found = runs_in(folder)
    if folder not in found:
        raise UsageError(f"{folder} is no run but holds {len(found)}: name one of them, such as {found[0]}")
    return folder


def line(part: str, score: Score) -> list[str]:
    """A part's row of the table."""
    formats = (score.cost, ".5f"), (score.error, ".2%"), (score.residual, ".1e"), (score.steps, "g")
    return [part, str(score.samples), *("–" if value is None else f"{value:{form}}" for value, form in formats)]
