"""Finished work: results and trainings in folders, found by their configuration, and what a report gathers of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eqprop._core.files import DamagedError, parse_json, read_regular
from eqprop.papers.reproduction.paper import Check, Sweep
from eqprop.papers.reproduction.studies import Study
from eqprop.theorem.experiment import Experiment
from eqprop.theorem.result import INITIAL, Result, read_result
from eqprop.training.config.run import CONFIG_CLASSES, Run
from eqprop.training.config.serialization import from_json, to_json
from eqprop.training.history import Row as Epoch
from eqprop.training.history import is_row
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import read_run

__all__ = [
    "Findings",
    "Records",
    "Training",
    "config_key",
    "find_result",
    "load_result",
    "load_run_folders",
    "load_study",
    "load_trainings",
]


@dataclass(frozen=True)
class Training:
    """A finished training.

    Attributes:
        run: its configuration.
        epochs: the rows of its metrics, one for each epoch.
        environment: the software and hardware that it ran on.
    """

    run: Run
    epochs: list[Epoch]
    environment: dict[str, Any]


Records = Mapping[str, list[Training]]
"""Finished trainings in the order of their seeds, by `config_key`."""


@dataclass
class Findings:
    """Everything that a report of a reproduction shows.

    Attributes:
        folder: folder of the report, its results and its figures.
        results: results of the checks, by the experiment's name.
        trainings: finished trainings of the rows, by the row's command.
        reasons: why a check, a study, a figure or a row could not be run, by the same keys.
        studies: contents of the studies' files, by name.
        diverged: seeds that diverged in this call, by the row's command.
    """

    folder: Path
    results: dict[str, Result] = field(default_factory=dict)
    trainings: dict[str, list[Training]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    studies: dict[str, dict[str, Any]] = field(default_factory=dict)
    diverged: dict[str, list[int]] = field(default_factory=dict)

    def divergence(self, command: str) -> str:
        """Return "seeds 0, 3 diverged" for a row's command; an empty text if none did."""
        seeds = self.diverged.get(command, [])
        return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} diverged" if seeds else ""

    def test_errors(self, command: str) -> list[float]:
        """Return the test errors after the last epoch in percent, one for each finished seed."""
        return [100 * training.epochs[-1]["test_error"] for training in self.trainings.get(command, [])]

    def sweep_errors(self, sweep: Sweep) -> dict[str, dict[float, list[float]]]:
        """Return the test errors of a figure's finished trainings, in percent, by label and varied number."""
        found = {
            label: {at: errors for at, row in curve.items() if (errors := self.test_errors(row.command))}
            for label, curve in sweep.curves.items()
        }
        return {label: curve for label, curve in found.items() if curve}


def find_result(check: Check, root: Path) -> Path | None:
    """Return the first folder below ``root`` with a valid result of the check, or None."""
    folders = (file.parent for file in sorted(root.rglob("experiment.json")))
    return next((folder for folder in folders if load_result(folder, check) is not None), None)


def load_result(folder: Path, check: Check) -> Result | None:
    """Return the result in a folder if it is valid and of exactly this check, else None."""
    try:
        result = read_result(folder)
    except DamagedError:
        return None
    if result is None or result.weights != INITIAL:
        return None
    betas = {summary["beta"] for summary in result.betas}
    same = result.experiment.to_json() == check.experiment.to_json()
    return result if same and set(check.betas) <= betas else None


def load_study(file: Path, study: Study) -> dict[str, Any] | None:
    """Return the content of a study's file if it is valid and has the study's key, else None."""
    try:
        facts = dict(parse_json(read_regular(file)))
        return facts if [_current(text) for text in facts["key"]] == study.key else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _current(text: str) -> str:
    # Rewrite the JSON in a line of a recorded key as it is written today: fields may have been renamed or added since.
    label, brace, rest = text.partition("{")
    if not brace:
        return text
    classes = (Experiment, *CONFIG_CLASSES)
    return label + to_json(from_json(brace + rest, classes), classes)


def config_key(run: Run) -> str:
    """Return a run's configuration without its seed, as text."""
    return replace(run, seed=0).to_json()


def load_trainings(roots: Sequence[Path]) -> Records:
    """Return all finished trainings below some folders, from run folders and from ``trainings.jsonl`` files.

    If a seed of a configuration is found several times, the first one counts.
    """
    found: dict[str, dict[int, Training]] = {}
    for root in roots:
        for training in (*load_run_folders(root), *_load_packed(root)):
            found.setdefault(config_key(training.run), {}).setdefault(training.run.seed, training)
    return {config: [seeds[seed] for seed in sorted(seeds)] for config, seeds in found.items()}


def load_run_folders(root: Path) -> Iterator[Training]:
    """Yield the finished trainings of all run folders below ``root``; damaged folders are skipped."""
    for config in sorted(root.rglob("config.json")):
        with suppress(OSError, ValueError):
            place, run = RunFolder(config.parent), read_run(config.parent)
            rows = place.rows()
            if len(rows) == run.epochs and "test_error" in rows[-1]:
                yield Training(run, rows, place.read_environment())


def _load_packed(root: Path) -> Iterator[Training]:
    # ``trainings.jsonl`` holds one training a line
    for file in sorted(root.rglob("trainings.jsonl")):
        with suppress(OSError, ValueError):
            yield from (
                training for line in read_regular(file).decode().splitlines() if (training := _unpack(line)) is not None
            )


def _unpack(line: str) -> Training | None:
    try:
        facts = parse_json(line)
        training = Training(Run.from_json(json.dumps(facts["config"])), list(facts["rows"]), dict(facts["environment"]))
    except (ValueError, KeyError, TypeError):
        return None
    rows = training.epochs
    whole = len(rows) == training.run.epochs and all(is_row(row, epoch) for epoch, row in enumerate(rows, start=1))
    return training if whole and "test_error" in rows[-1] else None
