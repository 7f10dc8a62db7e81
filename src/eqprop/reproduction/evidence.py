"""What has been done already: results and finished trainings in folders, found by their resolved configuration."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eqprop.files import DamagedError
from eqprop.reproduction.paper import Check, Row
from eqprop.theorem.result import INITIAL, Result, read
from eqprop.training.folder import Folder
from eqprop.training.rows import Row as Epoch
from eqprop.training.run import Run
from eqprop.training.session import read_run

__all__ = ["Training", "find_result", "find_trainings", "result_in"]


@dataclass(frozen=True)
class Training:
    """A training that came to its end.

    Attributes:
        run: its configuration.
        epochs: a row an epoch.
        environment: what it ran on.
    """

    run: Run
    epochs: list[Epoch]
    environment: dict[str, Any]


def find_result(check: Check, root: Path) -> Path | None:
    """The first folder below ``root`` that holds just this experiment with all of its betas; damaged ones do not count."""
    folders = (file.parent for file in sorted(root.rglob("experiment.json")))
    return next((folder for folder in folders if result_in(folder, check) is not None), None)


def result_in(folder: Path, check: Check) -> Result | None:
    """The result of a folder, if it is sound and of just this check."""
    try:
        result = read(folder)
    except DamagedError:
        return None
    return result if result is not None and answers(result, check) else None


def answers(result: Result, check: Check) -> bool:
    """Whether a result is what a check asks for."""
    betas = {summary["beta"] for summary in result.betas}
    same = result.experiment.to_json() == check.experiment.to_json()
    return same and result.weights == INITIAL and set(check.betas) <= betas


def find_trainings(row: Row, roots: Sequence[Path]) -> list[Training]:
    """The finished trainings of a line of the table, one a seed, in the order of seeds."""
    wanted = row.run.to_json()
    found: dict[int, Training] = {}
    for config in (file for root in roots for file in sorted(root.rglob("config.json"))):
        training = finished(config.parent, wanted)
        if training is not None:
            found.setdefault(training.run.seed, training)
    return [found[seed] for seed in sorted(found)]


def finished(folder: Path, wanted: str) -> Training | None:
    """The training of a folder, if it is that configuration and came to its end."""
    try:
        run = read_run(folder)
        if replace(run, seed=0).to_json() != wanted:
            return None
        place = Folder(folder)
        rows = place.rows()
        return Training(run, rows, json.loads(place.environment.read_text())) if len(rows) == run.epochs else None
    except (OSError, ValueError):
        return None
