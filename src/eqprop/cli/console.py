"""Output of commands: lines, tables, progress and the callbacks that report a training."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from eqprop.report import markdown_table
from eqprop.training.config.run import Run
from eqprop.training.progress.callbacks import Callback, PlainLines, ProgressBar, TensorBoard
from eqprop.training.progress.shared_bar import shared_bar

__all__ = ["create_callbacks", "create_seed_callbacks", "download_progress", "echo", "progress_counter", "table"]


def echo(text: str) -> None:
    """Print a line on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def create_callbacks(title: str, folder: Path, *, tensorboard: bool) -> list[Callback]:
    """Return the callbacks that report one training: a bar on a terminal, else a line an epoch; and TensorBoard if asked for."""
    console = Console()
    callbacks: list[Callback] = [ProgressBar(console, title) if console.is_terminal else PlainLines(sys.stdout, title)]
    return [*callbacks, TensorBoard(folder / "tensorboard")] if tensorboard else callbacks


def create_seed_callbacks(
    runs: Sequence[Run], folders: Sequence[Path], *, tensorboard: bool
) -> Mapping[Path, list[Callback]]:
    """Return the callbacks that report the seeds of one recipe, by folder: as `create_callbacks`, with one bar for all."""
    console, titles = Console(), [run.title for run in runs]
    if console.is_terminal:
        bars = shared_bar(console, f"{runs[0].name}, {runs[0].method}, {len(runs)} seeds", titles)
    else:
        bars = [PlainLines(sys.stdout, title) for title in titles]
    boards = [[TensorBoard(folder / "tensorboard")] if tensorboard else [] for folder in folders]
    return {folder: [bar, *board] for folder, bar, board in zip(folders, bars, boards, strict=True)}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: with lines on a terminal, Markdown elsewhere.

    On a terminal that is too narrow, the table is split into several, each with the first column; no cell is shortened.
    """
    console = Console()
    if not console.is_terminal:
        return echo(markdown_table(head, rows))
    widths = [max(cell_len(line[n]) for line in (head, *rows)) for n in range(len(head))]
    for columns in _split_columns(widths, console.width):
        grid = Table(header_style="bold")
        for n in columns:
            grid.add_column(head[n], no_wrap=n == 0, overflow="fold")
        for row in rows:
            grid.add_row(*(Text(row[n]) for n in columns))
        console.print(grid)
    return None


def _split_columns(widths: Sequence[int], room: int) -> list[list[int]]:
    """Split columns of these widths into tables no wider than ``room``; the first column is in each."""
    tables, used = [[0]], widths[0] + 4  # a table has 4 characters of border and padding, each further column 3
    for n, width in enumerate(widths[1:], start=1):
        if used + width + 3 > room and len(tables[-1]) > 1:
            tables.append([0])
            used = widths[0] + 4
        tables[-1].append(n)
        used += width + 3
    return tables


@contextmanager
def progress_counter(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of ``(done, total)``: on a terminal it moves a bar that disappears at the end, elsewhere it prints lines."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield tenths(title)
        return
    with Progress(*Progress.get_default_columns(), console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


PATIENCE = 5.0
"""Seconds for which `tenths` prints nothing."""


def tenths(title: str) -> Callable[[int, int], None]:
    """Return a function of ``(done, total)`` that prints a line on standard error at every tenth, once it takes some seconds."""
    begun, last = time.monotonic(), 0

    def report(done: int, total: int) -> None:
        nonlocal last
        tenth = done * 10 // total
        if last < tenth < 10 and time.monotonic() - begun > PATIENCE:
            sys.stderr.write(f"{title}: {done} of {total}\n")
        last = tenth

    return report


def download_progress(name: str) -> Callable[[int, int | None], None]:
    """Return a function of ``(done, total)`` in bytes that reports a download on standard error, a line at every tenth."""
    last = -1

    def report(done: int, total: int | None) -> None:
        nonlocal last
        tenth = done * 10 // total if total else done // 10_000_000
        if tenth != last:
            last = tenth
            of = f" of {total / 1e6:.1f}" if total else ""
            sys.stderr.write(f"{name}: {done / 1e6:.1f}{of} MB\n")

    return report
