"""The tables of an account: what was found beside what was published, and how each line was run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eqprop.papers.registry import published
from eqprop.papers.reproduction.paper import Check, Row, Sweep
from eqprop.papers.reproduction.records import Training
from eqprop.report import Table
from eqprop.theorem.report import layer_errors
from eqprop.theorem.result import Result
from eqprop.training.summary import Spread, summarize

__all__ = ["OWED", "Findings", "check_tables", "failing", "sweep_table", "training_tables"]

CHECKS = ("experiment", "paper", "T", "K", "beta", "batch", "residual", "error, neurons", "error, weights", "angle")
CHECKS += ("assumptions that fail",)
TRAININGS = (
    "recipe",
    "by",
    "published test error",
    "test error here",
    "published training error",
    "training error here",
)
TRAININGS += ("last five epochs", "seeds")
RUNS = ("line", "command", "seeds", "time a run", "hardware")
OWED = "not run yet"


@dataclass
class Findings:
    """What is there by now.

    Attributes:
        folder: where results and pictures are.
        results: of the checks, by name.
        trainings: of the rows, by command.
        reasons: why something could not be run, by the same keys.
        studies: what computations found, by name.
        diverged: seeds of trainings that did when they were tried, by command.
    """

    folder: Path
    results: dict[str, Result] = field(default_factory=dict)
    trainings: dict[str, list[Training]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    studies: dict[str, dict[str, Any]] = field(default_factory=dict)
    diverged: dict[str, list[int]] = field(default_factory=dict)

    def divergence(self, command: str) -> str:
        """ "seeds 0, 3 diverged" of the trainings of a row; nothing where none did."""
        seeds = self.diverged.get(command, [])
        return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} diverged" if seeds else ""

    def errors(self, sweep: Sweep) -> dict[str, dict[float, list[float]]]:
        """Test errors in percent of the trainings of a figure that are there, by label and number."""
        found = {
            label: {
                at: [100 * training.epochs[-1]["test_error"] for training in self.trainings[row.command]]
                for at, row in curve.items()
                if row.command in self.trainings
            }
            for label, curve in sweep.curves.items()
        }
        return {label: curve for label, curve in found.items() if curve}


def check_tables(checks: Sequence[Check], found: Findings) -> list[Table]:
    """What the experiments on the theorem found, and how they were run."""
    results = [check_line(check, found) for check in checks]
    return [Table(CHECKS, results), Table(RUNS, [check_run(check, found) for check in checks])]


def check_line(check: Check, found: Findings) -> list[str]:
    """What was asked and what was found."""
    asked, result = check.experiment, found.results.get(check.experiment.name)
    steps, nudged = asked.phases
    start = [asked.name, check.place, str(steps), str(nudged), f"{asked.estimator.beta:g}", str(asked.data.batch_size)]
    if result is None:
        return [*start, found.reasons.get(asked.name, OWED), *[""] * 4]
    s, errors = result.summary, layer_errors(result.summary)
    return [
        *start,
        f"{s['residual']:.1e}",
        listed({name: error for name, error in errors.items() if name in s["populations"]}),
        listed({name: error for name, error in errors.items() if name not in s["populations"]}),
        f"{s['angle']:.2g}°",
        ", ".join(failing(s)) or "none",
    ]


def check_run(check: Check, found: Findings) -> list[str]:
    """How an experiment is run, and was."""
    asked, result = check.experiment, found.results.get(check.experiment.name)
    betas = " --betas " + " ".join(f"{beta:g}" for beta in check.betas) if check.betas else ""
    how = [duration(result.seconds), hardware(result.environment)] if result else ["–", "–"]
    return [asked.name, f"`eqprop gdu {asked.name}{betas}`", str(asked.seed), *how]


def listed(errors: Mapping[str, float]) -> str:
    """Layers and their errors in a line, which breaks only between two of them."""
    return ", ".join(f"{name.removesuffix(' weight')}\N{NO-BREAK SPACE}{error:.2g}" for name, error in errors.items())


def failing(summary: Mapping[str, Any]) -> list[str]:
    """Names of the assumptions that do not hold."""
    return [assumption["name"] for assumption in summary["assumptions"] if not assumption["holds"]]


def training_tables(rows: Sequence[Row], found: Findings) -> list[Table]:
    """What came of the trainings, and how they were run."""
    results = [training_line(row, found) for row in rows]
    return [Table(TRAININGS, results), Table(RUNS, [training_run(row, found) for row in rows])]


def training_line(row: Row, found: Findings) -> list[str]:
    """What was published and what came of it here."""
    run, done = row.run, found.trainings.get(row.command, [])
    known = [(f"{p.text} %", "–" if p.train is None else f"{p.train:.2f} %") for p in published(run)]
    test, train = known[0] if known else ("–", "–")
    summary = summarize([training.epochs for training in done]) if done else None
    diverged = found.divergence(row.command)
    if summary is None:
        return [run.name, row.by, test, diverged or found.reasons.get(row.command, OWED), train, *[""] * 3]
    last = summary.test_last.percent() if summary.test_last else "–"
    return [
        run.name,
        row.by,
        test,
        summary.test.percent(),
        train,
        summary.train.percent(),
        last,
        "; ".join(filter(None, (str(summary.seeds), diverged))),
    ]


def training_run(row: Row, found: Findings) -> list[str]:
    """How a row is trained, and was."""
    done = found.trainings.get(row.command, [])
    start = [f"{row.run.name}, {row.by}", f"`{row.command}`"]
    summary = summarize([training.epochs for training in done]) if done else None
    if summary is None:
        return [*start, "–", "–", "–"]
    machines = dict.fromkeys(hardware(training.environment) for training in done)
    seeds = ", ".join(str(training.run.seed) for training in done)
    return [*start, seeds, duration(summary.seconds), "; ".join(machines)]


def duration(seconds: float) -> str:
    """In seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def hardware(environment: Mapping[str, Any]) -> str:
    """What it ran on."""
    threads = environment.get("threads", "?")
    return environment.get("gpu") or f"{environment.get('cpu')}, {threads} thread{'s' * (threads != 1)}"


def sweep_table(sweep: Sweep, found: Findings) -> Table:
    """Test errors by number, a column for each label."""
    errors = found.errors(sweep)
    numbers = sorted({at for curve in (*sweep.curves.values(), *sweep.known.values()) for at in curve})
    head = (sweep.axis, *sweep.curves, *sweep.known)
    return Table(head, [[f"{at:g}", *sweep_cells(sweep, errors, found, at)] for at in numbers])


def sweep_cells(
    sweep: Sweep, errors: Mapping[str, Mapping[float, list[float]]], found: Findings, at: float
) -> list[str]:
    """What every curve has at a number."""
    cells = []
    for label, curve in sweep.curves.items():
        several = errors.get(label, {}).get(at)
        diverged = found.divergence(curve[at].command) if at in curve else ""
        error = "" if several is None else Spread.of([e / 100 for e in several]).percent()
        cells.append("; ".join(filter(None, (error, diverged))) or "–")
    known = [curve.get(at) for curve in sweep.known.values()]
    return cells + ["–" if pair is None else f"{pair[0]:.2f} ± {pair[1]:.2f} %" for pair in known]
