"""``eqprop evaluate FOLDER``: test a trained model."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from eqprop.cli.parse import parse
from eqprop.cli.show import table
from eqprop.training.evaluation import evaluate
from eqprop.training.session import load, prepare, read_run

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
    root: Annotated[str | None, tyro.conf.arg(name="data.root")] = None


def main(words: list[str]) -> int:
    """Test and print a table."""
    options = parse(Evaluate, words, "eqprop evaluate")
    run = read_run(options.folder)
    model = load(options.folder, options.which).to(options.device)
    session = prepare(replace(run, data=replace(run.data, root=options.root)), options.device)
    lines = []
    for name, batches in (("train", session.train), ("validation", session.validation), ("test", session.test)):
        if batches is not None:
            score = evaluate(model, batches)
            error = "–" if score.error is None else f"{score.error:.2%}"
            numbers = f"{score.cost:.5f}", error, f"{score.residual:.1e}", f"{score.steps:g}"
            lines.append([name, str(score.samples), *numbers])
    table(("part", "samples", "cost", "error", "residual", "steps"), lines)
    return 0
