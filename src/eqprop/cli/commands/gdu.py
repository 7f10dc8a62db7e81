"""``eqprop gdu RECIPE [OPTIONS]``: the theorem of Ernoult et al. (2019) on a model, as a table, pictures and JSON."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from eqprop import plots
from eqprop._core.checks import nonzero, positive_int
from eqprop._core.files import write_atomic
from eqprop.cli.console import download_progress, echo, progress_counter, table
from eqprop.cli.errors import CommandFailedError, report_full_disk
from eqprop.cli.options import HIDE_DEFAULT, name_options, parse
from eqprop.cli.parsers import as_device
from eqprop.cli.targets import (
    can_draw,
    check_folder_name,
    check_vacant,
    load_weights,
    new_folder,
    split_target,
    trained_folder,
)
from eqprop.papers.registry import EXPERIMENTS, RECIPES, experiment
from eqprop.report import markdown_table
from eqprop.solvers.settle import Settle
from eqprop.theorem import GDUReport
from eqprop.theorem.experiment import Experiment
from eqprop.theorem.report import layer_errors
from eqprop.theorem.result import INITIAL, Result, conduct, write
from eqprop.training.session import read_run

__all__ = ["GDU", "draw", "lines", "main", "verdict"]

NAMES = (*EXPERIMENTS, *(name for name in RECIPES if name not in EXPERIMENTS))

HEAD = ("layer", "relative error", "accumulated", "without t=0", "cosine", "same sign", "stuck", "without nudge")

LEGEND = """\
relative error: of EP's increments against BPTT's gradients, mean over units (batch means) or synapses; accumulated: of their sums
up to t; same sign: of the total updates; stuck: units that EP never moves though they have a gradient; without nudge: share of the
motion that the free phase had not come to rest from."""


@dataclass(frozen=True)
class GDU:
    """Hold EP's increments against BPTT's gradients, step by step; leave a table, pictures and JSON in a new folder.

    Args:
        experiment: what is checked.
        out: folder of the results; runs/gdu-RECIPE, or the next free number of it, where left out.
        betas: further nudging strengths, for a picture of error and angle against beta.
        components: so many units and synapses of each layer are drawn.
        device: where to compute: "cpu", "cuda" or "cuda:1".
        plots: draw pictures (needs the extra eqprop[plot]).
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
            nonzero("betas", beta)
        positive_int("components", self.components)
        as_device(self.device)


def main(words: list[str]) -> int:
    """Check, tell, and keep."""
    name, rest = split_target(words, "gdu", NAMES)
    trained = trained_folder(name, NAMES)
    default = GDU(of_training(trained) if trained else experiment(name))
    prog = f"eqprop gdu {name}"
    options = parse(GDU, rest, prog, default)
    check_vacant(options.out)
    with name_options(options):
        report, result = found(options, trained)
    show(result)
    keep(options, report, result)
    return 0


def of_training(folder: Path) -> Experiment:
    """The check of a trained model, on the phases that it was trained with."""
    run = read_run(folder)
    return replace(Experiment.of_run(run), name=f"{run.name}-trained")


def found(options: GDU, trained: Path | None) -> tuple[GDUReport, Result]:
    """Carry the experiment out.

    Raises:
        ValueError, FileNotFoundError, DataError: if it cannot be: see `Experiment`.
        CommandFailedError: if a number is not finite.
    """
    asked = options.experiment
    model = asked.build(options.device)
    weights = load_weights(model, trained) if trained else INITIAL
    batch = asked.batch(model, download_progress(asked.data.name))
    try:
        with progress_counter(f"{asked.name}, free phase") as progress:
            return conduct(asked, model, batch, tuple(options.betas), weights=weights, progress=progress)
    except FloatingPointError as error:
        raise CommandFailedError(f"{asked.name}: {error}") from None


def show(result: Result) -> None:
    """The table, and what it means."""
    table(HEAD, lines(result.summary))
    echo(f"\n{LEGEND}\n")
    for line in remarks(result):
        echo(line)


def keep(options: GDU, report: GDUReport, result: Result) -> None:
    """Write all of it.

    Raises:
        CommandFailedError: if the disk is full.
        OSError: if the folder cannot be made.
    """
    folder = new_folder(options.out, f"gdu-{options.experiment.name}")
    with report_full_disk(folder):
        if can_draw(options.plots):
            draw(report, result, folder, options.components)
        text = [f"# {result.experiment.name}", markdown_table(HEAD, lines(result.summary)), LEGEND, *remarks(result)]
        write_atomic(folder / "report.md", "\n\n".join(text) + "\n")
        write(result, folder)
    echo(f"results in {folder}")


def draw(report: GDUReport, result: Result, folder: Path, components: int = 5) -> None:
    """The pictures of one experiment, into its ``plots``."""
    name, at = result.experiment.name, folder / "plots"
    title = f"{name}: T = {report.steps}, K = {report.nudged_steps}, beta = {report.beta:g}"
    plots.increments(report, at / "increments", components=components, seed=result.experiment.seed, title=title)
    plots.relative_errors({name: layer_errors(result.summary)}, at / "errors")
    if result.betas:
        points = {summary["beta"]: summary for summary in (*result.betas, result.summary)}
        plots.against_beta(dict(sorted(points.items())), at / "betas", title=name)


def lines(summary: dict[str, Any]) -> list[list[str]]:
    """A row for every population and parameter."""
    last = len(summary["populations"])
    named = [(f"{n} (output)" if n == f"s{last}" else n, facts) for n, facts in summary["populations"].items()]
    return [line(n, f) for n, f in named] + [line(f["label"], f) for f in summary["parameters"].values()]


def line(name: str, facts: dict[str, float]) -> list[str]:
    """One row."""
    errors = [f"{facts[key]:.2g}" for key in ("relative_error", "accumulated", "without_first")]
    shares = [f"{facts[key]:.1%}" if key in facts else "–" for key in ("same_sign", "stuck", "free_share")]
    return [name, *errors, f"{facts['cosine']:.4f}", *shares]


def remarks(result: Result) -> list[str]:
    """How it was measured, each assumption, and the verdict."""
    s = result.summary
    against = f"dL/ds{' of pre-activations, dL/du' * (s['against'] == 'dL/du')}"
    samples = f"{s['samples']} sample{'s' * (s['samples'] > 1)}"
    return [
        f"T = {s['free_steps']}, K = {s['nudged_steps']}, beta = {s['beta']:g}, {s['nudging']}; {samples}, "
        f"{s['dtype']}, {result.weights} weights; {result.seconds:.1f} s",
        f"neurons: (s(t+1) - s(t)) / (beta dt), dt = {s['dt']:g}, against {against}; largest residual {s['residual']:.1e}",
        f"angle of the total update: {s['angle']:.3g} degrees ({s['angle_without_first']:.3g} without t = 0)",
        *means(result.experiment),
        *(f"{'holds' if a['holds'] else 'FAILS'}: {a['name']}: {a['detail']}" for a in s["assumptions"]),
        verdict(s),
    ]


def means(experiment: Experiment) -> list[str]:
    """What is said where a training would take means of the last states."""
    phases = (experiment.estimator.free_steps, experiment.estimator.nudged_steps)
    late = max(steps.average if isinstance(steps, Settle) else 1 for steps in phases)
    return [f"the last states are taken, not the means of the last {late} as in training"] if late > 1 else []


def verdict(summary: dict[str, Any]) -> str:
    """What may be concluded."""
    broken = [a["name"] for a in summary["assumptions"] if not a["holds"]]
    if not broken:
        order = "beta squared" if summary["nudging"] == "centred" else "beta"
        return f"Every assumption of the theorem holds: what is left is of order {order}."
    return f"The theorem cannot be exact here: {', '.join(broken)} {'fails' if len(broken) == 1 else 'fail'}."
