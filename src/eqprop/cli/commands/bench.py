"""``eqprop bench [RECIPE …] [OPTIONS]``: measure time and memory of training steps and free phases."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import tyro

from eqprop import plots
from eqprop._core.checks import positive, positive_int
from eqprop._core.files import write_atomic
from eqprop.bench.candidates import Task, extract_phases
from eqprop.bench.measuring import Measurement, measure
from eqprop.bench.tables import MIB, as_json, describe_setting, list_absent, make_tables
from eqprop.cli.console import echo, progress_counter, table
from eqprop.cli.errors import CommandFailedError, report_full_disk
from eqprop.cli.figures import report_failed_drawing
from eqprop.cli.options import HIDE_DEFAULT, name_options, parse
from eqprop.cli.targets import can_draw, check_vacant, results_folder
from eqprop.papers.registry import recipe
from eqprop.report import markdown_table
from eqprop.training.environment import environment

__all__ = ["Bench", "main"]

PROG = "eqprop bench"

DEFAULT_RECIPES = ("p-1h", "p-2h", "p-conv-small")
"""Quick to measure."""


@dataclass(frozen=True)
class Bench:
    """Measure time and memory of a training step by EP, continual EP, BPTT, implicit differentiation, and backpropagation in a
    feedforward network of the same size, together with the bare products and convolutions that EP cannot avoid; then free phases
    by synchronous steps and asynchronous sweeps, plain and accelerated, to a residual. All are timed in one run, in alternating
    order, on random samples. Tables, JSON and a figure are saved in a new folder.

    Args:
        recipes: recipes to measure; `eqprop recipes` lists them.
        batch: one or more batch sizes (default: the recipe's).
        threads: one or more numbers of CPU threads (default: the recipe's).
        free_steps: free steps T (default: the recipe's).
        nudged_steps: nudged steps K (default: the recipe's).
        rounds: timed rounds; times are medians over the rounds.
        residual: residual that free phases must reach.
        out: folder for the results (default: runs/bench, numbered if it exists).
        plots: draw the figure (needs the extra eqprop[plot]).
    """

    recipes: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE ...")] = DEFAULT_RECIPES
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
    """Measure all settings, print the tables and save the results; return the exit code."""
    options = parse(Bench, words, PROG)
    check_vacant(options.out)
    with name_options(options):
        settings = list_settings(options)
    with results_folder(options.out, "bench") as folder:
        with name_options(options):
            found = [_measure(task, threads, options) for task, threads in settings]
        try:
            _print_tables(found, options)
        finally:  # also if the reader of standard output has exited
            _save(found, options, folder)
    return 0


def list_settings(options: Bench) -> list[tuple[Task, int]]:
    """Return each task with its number of threads, without repetitions."""
    runs = [recipe(name) for name in dict.fromkeys(options.recipes)]
    return [
        (Task(run, extract_phases(run, options.free_steps, options.nudged_steps), batch), threads)
        for run in runs
        for batch in dict.fromkeys(options.batch or (run.data.batch_size,))
        for threads in dict.fromkeys(options.threads or (run.threads,))
    ]


def _measure(task: Task, threads: int, options: Bench) -> Measurement:
    title = f"{task.run.name}, batch {task.batch}, {threads} thread{'s' * (threads > 1)}"
    try:
        with progress_counter(title) as progress:
            return measure(task, threads, options.rounds, options.residual, progress)
    except FloatingPointError as error:
        raise CommandFailedError(f"{title}: {error}") from None


def _print_tables(found: Sequence[Measurement], options: Bench) -> None:
    for caption, grid in make_tables(found, options.residual).items():
        table(grid.head, grid.rows)
        echo(f"{caption}\n")
    for line in list_absent(found):
        echo(line)


def _save(found: Sequence[Measurement], options: Bench, folder: Path) -> None:
    choices = {"rounds": options.rounds, "residual": options.residual}
    with report_full_disk(folder):
        tables = make_tables(found, options.residual)
        parts = [f"{markdown_table(grid.head, grid.rows)}\n\n{caption}" for caption, grid in tables.items()]
        write_atomic(folder / "report.md", "\n\n".join(["# Time and memory", *parts, *list_absent(found)]) + "\n")
        write_atomic(folder / "bench.json", as_json(command(options), environment(), choices, found))
        if can_draw(options.plots):
            with report_failed_drawing(folder, "the results are written"):
                plots.dot_plot(_panels(found, options.residual), folder / "plots" / "bench")
    echo(f"results in {folder}")


def _panels(found: Sequence[Measurement], residual: float) -> dict[str, dict[str, dict[str, float]]]:
    """Return the values to draw by axis label, setting, and candidate or method."""
    return {
        "training step (ms)": {describe_setting(m): {n: t.milliseconds for n, t in m.training.items()} for m in found},
        f"free phase to {residual:g} (ms)": {
            describe_setting(m): {n: s.milliseconds_to for n, s in m.settling.items() if s.milliseconds_to is not None}
            for m in found
        },
        "memory of a training step (MiB)": {
            describe_setting(m): {n: t.peak_bytes / MIB for n, t in m.training.items() if t.peak_bytes is not None}
            for m in found
        },
    }


def command(options: Bench) -> str:
    """Return the command that repeats the measurement, without output options."""
    words = [PROG, *options.recipes]
    for field in fields(Bench):
        value = getattr(options, field.name)
        if field.name not in ("recipes", "out", "plots") and value not in (field.default, None):
            values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            words += [f"--{field.name.replace('_', '-')}", *map(str, values)]
    return " ".join(words)
