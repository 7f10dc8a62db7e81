"""The tables of a report: what was found here and what was published, and how each entry was run."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from eqprop.papers.published_results import Published
from eqprop.papers.registry import published_errors
from eqprop.papers.reproduction.paper import AnglePoint, Check, ErrorByAngle, Row, Sweep
from eqprop.papers.reproduction.records import Findings
from eqprop.report import Table
from eqprop.theorem.report import layer_errors
from eqprop.training.summary import Spread, Summary, summarize

__all__ = [
    "NOT_RUN",
    "angle_panels",
    "angle_table",
    "rules_without_training",
    "source_text",
    "summary_of",
    "sweep_table",
    "theorem_tables",
    "training_tables",
    "violated_assumptions",
]

NOT_RUN = "not run yet"

_CHECK_HEAD = (
    *("experiment", "figure", "T", "K", "beta", "batch", "residual", "error, neurons", "error, weights", "angle"),
    "violated assumptions",
)
_TRAINING_HEAD = (
    *("recipe", "method", "published test error", "test error here", "published training error"),
    *("training error here", "last five epochs", "seeds", "published in"),
)
_RUN_HEAD = ("entry", "command", "seeds", "time per run", "hardware")
_ANGLE_HEAD = (
    *("rule", "published angle, without t = 0", "published test error", "angle here, without t = 0", "angle here"),
    "test error here",
)

_ANGLE_DEFINITIONS = {"total update": "angle", "without t = 0, as published": "without_first"}
"""Titles of the panels of an error-by-angle figure, and the key of the angle in the study's result."""


def theorem_tables(checks: Sequence[Check], found: Findings) -> list[Table]:
    """Return the table of the errors found by the checks, and the table of how they were run."""
    errors = [_check_cells(check, found) for check in checks]
    return [Table(_CHECK_HEAD, errors), Table(_RUN_HEAD, [_check_run_cells(check, found) for check in checks])]


def _check_cells(check: Check, found: Findings) -> list[str]:
    experiment, result = check.experiment, found.results.get(check.experiment.name)
    T, K = experiment.phases
    start = [experiment.name, check.place, str(T), str(K), f"{experiment.estimator.beta:g}"]
    start.append(str(experiment.data.batch_size))
    if result is None:
        return [*start, found.reasons.get(experiment.name, NOT_RUN), *[""] * 4]
    s, errors = result.summary, layer_errors(result.summary)
    return [
        *start,
        f"{s['residual']:.1e}",
        _list_errors({name: error for name, error in errors.items() if name in s["populations"]}),
        _list_errors({name: error for name, error in errors.items() if name not in s["populations"]}),
        f"{s['angle']:.2g}°",
        ", ".join(violated_assumptions(s)) or "none",
    ]


def _check_run_cells(check: Check, found: Findings) -> list[str]:
    experiment, result = check.experiment, found.results.get(check.experiment.name)
    betas = " --betas " + " ".join(f"{beta:g}" for beta in check.betas) if check.betas else ""
    how = [_duration(result.seconds), _hardware(result.environment)] if result else ["–", "–"]
    return [experiment.name, f"`eqprop gdu {experiment.name}{betas}`", str(experiment.seed), *how]


def _list_errors(errors: Mapping[str, float]) -> str:
    # the no-break space keeps a layer and its error on one line
    return ", ".join(f"{name.removesuffix(' weight')}\N{NO-BREAK SPACE}{error:.2g}" for name, error in errors.items())


def violated_assumptions(summary: Mapping[str, Any]) -> list[str]:
    """Return the names of the theorem's assumptions that do not hold."""
    return [assumption["name"] for assumption in summary["assumptions"] if not assumption["holds"]]


def summary_of(row: Row, found: Findings) -> Summary | None:
    """Return the summary of a row's finished trainings; None if there are none."""
    trainings = found.trainings.get(row.command)
    return summarize([training.epochs for training in trainings]) if trainings else None


def source_text(known: Published) -> str:
    """Return paper and table of a published error, and whether the number was checked against them."""
    return known.source + ", from memory" * known.recalled


def training_tables(rows: Sequence[Row], found: Findings) -> list[Table]:
    """Return the table of the errors of the trainings, and the table of how they were run."""
    errors = [_training_cells(row, found) for row in rows]
    return [Table(_TRAINING_HEAD, errors), Table(_RUN_HEAD, [_training_run_cells(row, found) for row in rows])]


def _training_cells(row: Row, found: Findings) -> list[str]:
    run, summary, known = row.run, summary_of(row, found), next(iter(published_errors(row.run)), None)
    diverged = found.divergence(row.command)
    test, last, here = diverged or found.reasons.get(row.command, NOT_RUN), "", ["", ""]
    if summary is not None:
        test, last = summary.test.percent(), summary.test_last.percent() if summary.test_last else "–"
        here = [summary.train.percent(), _join([str(summary.seeds), diverged])]
    return [
        run.name,
        row.method,
        f"{known.text} %" if known else "–",
        test,
        f"{known.train:.2f} %" if known and known.train is not None else "–",
        here[0],
        last,
        here[1],
        source_text(known) if known else "–",
    ]


def _training_run_cells(row: Row, found: Findings) -> list[str]:
    start, summary = [f"{row.run.name}, {row.method}", f"`{row.command}`"], summary_of(row, found)
    if summary is None:
        return [*start, "–", "–", "–"]
    trainings = found.trainings[row.command]
    machines = dict.fromkeys(_hardware(training.environment) for training in trainings)
    seeds = ", ".join(str(training.run.seed) for training in trainings)
    return [*start, seeds, _duration(summary.seconds), "; ".join(machines)]


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _hardware(environment: Mapping[str, Any]) -> str:
    threads = environment.get("threads", "?")
    return environment.get("gpu") or f"{environment.get('cpu')}, {threads} thread{'s' * (threads != 1)}"


def sweep_table(sweep: Sweep, found: Findings) -> Table:
    """Return the test errors of a sweep: a row for each varied number, a column for each label."""
    errors = found.sweep_errors(sweep)
    numbers = sorted({at for curve in (*sweep.curves.values(), *sweep.published.values()) for at in curve})
    head = (sweep.axis, *sweep.curves, *sweep.published)
    return Table(head, [[f"{at:g}", *_sweep_cells(sweep, errors, found, at)] for at in numbers])


def _sweep_cells(
    sweep: Sweep, errors: Mapping[str, Mapping[float, list[float]]], found: Findings, at: float
) -> list[str]:
    cells = []
    for label, curve in sweep.curves.items():
        diverged = found.divergence(curve[at].command) if at in curve else ""
        cells.append(_join([_percent(errors.get(label, {}).get(at, [])), diverged]) or "–")
    known = [curve.get(at) for curve in sweep.published.values()]
    return cells + ["–" if pair is None else f"{pair[0]:.2f} ± {pair[1]:.2f} %" for pair in known]


def angle_table(figure: ErrorByAngle, found: Findings) -> Table:
    """Return published and found angles and test errors, a row for each rule."""
    angles = found.studies.get(figure.study, {"found": {}})["found"]
    return Table(_ANGLE_HEAD, [_angle_cells(p, angles.get(p.name), found) for p in figure.points])


def _angle_cells(p: AnglePoint, angles: Mapping[str, list[float]] | None, found: Findings) -> list[str]:
    deviation = "" if p.angle[1] is None else f" ± {p.angle[1]:.1f}"
    known = [f"{p.angle[0]:.1f}{deviation}°", f"{p.error[0]:.2f} ± {p.error[1]:.2f} %"]
    own = ["–", "–"] if angles is None else [f"{mean(angles[which]):.1f}°" for which in ("without_first", "angle")]
    error = "" if angles is None else _percent(found.test_errors(p.row.command))
    return [p.name, *known, *own, _join([error, found.divergence(p.row.command)]) or "–"]


Points = dict[str, list[tuple[list[float], list[float]]]]
PublishedPoints = dict[str, list[tuple[tuple[float, float | None], tuple[float, float]]]]


def angle_panels(figure: ErrorByAngle, found: Findings) -> dict[str, tuple[Points, PublishedPoints]]:
    """Return the panels for `eqprop.plots.error_by_angle`: one for each definition of the angle.

    Published points are in the panel of the published definition only. A rule without an angle or without a finished training
    has no point.
    """
    known: PublishedPoints = {}
    for p in figure.points:
        known.setdefault(p.rule, []).append((p.angle, p.error))
    return {
        title: (_points(figure, found, which), known if which == "without_first" else {})
        for title, which in _ANGLE_DEFINITIONS.items()
    }


def _points(figure: ErrorByAngle, found: Findings, which: str) -> Points:
    angles, points = found.studies.get(figure.study, {"found": {}})["found"], Points()
    for p in figure.points:
        if p.name in angles and (errors := found.test_errors(p.row.command)):
            points.setdefault(p.rule, []).append((angles[p.name][which], errors))
    return points


def rules_without_training(figure: ErrorByAngle, found: Findings) -> str:
    """Return the rules of a figure without a finished training; those that differ in the initial angle only are grouped."""
    missing: dict[str, list[str]] = {}
    for p in figure.points:
        if not found.test_errors(p.row.command):
            missing.setdefault(p.rule, []).extend(p.name.split(", ")[1:])
    return "; ".join(f"{rule} from {', '.join(angles)}" if angles else rule for rule, angles in missing.items())


def _percent(errors: Sequence[float]) -> str:
    return Spread.of([error / 100 for error in errors]).percent() if errors else ""


def _join(parts: Iterable[str]) -> str:
    return "; ".join(filter(None, parts))
