"""``eqprop gdu RECIPE [OPTIONS]``: check the theorem of Ernoult et al. (2019) for a model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from eqprop import plots
from eqprop._core.checks import nudging_strength, positive_int
from eqprop._core.files import write_atomic
from eqprop.cli.console import download_progress, echo, progress_counter, table
from eqprop.cli.errors import CommandFailedError, report_full_disk
from eqprop.cli.figures import report_failed_drawing
from eqprop.cli.options import HIDE_DEFAULT, name_options, parse
from eqprop.cli.parsers import as_device
from eqprop.cli.targets import (
    can_draw,
    check_folder_name,
    check_vacant,
    load_weights,
    results_folder,
    split_target,
    trained_folder,
)
from eqprop.papers import registry
from eqprop.papers.registry import EXPERIMENTS, RECIPES
from eqprop.report import markdown_table
from eqprop.solvers.settle import Settle
from eqprop.theorem import GDUReport
from eqprop.theorem.experiment import Experiment
from eqprop.theorem.report import layer_errors
from eqprop.theorem.result import INITIAL, Result, run_experiment, write_result
from eqprop.training.session import read_run

__all__ = ["GDU", "draw", "main", "table_rows", "verdict"]

NAMES = (*EXPERIMENTS, *(name for name in RECIPES if name not in EXPERIMENTS))

HEAD = ("layer", "relative error", "accumulated", "without t=0", "cosine", "same sign", "stuck", "without nudge")

LEGEND = """\
relative error: between EP's increments and BPTT's gradients, mean over units (batch means) or synapses; accumulated: between their
sums up to t; same sign: of the total updates; stuck: units with a gradient that EP never moves; without nudge: share of the motion
left over from the free phase."""


@dataclass(frozen=True)
class GDU:
    """Compare EP's increments with BPTT's gradients, step by step; write a table, plots and JSON to a new folder.

    Args:
        experiment: model, data, phases and nudging to check.
        out: folder of the results; by default runs/gdu-RECIPE, with the next free number if it exists.
        betas: further nudging strengths, for a plot of error and angle over beta.
        components: number of units and synapses of each layer to plot.
        device: where to compute: "cpu", "cuda" or "cuda:1".
        plots: write plots (needs the extra eqprop[plot]).
    """

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    out: Annotated[Path | None, HIDE_DEFAULT] = None
    betas: Sequence[float] = ()
    components: int = 5
    device: str = "cpu"
    plots: bool = True

    def __post_init__(self) -> None:
        check_folder_name(self.experiment.name)
        for beta in self.betas:
            nudging_strength("betas", beta)
        positive_int("components", self.components)
        as_device(self.device)


def main(words: list[str]) -> int:
    """Run the check, print the report and write the results."""
    name, rest = split_target(words, "gdu", NAMES)
    trained = trained_folder(name, NAMES)
    default = GDU(_trained_experiment(trained) if trained else registry.experiment(name))
    prog = f"eqprop gdu {name}"
    options = parse(GDU, rest, prog, default)
    check_vacant(options.out)
    with results_folder(options.out, f"gdu-{options.experiment.name}") as folder:
        with name_options(options):
            report, result = _run(options, trained)
        try:
            _print_report(result)
        finally:  # also if the reader of standard output has exited
            _write_results(options, report, result, folder)
    return 0


def _trained_experiment(folder: Path) -> Experiment:
    """Return the check of a trained model, with the phases of its training."""
    run = read_run(folder)
    return replace(Experiment.from_run(run), name=f"{run.name}-trained")


def _run(options: GDU, trained: Path | None) -> tuple[GDUReport, Result]:
    """Run the experiment.

    Raises:
        ValueError, FileNotFoundError, DataError: see `Experiment`.
        CommandFailedError: if a number is not finite.
    """
    experiment = options.experiment
    model = experiment.build(options.device)
    weights = load_weights(model, trained) if trained else INITIAL
    batch = experiment.batch(model, download_progress(experiment.data.name))
    try:
        with progress_counter(f"{experiment.name}, free phase") as progress:
            return run_experiment(experiment, model, batch, tuple(options.betas), weights=weights, progress=progress)
    except FloatingPointError as error:
        raise CommandFailedError(f"{experiment.name}: {error}") from None


def _print_report(result: Result) -> None:
    table(HEAD, table_rows(result.summary))
    echo(f"\n{LEGEND}\n")
    for line in _remarks(result):
        echo(line)


def _write_results(options: GDU, report: GDUReport, result: Result, folder: Path) -> None:
    """Write report, JSON and plots.

    Raises:
        CommandFailedError: if the disk is full, or a plot could not be drawn.
    """
    with report_full_disk(folder):
        text = [
            f"# {result.experiment.name}",
            markdown_table(HEAD, table_rows(result.summary)),
            LEGEND,
            *_remarks(result),
        ]
        write_atomic(folder / "report.md", "\n\n".join(text) + "\n")
        write_result(result, folder)
        if can_draw(options.plots):
            with report_failed_drawing(folder, "the results are written"):
                draw(report, result, folder, options.components)
    echo(f"results in {folder}")


def draw(report: GDUReport, result: Result, folder: Path, components: int = 5) -> None:
    """Write the plots of an experiment to ``folder / "plots"``."""
    name, at = plots.plain(result.experiment.name), folder / "plots"
    title = f"{name}: T = {report.steps}, K = {report.nudged_steps}, beta = {report.beta:g}"
    plots.increments(report, at / "increments", components=components, seed=result.experiment.seed, title=title)
    plots.relative_errors({name: layer_errors(result.summary)}, at / "errors")
    if result.betas:
        points = {summary["beta"]: summary for summary in (*result.betas, result.summary)}
        plots.against_beta(dict(sorted(points.items())), at / "betas", title=name)


def table_rows(summary: dict[str, Any]) -> list[list[str]]:
    """Return a table row for every population and parameter."""
    last = len(summary["populations"])
    named = [(f"{n} (output)" if n == f"s{last}" else n, facts) for n, facts in summary["populations"].items()]
    return [_table_row(n, f) for n, f in named] + [_table_row(f["label"], f) for f in summary["parameters"].values()]


def _table_row(name: str, facts: dict[str, float]) -> list[str]:
    errors = [f"{facts[key]:.2g}" for key in ("relative_error", "accumulated", "without_first")]
    shares = [f"{facts[key]:.1%}" if key in facts else "–" for key in ("same_sign", "stuck", "free_share")]
    return [name, *errors, f"{facts['cosine']:.4f}", *shares]


def _remarks(result: Result) -> list[str]:
    """Return the settings, each assumption, and the verdict, as lines of text."""
    s = result.summary
    against = f"dL/ds{' of pre-activations, dL/du' * (s['against'] == 'dL/du')}"
    samples = f"{s['samples']} sample{'s' * (s['samples'] > 1)}"
    return [
        f"T = {s['free_steps']}, K = {s['nudged_steps']}, beta = {s['beta']:g}, {s['nudging']}; {samples}, "
        f"{s['dtype']}, {result.weights} weights; {result.seconds:.1f} s",
        f"neurons: (s(t+1) - s(t)) / (beta dt), dt = {s['dt']:g}, compared with {against}; largest residual {s['residual']:.1e}",
        f"angle of the total update: {s['angle']:.3g} degrees ({s['angle_without_first']:.3g} without t = 0)",
        *_averaging_note(result.experiment),
        *(f"{'holds' if a['holds'] else 'FAILS'}: {a['name']}: {a['detail']}" for a in s["assumptions"]),
        verdict(s),
    ]


def _averaging_note(experiment: Experiment) -> list[str]:
    """Return a note if the training averages the last states, which a check does not."""
    phases = (experiment.estimator.free_steps, experiment.estimator.nudged_steps)
    last = max(steps.average if isinstance(steps, Settle) else 1 for steps in phases)
    return [f"last states, without the average over {last} steps used in training"] if last > 1 else []


def verdict(summary: dict[str, Any]) -> str:
    """Return the conclusion as a sentence."""
    broken = [a["name"] for a in summary["assumptions"] if not a["holds"]]
    if not broken:
        order = "beta squared" if summary["nudging"] == "centred" else "beta"
        return f"Every assumption of the theorem holds: the remaining error is of order {order}."
    return f"The theorem cannot be exact here: {', '.join(broken)} {'fails' if len(broken) == 1 else 'fail'}."
