"""What an experiment found, in a folder.

experiment.json    everything that decided it
report.json        what was measured, how long it took
environment.json   versions and hardware; no host name, user or path
plots/
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from eqprop._core.files import DamagedError, write_atomic
from eqprop.models.model import Model
from eqprop.theorem.experiment import Experiment
from eqprop.theorem.gdu import Progress, admit, compare
from eqprop.theorem.report import GDUReport
from eqprop.training.environment import environment
from eqprop.training.session import threads

__all__ = ["INITIAL", "Result", "conduct", "read", "write"]

INITIAL = "initial"
"""Weights as drawn."""


@dataclass(frozen=True)
class Result:
    """What a folder holds of an experiment.

    Attributes:
        experiment: what was done.
        summary: `GDUReport.summary`.
        betas: summaries at further nudging strengths.
        weights: "initial", or where trained ones came from.
        seconds: how long it took.
        environment: what it ran on.
    """

    experiment: Experiment
    summary: dict[str, Any]
    betas: list[dict[str, Any]]
    weights: str
    seconds: float
    environment: dict[str, Any]


def conduct(
    experiment: Experiment,
    model: Model,
    batch: tuple[torch.Tensor, torch.Tensor],
    betas: tuple[float, ...] = (),
    *,
    weights: str = INITIAL,
    progress: Progress | None = None,
) -> tuple[GDUReport, Result]:
    """Carry an experiment out; at further strengths only the nudged phases are done again.

    Raises:
        ValueError: if the dynamics do not bear a beta.
        FloatingPointError: if the input, a weight or a state is not finite.
    """
    admit(model, betas)
    begun = time.monotonic()
    with threads(experiment.threads):
        back = experiment.backward(model, *batch, progress)
        report = compare(model, back, experiment.estimator.beta, experiment.nudging, experiment.rates)
        summary = report.summary()
        further = [compare(model, back, beta, experiment.nudging, experiment.rates).summary() for beta in betas]
        found = environment(batch[0].device)
    return report, Result(experiment, summary, further, weights, time.monotonic() - begun, found)


def write(result: Result, folder: Path) -> None:
    """Put a result into a folder; ``report.json`` comes last, so that where it is all is.

    Raises:
        OSError: if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts = {key: value for key, value in vars(result).items() if key not in ("experiment", "environment")}
    write_atomic(folder / "experiment.json", result.experiment.to_json())
    write_atomic(folder / "environment.json", json.dumps(result.environment, indent=2) + "\n")
    write_atomic(folder / "report.json", json.dumps(facts, indent=2, allow_nan=False) + "\n")


def read(folder: Path) -> Result | None:
    """The result in a folder; None if there is none, or not all of it.

    Raises:
        DamagedError: if a file is not what was written.
    """
    files = [folder / f"{name}.json" for name in ("experiment", "report", "environment")]
    if not all(file.is_file() for file in files):
        return None
    try:
        experiment, report, facts = (file.read_text() for file in files)
        result = Result(Experiment.from_json(experiment), environment=json.loads(facts), **json.loads(report))
        if not whole(result):
            raise ValueError("entries are missing")
        return result
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DamagedError(f"{folder} does not hold the result of a check: {error}") from None


SUMMARY = {"beta", "residual", "angle", "assumptions", "populations", "parameters"}
"""What is read of a summary, beside other things …"""

MACHINE = {"cpu", "gpu", "threads"}
"""… and of an environment."""


def whole(result: Result) -> bool:
    """Whether everything is there that others read."""
    return result.environment.keys() >= MACHINE and all(s.keys() >= SUMMARY for s in (result.summary, *result.betas))
