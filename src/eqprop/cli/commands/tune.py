"""``eqprop tune RECIPE [OPTIONS]``: compare EP's gradient with BPTT's over a grid of T, K and beta."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from math import inf, nextafter
from pathlib import Path
from typing import Annotated, Any

import tyro

from eqprop import plots
from eqprop._core.checks import fraction, positive_int
from eqprop._core.files import write_atomic
from eqprop._core.measured_json import dump_measured
from eqprop.cli.console import download_progress, echo, progress_counter, table
from eqprop.cli.errors import CommandFailedError, report_full_disk
from eqprop.cli.figures import report_failed_drawing
from eqprop.cli.options import HIDE_DEFAULT, name_options, parse
from eqprop.cli.parsers import as_device, format_steps
from eqprop.cli.targets import (
    can_draw,
    check_folder_name,
    check_vacant,
    load_weights,
    results_folder,
    split_target,
    trained_folder,
)
from eqprop.dynamics.noisy import Noisy
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import EquilibriumProp
from eqprop.papers.registry import RECIPES, recipe
from eqprop.report import markdown_table
from eqprop.theorem.experiment import Experiment
from eqprop.theorem.result import INITIAL
from eqprop.theorem.tuning import Cell, Grid, cheapest, tune
from eqprop.training.config.run import Run
from eqprop.training.environment import environment
from eqprop.training.session import prepare_run, read_run, threads

__all__ = ["Tune", "main"]

HEAD = ("T", "K", "beta", "steps per batch", "residual", "same sign", "worst layer", "relative error", "cosine")
LEGEND = """\
EP's gradient compared with that of BPTT over all T steps, means over {batches}, {weights} weights, {nudging}.
Same sign: fraction of weights and biases; worst layer: same sign in the layer where it is lowest; relative error: of the whole
gradient; residual: largest motion in the last step.{notes}"""

CONTINUAL = " Weights are fixed during the nudged phase; the error of continual EP's own gradient is larger."


@dataclass(frozen=True)
class Tune:
    """Compare EP with BPTT over a grid of T, K and beta, without training; write a table, a heat map and JSON to a new folder.

    Args:
        run: model, data and estimator to use.
        free_steps: values of T; by default 0.5, 1 and 2 times that of the recipe.
        nudged_steps: values of K; by default 0.5, 1 and 2 times that of the recipe.
        betas: nudging strengths; by default 0.25, 0.5, 1 and 2 times that of the recipe.
        batches: number of training batches, of the recipe's size.
        wanted: fraction of signs that must agree; the cheapest setting that reaches it is recommended.
        out: folder of the results; by default runs/tune-RECIPE, with the next free number if it exists.
        device: where to compute: "cpu", "cuda" or "cuda:1".
        plots: write the heat map (needs the extra eqprop[plot]).
    """

    run: Annotated[Run, tyro.conf.arg(name="")]
    free_steps: Sequence[int] = ()
    nudged_steps: Sequence[int] = ()
    betas: Sequence[float] = ()
    batches: int = 3
    wanted: float = 0.9
    out: Annotated[Path | None, HIDE_DEFAULT] = None
    device: str = "cpu"
    plots: bool = True

    def __post_init__(self) -> None:
        check_folder_name(self.run.name)
        positive_int("batches", self.batches)
        fraction("wanted", self.wanted)
        as_device(self.device)

    @property
    def grid(self) -> Grid:
        """The settings to compare.

        Raises:
            ValueError: if a value is out of its range.
        """
        own = Experiment.from_run(self.run)
        steps, nudged = own.phases
        return Grid(
            tuple(self.free_steps) or _around(steps),
            tuple(self.nudged_steps) or _around(nudged),
            tuple(self.betas) or _default_betas(own),
            own.nudging,
        )


FACTORS = (0.25, 0.5, 1.0, 2.0)
"""Multiples of the run's own beta that are tried by default."""

SWEEPS = " Steps are synchronous: two of them replace each sweep of the run's schedule."
RATES = " Spikes have no gradient: BPTT differentiates the rate model. EP uses last states, not averages."


def _around(steps: int) -> tuple[int, ...]:
    return max(1, steps // 2), steps, 2 * steps


def _default_betas(own: Experiment) -> tuple[float, ...]:
    """Return multiples of the run's beta, without those at which nudged phases may alternate or have no minimum."""
    beta, dynamics, curvature = own.estimator.beta, own.model.dynamics, own.model.cost.curvature
    dynamics, most = dynamics.dynamics if isinstance(dynamics, Noisy) else dynamics, inf
    if isinstance(dynamics, Prototypical) and dynamics.nudge == "outside":
        most = 0.6
    elif curvature and (isinstance(dynamics, Prototypical) or own.nudging == "centred"):
        most = nextafter(1 / curvature, 0)
    return tuple(factor * beta for factor in FACTORS if factor <= 1 or abs(factor * beta) <= most)


def main(words: list[str]) -> int:
    """Run the comparison, print the table and write the results."""
    name, rest = split_target(words, "tune", tuple(RECIPES))
    trained = trained_folder(name, tuple(RECIPES))
    prog, default = f"eqprop tune {name}", Tune(read_run(trained) if trained else recipe(name))
    options = parse(Tune, rest, prog, default)
    check_vacant(options.out)
    with results_folder(options.out, f"tune-{options.run.name}") as folder:
        with name_options(options):
            grid = options.grid
            cells, weights, machine = _run(options, grid, trained)
        best = cheapest(cells, options.wanted)
        text = [_legend(options, grid, weights), _recommendation(options, cells, best)]
        try:
            table(HEAD, _table_rows(cells))
            echo("\n" + "\n\n".join(text))
        finally:  # also if the reader of standard output has exited
            with report_full_disk(folder):
                report = [f"# {options.run.name}", markdown_table(HEAD, _table_rows(cells)), *text]
                write_atomic(folder / "report.md", "\n\n".join(report) + "\n")
                write_atomic(folder / "environment.json", json.dumps(machine, indent=2) + "\n")
                write_atomic(folder / "tuning.json", _to_json(options, grid, cells, weights))
        if can_draw(options.plots):
            _draw(options, cells, weights, best, folder)
        echo(f"results in {folder}")
    return 0


def _draw(options: Tune, cells: Sequence[Cell], weights: str, best: Cell | None, folder: Path) -> None:
    title = plots.plain(f"{options.run.name}, {weights} weights: EP's gradient and BPTT's")
    path = folder / "plots" / "agreement"
    with report_failed_drawing(folder, "the results are written"):
        plots.agreement_map(cells, path, wanted=options.wanted, chosen=best, title=title)


def _legend(options: Tune, grid: Grid, weights: str) -> str:
    batches = f"{options.batches} batch{'es' * (options.batches > 1)}"
    notes = "" if isinstance(options.run.estimator, EquilibriumProp) else CONTINUAL
    notes += SWEEPS if ":async" in format_steps(options.run.estimator.free_steps) else ""
    notes += RATES if options.run.model.dynamics.spiking else ""
    return LEGEND.format(batches=batches, weights=weights, nudging=grid.nudging, notes=notes)


def _run(options: Tune, grid: Grid, trained: Path | None) -> tuple[list[Cell], str, dict[str, Any]]:
    """Return the cells, the name of the weights, and the environment.

    Raises:
        ValueError, FileNotFoundError, DataError: if the run cannot be prepared.
        CommandFailedError: if a number is not finite.
    """
    run = options.run
    session = prepare_run(run, options.device, download_progress(run.data.name))
    if trained is None:
        session.check_input_range()
    weights = load_weights(session.model, trained) if trained else INITIAL
    batches = list(islice(session.train, options.batches))
    try:
        with threads(run.threads), progress_counter(f"{run.name}, settings tried") as progress:
            return tune(session.model, batches, grid, progress), weights, environment(options.device)
    except FloatingPointError as error:
        raise CommandFailedError(f"{run.name}: {error}") from None


def _table_rows(cells: Sequence[Cell]) -> list[list[str]]:
    return [
        [
            *(f"{value:g}" for value in (c.free_steps, c.nudged_steps, c.beta, c.cost)),
            f"{c.residual:.1e}",
            *(f"{share:.1%}" for share in (c.same_sign, c.lowest)),
            f"{c.relative_error:.3g}",
            f"{c.cosine:.4f}",
        ]
        for c in cells
    ]


def _recommendation(options: Tune, cells: Sequence[Cell], best: Cell | None) -> str:
    wanted = f"{100 * options.wanted:g}%"
    if best is None:
        top = max(cells, key=lambda cell: cell.same_sign)
        return f"No setting agrees in {wanted} of the signs. The closest is {_describe(top)}."
    flags = f"--estimator.free-steps {best.free_steps} --estimator.nudged-steps {best.nudged_steps}"
    command = f"eqprop train {options.run.name}" if _is_unchanged(options.run) else "train with the same options and"
    return (
        f"Cheapest with at least {wanted} of the signs: {_describe(best)}\n"
        f"  {command} {flags} --estimator.beta {best.beta!r}"
    )


def _is_unchanged(run: Run) -> bool:
    """Whether the recipe of that name has this model, data and estimator."""
    if run.name not in RECIPES:
        return False
    own = recipe(run.name)
    same = (own.data.name, own.data.batch_size, own.model) == (run.data.name, run.data.batch_size, run.model)
    return same and own.estimator == run.estimator


def _describe(cell: Cell) -> str:
    setting = f"T = {cell.free_steps}, K = {cell.nudged_steps}, beta = {cell.beta:g}"
    return f"{setting} ({cell.cost} steps per batch, {cell.same_sign:.1%})"


def _to_json(options: Tune, grid: Grid, cells: Sequence[Cell], weights: str) -> str:
    run = replace(options.run, data=replace(options.run.data, root=None))
    found = {
        "run": json.loads(run.to_json()),
        "weights": weights,
        "batches": options.batches,
        "wanted": options.wanted,
        "nudging": grid.nudging,
        "cells": [asdict(cell) for cell in cells],
    }
    return dump_measured(found)
