"""What has been done already: results and finished trainings in folders, found by their resolved configuration."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eqprop._core.files import DamagedError
from eqprop.papers.reproduction.paper import Check, Row
from eqprop.papers.reproduction.studies import Study
from eqprop.theorem.experiment import Experiment
from eqprop.theorem.result import INITIAL, Result, read_result
from eqprop.training.config.run import Run
from eqprop.training.history import Row as Epoch
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import read_run

__all__ = ["Records", "Training", "find_result", "find_trainings", "key", "result_in", "study_in", "trainings_in"]


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
        result = read_result(folder)
    except DamagedError:
        return None
    return result if result is not None and answers(result, check) else None


def answers(result: Result, check: Check) -> bool:
    """Whether a result is what a check asks for."""
    betas = {summary["beta"] for summary in result.betas}
    same = result.experiment.to_json() == check.experiment.to_json()
    return same and result.weights == INITIAL and set(check.betas) <= betas


Records = Mapping[str, list[Training]]
"""Finished trainings, in the order of their seeds, by their configuration with the seed left out."""


def trainings_in(roots: Sequence[Path]) -> Records:
    """Every finished training below some folders, the first of each seed; as run folders, or packed in ``trainings.jsonl``."""
    found: dict[str, dict[int, Training]] = {}
    for root in roots:
        for training in (*in_folders(root), *packed(root)):
            found.setdefault(key(training.run), {}).setdefault(training.run.seed, training)
    return {config: [seeds[seed] for seed in sorted(seeds)] for config, seeds in found.items()}


def find_trainings(row: Row, roots: Sequence[Path]) -> list[Training]:
    """The finished trainings of a line of the table, one a seed, in the order of seeds."""
    return trainings_in(roots).get(key(row.run), [])


def study_in(file: Path, study: Study) -> dict[str, Any] | None:
    """The facts of a file, if they are of just this computation."""
    try:
        facts = dict(json.loads(file.read_text()))
        return facts if [resolved(text) for text in facts["key"]] == study.key else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def resolved(text: str) -> str:
    """An experiment's text with the fields that it did not have when it was written, at their defaults; other text as it is."""
    return Experiment.from_json(text).to_json() if text.startswith("{") else text


def key(run: Run) -> str:
    """A configuration as text, without its seed."""
    return replace(run, seed=0).to_json()


def in_folders(root: Path) -> Iterator[Training]:
    """The finished trainings in run folders; what is not sound does not count."""
    for config in sorted(root.rglob("config.json")):
        with suppress(OSError, ValueError):
            place, run = RunFolder(config.parent), read_run(config.parent)
            rows = place.rows()
            if len(rows) == run.epochs:
                yield Training(run, rows, json.loads(place.environment.read_text()))


def packed(root: Path) -> Iterator[Training]:
    """Those that were packed into one file, a training a line."""
    for file in sorted(root.rglob("trainings.jsonl")):
        with suppress(OSError, ValueError):
            yield from (training for line in file.read_text().splitlines() if (training := unpacked(line)) is not None)


def unpacked(line: str) -> Training | None:
    """The finished training of a line, if there is one."""
    try:
        facts = json.loads(line)
        training = Training(Run.from_json(json.dumps(facts["config"])), facts["rows"], dict(facts["environment"]))
    except (ValueError, KeyError, TypeError):
        return None
    return training if len(training.epochs) == training.run.epochs else None
