"""``eqprop tune RECIPE [OPTIONS]``: how EP's gradient agrees with BPTT's over a grid of T, K and beta."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import tyro

from eqprop import plots
from eqprop._core.checks import fraction, positive_int
from eqprop._core.files import write_atomic
from eqprop.cli.commands.train import LeftOut, folder_name
from eqprop.cli.console import counting, download_progress, echo, table
from eqprop.cli.devices import as_device
from eqprop.cli.errors import Failed
from eqprop.cli.options import parse, refusing
from eqprop.cli.parsers import steps_text
from eqprop.cli.targets import can_draw, first_word, new_folder, put_weights, trained_folder, vacant, writing
from eqprop.dynamics.noisy import Noisy
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import EquilibriumProp
from eqprop.papers.registry import RECIPES, recipe
from eqprop.report import markdown_table
from eqprop.spiking import Spiking
from eqprop.theorem.experiment import Experiment
from eqprop.theorem.result import INITIAL
from eqprop.theorem.tuning import Cell, Grid, cheapest, tune
from eqprop.training.config.run import Run
from eqprop.training.environment import environment
from eqprop.training.session import prepare_run, read_run, threads

__all__ = ["Tune", "main"]

HEAD = ("T", "K", "beta", "steps a batch", "residual", "same sign", "worst layer", "relative error", "cosine")
LEGEND = """\
EP's gradient against that of BPTT over all T steps, means over {batches}, {weights} weights, {nudging}.
Same sign: fraction of weights and biases; worst layer: the same where it is lowest; relative error: of the whole gradient;
residual: largest motion in the last step.{continual}"""

CONTINUAL = " The weights are at rest in the nudged phase: continual EP's own gradient is further away."


@dataclass(frozen=True)
class Tune:
    """Try a grid of T, K and beta on a few batches, without training; leave a table, a heat map and JSON in a new folder.

    Args:
        run: whose model, data and estimator.
        free_steps: values of T; half, one and two times the recipe's where left out.
        nudged_steps: values of K; likewise.
        betas: nudging strengths; a quarter, half, one and two times the recipe's where left out.
        batches: so many training batches, of the recipe's size.
        wanted: fraction of signs that are to agree; the cheapest setting that reaches it is named.
        out: folder of the results; runs/tune-RECIPE, or the next free number of it, where left out.
        device: where to compute: "cpu", "cuda" or "cuda:1".
        plots: draw the heat map (needs the extra eqprop[plot]).
    """

    run: Annotated[Run, tyro.conf.arg(name="")]
    free_steps: Sequence[int] = ()
    nudged_steps: Sequence[int] = ()
    betas: Sequence[float] = ()
    batches: int = 3
    wanted: float = 0.9
    out: Annotated[Path | None, LeftOut] = None
    device: str = "cpu"
    plots: bool = True

    def __post_init__(self) -> None:
        folder_name(self.run.name)
        positive_int("batches", self.batches)
        fraction("wanted", self.wanted)
        as_device(self.device)

    @property
    def grid(self) -> Grid:
        """What is tried.

        Raises:
            ValueError: if a value is not in its range.
        """
        own = Experiment.of_run(self.run)
        steps, nudged = own.phases
        return Grid(
            tuple(self.free_steps) or around(steps),
            tuple(self.nudged_steps) or around(nudged),
            tuple(self.betas) or strengths(own),
            own.nudging,
        )


SWEEPS = " Steps are synchronous: two of them stand for each sweep of the run's own schedule."
TWIN = " BPTT's gradient is that of the network's twin with rates, since a spike has none; EP's takes last states, not means."


def around(steps: int) -> tuple[int, ...]:
    """Half, once and twice as many."""
    return max(1, steps // 2), steps, 2 * steps


def strengths(own: Experiment) -> tuple[float, ...]:
    """A quarter, half, one and two times the strength, as far as the dynamics bear it."""
    beta, dynamics = own.estimator.beta, own.model.dynamics
    dynamics = dynamics.dynamics if isinstance(dynamics, Noisy) else dynamics
    outside = isinstance(dynamics, Prototypical) and dynamics.nudge == "outside"
    tried = [factor * beta for factor in (0.25, 0.5, 1.0, 2.0)]
    return tuple(b for b in tried if not outside or abs(b) <= max(0.6, abs(beta)))


def main(words: list[str]) -> int:
    """Try, tell, and keep."""
    name, rest = first_word(words, "tune", tuple(RECIPES))
    trained = trained_folder(name, tuple(RECIPES))
    prog, default = f"eqprop tune {name}", Tune(read_run(trained) if trained else recipe(name))
    options = parse(Tune, rest, prog, default)
    vacant(options.out)
    with refusing(Tune, prog, default):
        grid = options.grid
        cells, weights, found = tried(options, grid, trained)
    best = cheapest(cells, options.wanted)
    batches = f"{options.batches} batch{'es' * (options.batches > 1)}"
    moving = "" if isinstance(options.run.estimator, EquilibriumProp) else CONTINUAL
    moving += SWEEPS if ":async" in steps_text(options.run.estimator.free_steps) else ""
    moving += TWIN if isinstance(options.run.model.dynamics, Spiking) else ""
    legend = LEGEND.format(batches=batches, weights=weights, nudging=grid.nudging, continual=moving)
    said = [markdown_table(HEAD, rows(cells)), legend, advice(options, cells, best)]
    table(HEAD, rows(cells))
    echo("\n" + "\n\n".join(said[1:]))
    folder = new_folder(options.out, f"tune-{options.run.name}")
    with writing(folder):
        if can_draw(options.plots):
            title = f"{options.run.name}, {weights} weights: EP's gradient against BPTT's"
            plots.agreement_map(cells, folder / "plots" / "agreement", wanted=options.wanted, chosen=best, title=title)
        write_atomic(folder / "report.md", "\n\n".join([f"# {options.run.name}", *said]) + "\n")
        write_atomic(folder / "environment.json", json.dumps(found, indent=2) + "\n")
        write_atomic(folder / "tuning.json", facts(options, grid, cells, weights))
    echo(f"results in {folder}")
    return 0


def tried(options: Tune, grid: Grid, trained: Path | None) -> tuple[list[Cell], str, dict[str, Any]]:
    """The cells, the name of the weights, and what it ran on.

    Raises:
        ValueError, FileNotFoundError, DataError: if the run cannot be prepared.
        Failed: if a number is not finite.
    """
    run = options.run
    session = prepare_run(run, options.device, download_progress(run.data.name))
    weights = put_weights(session.model, trained) if trained else INITIAL
    batches = list(islice(session.train, options.batches))
    try:
        with threads(run.threads), counting(f"{run.name}, settings tried") as progress:
            return tune(session.model, batches, grid, progress), weights, environment(options.device)
    except FloatingPointError as error:
        raise Failed(f"{run.name}: {error}") from None


def rows(cells: Sequence[Cell]) -> list[list[str]]:
    """The table's."""
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


def advice(options: Tune, cells: Sequence[Cell], best: Cell | None) -> str:
    """Which setting to take."""
    wanted = f"{100 * options.wanted:g}%"
    if best is None:
        top = max(cells, key=lambda cell: cell.same_sign)
        return f"No setting agrees in {wanted} of the signs: {named(top)} comes nearest."
    words = f"--estimator.free-steps {best.free_steps} --estimator.nudged-steps {best.nudged_steps}"
    command = f"eqprop train {options.run.name}" if unchanged(options.run) else "train with the same options and"
    return (
        f"Cheapest with at least {wanted} of the signs: {named(best)}\n"
        f"  {command} {words} --estimator.beta {best.beta!r}"
    )


def unchanged(run: Run) -> bool:
    """Whether the recipe of that name trains this model on these data."""
    if run.name not in RECIPES:
        return False
    own = recipe(run.name)
    same = (own.data.name, own.data.batch_size, own.model) == (run.data.name, run.data.batch_size, run.model)
    return same and own.estimator == run.estimator


def named(cell: Cell) -> str:
    """A setting and what it comes to."""
    setting = f"T = {cell.free_steps}, K = {cell.nudged_steps}, beta = {cell.beta:g}"
    return f"{setting} ({cell.cost} steps a batch, {cell.same_sign:.1%})"


def facts(options: Tune, grid: Grid, cells: Sequence[Cell], weights: str) -> str:
    """All of it as JSON."""
    run = replace(options.run, data=replace(options.run.data, root=None))
    found = {
        "run": json.loads(run.to_json()),
        "weights": weights,
        "batches": options.batches,
        "wanted": options.wanted,
        "nudging": grid.nudging,
        "cells": [asdict(cell) for cell in cells],
    }
    return json.dumps(found, indent=2, allow_nan=False) + "\n"
