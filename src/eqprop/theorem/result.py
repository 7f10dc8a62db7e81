"""The result of an experiment, and its folder.

experiment.json    the experiment
report.json        measurements and run time
environment.json   versions and hardware; no host name, user or path
plots/
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from eqprop._core.files import DamagedError, parse_json, read_regular, write_atomic
from eqprop._core.measured_json import dump_measured
from eqprop.models.model import Model
from eqprop.theorem.experiment import Experiment
from eqprop.theorem.gdu import Progress, check_betas, compare
from eqprop.theorem.report import GDUReport
from eqprop.training.environment import environment
from eqprop.training.session import threads

__all__ = ["INITIAL", "Result", "read_result", "run_experiment", "write_result"]

INITIAL = "initial"
"""Name of weights as drawn from the seed."""

SUMMARY_KEYS = {"beta", "residual", "angle", "assumptions", "populations", "parameters"}
"""Keys of a summary that other modules read."""

ENVIRONMENT_KEYS = {"cpu", "gpu", "threads"}
"""Keys of an environment that other modules read."""


@dataclass(frozen=True)
class Result:
    """The stored result of an experiment.

    Attributes:
        experiment: the experiment.
        summary: `GDUReport.summary`.
        betas: summaries at further nudging strengths.
        weights: "initial", or the source of trained weights.
        seconds: run time.
        environment: versions and hardware.
    """

    experiment: Experiment
    summary: dict[str, Any]
    betas: list[dict[str, Any]]
    weights: str
    seconds: float
    environment: dict[str, Any]


def run_experiment(
    experiment: Experiment,
    model: Model,
    batch: tuple[torch.Tensor, torch.Tensor],
    betas: tuple[float, ...] = (),
    *,
    weights: str = INITIAL,
    progress: Progress | None = None,
) -> tuple[GDUReport, Result]:
    """Run an experiment.

    Args:
        experiment: the experiment.
        model: its model, from `Experiment.build` or trained.
        batch: inputs and targets, from `Experiment.batch`.
        betas: further nudging strengths, for which only the nudged phases run again.
        weights: source of the model's weights.
        progress: called as ``progress(done, total)``, in free steps.

    Raises:
        ValueError: if the dynamics are unstable at a beta.
        FloatingPointError: if the input, a weight or a state is not finite.
    """
    check_betas(model, betas, experiment.nudging)
    started = time.monotonic()
    with threads(experiment.threads):
        back = experiment.run_backward(model, *batch, progress)
        report = compare(model, back, experiment.estimator.beta, experiment.nudging, experiment.rates)
        summary = report.summary()
        further = [compare(model, back, beta, experiment.nudging, experiment.rates).summary() for beta in betas]
        machine = environment(batch[0].device)
    return report, Result(experiment, summary, further, weights, time.monotonic() - started, machine)


def write_result(result: Result, folder: Path) -> None:
    """Write a result; ``report.json`` comes last, so that its presence marks a complete folder.

    Raises:
        OSError: if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts = {key: value for key, value in vars(result).items() if key not in ("experiment", "environment")}
    write_atomic(folder / "experiment.json", result.experiment.to_json())
    write_atomic(folder / "environment.json", json.dumps(result.environment, indent=2) + "\n")
    write_atomic(folder / "report.json", dump_measured(facts))


def _with_nan(value: Any) -> Any:
    """Return measurements as they were before they were written: null, which stands for a number that is not finite, as NaN."""
    if isinstance(value, dict):
        return {key: part if key == "rates" else _with_nan(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_nan(part) for part in value]
    return math.nan if value is None else value


def read_result(folder: Path) -> Result | None:
    """Read the result in a folder; None if a file is missing.

    Raises:
        DamagedError: if a file is not in the form that `write_result` gives it.
    """
    files = [folder / f"{name}.json" for name in ("experiment", "report", "environment")]
    if not all(file.is_file() for file in files):
        return None
    try:
        experiment, report, machine = (read_regular(file).decode() for file in files)
        facts = _with_nan(parse_json(report))
        result = Result(Experiment.from_json(experiment), environment=parse_json(machine), **facts)
        if not result.environment.keys() >= ENVIRONMENT_KEYS:
            raise ValueError("entries of the environment are missing")
        if not all(summary.keys() >= SUMMARY_KEYS for summary in (result.summary, *result.betas)):
            raise ValueError("entries of a summary are missing")
        return result
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DamagedError(f"{folder} does not hold the result of a check: {error}") from None
