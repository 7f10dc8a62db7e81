"""How a command speaks: tables, and a bar on a terminal or lines elsewhere."""

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

__all__ = ["counting", "download_progress", "echo", "reports", "reports_of_seeds", "table"]


def echo(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def reports(title: str, folder: Path, *, tensorboard: bool) -> list[Callback]:
    """Who is told of a training: this terminal or file, and TensorBoard if asked for."""
    console = Console()
    told: list[Callback] = [ProgressBar(console, title) if console.is_terminal else PlainLines(sys.stdout, title)]
    return [*told, TensorBoard(folder / "tensorboard")] if tensorboard else told


def reports_of_seeds(
    runs: Sequence[Run], folders: Sequence[Path], *, tensorboard: bool
) -> Mapping[Path, list[Callback]]:
    """By folder who is told of each of several trainings of one recipe: as `reports`, with one bar for all."""
    console, titles = Console(), [run.title for run in runs]
    if console.is_terminal:
        together = f"{runs[0].name}, {runs[0].method}, {len(runs)} seeds"
        told = shared_bar(console, together, titles)
    else:
        told = [PlainLines(sys.stdout, title) for title in titles]
    more = [[TensorBoard(folder / "tensorboard")] if tensorboard else [] for folder in folders]
    return {folder: [one, *others] for folder, one, others in zip(folders, told, more, strict=True)}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output: ruled on a terminal, Markdown elsewhere.

    Where a terminal is too narrow for it, it comes in several, each with the first column; nothing is ever left out.
    """
    console = Console()
    if not console.is_terminal:
        return echo(markdown_table(head, rows))
    widths = [max(cell_len(line[n]) for line in (head, *rows)) for n in range(len(head))]
    for columns in fitting(widths, console.width):
        ruled = Table(header_style="bold")
        for n in columns:
            ruled.add_column(head[n], no_wrap=n == 0, overflow="fold")
        for row in rows:
            ruled.add_row(*(Text(row[n]) for n in columns))
        console.print(ruled)
    return None


def fitting(widths: Sequence[int], room: int) -> list[list[int]]:
    """Columns of such widths put together to tables that have room; the first column is in each."""
    tables, used = [[0]], widths[0] + 4
    for n, width in enumerate(widths[1:], start=1):
        if used + width + 3 > room and len(tables[-1]) > 1:
            tables.append([0])
            used = widths[0] + 4
        tables[-1].append(n)
        used += width + 3
    return tables


@contextmanager
def counting(title: str) -> Iterator[Callable[[int, int], None]]:
    """A function to tell ``(done, total)`` to: a bar on a terminal that goes away at the end, elsewhere a line at every tenth."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield tenths(title)
        return
    with Progress(*Progress.get_default_columns(), console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def tenths(title: str) -> Callable[[int, int], None]:
    """Tells on standard error how far it is, if it takes longer than some seconds."""
    begun, last = time.monotonic(), 0

    def tell(done: int, total: int) -> None:
        nonlocal last
        tenth = done * 10 // total
        if last < tenth < 10 and time.monotonic() - begun > PATIENCE:
            sys.stderr.write(f"{title}: {done} of {total}\n")
        last = tenth

    return tell


PATIENCE = 5.0
"""Seconds that need no word."""


def download_progress(name: str) -> Callable[[int, int | None], None]:
    """Tells of a download on standard error: in place on a terminal, else at every tenth."""
    last = -1

    def tell(done: int, total: int | None) -> None:
        nonlocal last
        tenth = done * 10 // total if total else done // 10_000_000
        if tenth != last:
            last = tenth
            of = f" of {total / 1e6:.1f}" if total else ""
            sys.stderr.write(f"{name}: {done / 1e6:.1f}{of} MB\n")

    return tell
