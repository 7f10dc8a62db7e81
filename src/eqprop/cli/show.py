"""How a command speaks: tables, and a bar on a terminal or lines elsewhere."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from eqprop.training.reports import PlainLines, ProgressBar, Report, TensorBoard

__all__ = ["download_progress", "markdown", "reports", "say", "table"]


def say(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def reports(title: str, folder: Path, *, tensorboard: bool) -> list[Report]:
    """Who is told of a training: this terminal or file, and TensorBoard if asked for."""
    console = Console()
    told: list[Report] = [ProgressBar(console, title) if console.is_terminal else PlainLines(sys.stdout, title)]
    return [*told, TensorBoard(folder / "tensorboard")] if tensorboard else told


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output: ruled on a terminal, Markdown elsewhere."""
    console = Console()
    if not console.is_terminal:
        return say(markdown(head, rows))
    ruled = Table(*head, header_style="bold")
    for row in rows:
        ruled.add_row(*row)
    console.print(ruled)
    return None


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its columns aligned."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]])


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
