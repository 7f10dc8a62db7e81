"""``eqprop bench [RECIPE …] [OPTIONS]``: what training steps and free phases cost, as tables, a picture and JSON."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import tyro

from eqprop import plots
from eqprop._core.checks import positive, positive_int
from eqprop._core.files import write_atomic
from eqprop.bench.candidates import Task, phases_of
from eqprop.bench.measuring import Measured, measure
from eqprop.bench.tables import as_json, notes, setting, tables
from eqprop.cli.console import echo, progress_counter, table
from eqprop.cli.errors import CommandFailedError, report_full_disk
from eqprop.cli.options import HIDE_DEFAULT, name_options, parse
from eqprop.cli.targets import can_draw, check_vacant, new_folder
from eqprop.papers.registry import recipe
from eqprop.report import markdown_table
from eqprop.training.environment import environment

__all__ = ["Bench", "main"]

PROG = "eqprop bench"

QUICK = ("p-1h", "p-2h", "p-conv-small")
"""Recipes that are measured where none is named."""


@dataclass(frozen=True)
class Bench:
    """Time a training step by EP, continual EP, BPTT, implicit differentiation and backpropagation in a feedforward network of the
    same sizes, beside the bare products and convolutions that EP cannot avoid, in one run, in turn; and free phases by steps and
    sweeps, plain and accelerated, down to a residual. Leave tables, a picture and JSON in a new folder. Samples are random.

    Args:
        recipes: whose networks and phases; `eqprop recipes` lists them.
        batch: samples, one or more numbers; the recipe's where left out.
        threads: of the CPU, one or more numbers; the recipe's where left out.
        free_steps: another T than the recipe's.
        nudged_steps: another K than the recipe's.
        rounds: that are counted; figures are medians over them.
        residual: down to which free phases settle.
        out: folder of the results; runs/bench, or the next free number of it, where left out.
        plots: draw the picture (needs the extra eqprop[plot]).
    """

    recipes: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE ...")] = QUICK
    batch: Annotated[Sequence[int], HIDE_DEFAULT] = ()
    threads: Annotated[Sequence[int], HIDE_DEFAULT] = ()
    free_steps: Annotated[int | None, HIDE_DEFAULT] = None
    nudged_steps: Annotated[int | None, HIDE_DEFAULT] = None
    rounds: int = 5
    residual: float = 1e-4
    out: Annotated[Path | None, HIDE_DEFAULT] = None
    plots: bool = True

    def __post_init__(self) -> None:
        for name in ("batch", "threads"):
            for number in getattr(self, name):
                positive_int(name, number, **({"most": 1024} if name == "threads" else {}))
        for name in ("free_steps", "nudged_steps"):
            if (number := getattr(self, name)) is not None:
                positive_int(name, number)
        positive_int("rounds", self.rounds)
        positive("residual", self.residual)


def main(words: list[str]) -> int:
    """Measure, tell, and keep."""
    options = parse(Bench, words, PROG)
    check_vacant(options.out)
    with name_options(options):
        found = [one(task, number, options) for task, number in settings(options)]
    show(found, options)
    keep(found, options)
    return 0


def settings(options: Bench) -> list[tuple[Task, int]]:
    """What is measured, and on how many threads; no setting twice."""
    runs = [recipe(name) for name in dict.fromkeys(options.recipes)]
    return [
        (Task(run, phases_of(run, options.free_steps, options.nudged_steps), batch), number)
        for run in runs
        for batch in dict.fromkeys(options.batch or (run.data.batch_size,))
        for number in dict.fromkeys(options.threads or (run.threads,))
    ]


def one(task: Task, number: int, options: Bench) -> Measured:
    """Measure a setting.

    Raises:
        CommandFailedError: if a number is not finite.
    """
    title = f"{task.run.name}, batch {task.batch}, {number} thread{'s' * (number > 1)}"
    try:
        with progress_counter(title) as tell:
            return measure(task, number, options.rounds, options.residual, tell)
    except FloatingPointError as error:
        raise CommandFailedError(f"{title}: {error}") from None


def show(found: Sequence[Measured], options: Bench) -> None:
    """The tables, and what is not in them."""
    for legend, grid in tables(found, options.residual).items():
        table(grid.head, grid.rows)
        echo(f"{legend}\n")
    for line in notes(found):
        echo(line)


def keep(found: Sequence[Measured], options: Bench) -> None:
    """Write all of it.

    Raises:
        CommandFailedError: if the disk is full.
        OSError: if the folder cannot be made.
    """
    folder = new_folder(options.out, "bench")
    choices = {"rounds": options.rounds, "residual": options.residual}
    with report_full_disk(folder):
        parts = [f"{markdown_table(g.head, g.rows)}\n\n{text}" for text, g in tables(found, options.residual).items()]
        write_atomic(folder / "report.md", "\n\n".join(["# What it costs", *parts, *notes(found)]) + "\n")
        write_atomic(folder / "bench.json", as_json(command(options), environment(), choices, found))
        if can_draw(options.plots):
            plots.dots(panels(found, options.residual), folder / "plots" / "bench")
    echo(f"results in {folder}")


def panels(found: Sequence[Measured], residual: float) -> dict[str, dict[str, dict[str, float]]]:
    """What is drawn: time of a training step, time to the residual, memory."""
    return {
        "a training step (ms)": {setting(m): {n: t.milliseconds for n, t in m.training.items()} for m in found},
        f"free phase to {residual:g} (ms)": {
            setting(m): {n: s.milliseconds_to for n, s in m.settling.items() if s.milliseconds_to is not None}
            for m in found
        },
        "memory of a step (MiB)": {
            setting(m): {n: t.peak_bytes / 2**20 for n, t in m.training.items() if t.peak_bytes is not None}
            for m in found
        },
    }


def command(options: Bench) -> str:
    """What to type to measure again; folders are left out."""
    words = [PROG, *options.recipes]
    for field in fields(Bench):
        value = getattr(options, field.name)
        if field.name not in ("recipes", "out", "plots") and value not in (field.default, None):
            values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            words += [f"--{field.name.replace('_', '-')}", *map(str, values)]
    return " ".join(words)
