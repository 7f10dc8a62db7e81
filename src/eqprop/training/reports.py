"""Who is told how a training goes: plain lines, a live bar on a terminal, TensorBoard. The run folder's metrics are apart."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from eqprop.training.folder import Row
from eqprop.training.tally import Tally

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["PlainLines", "ProgressBar", "Report", "TensorBoard"]


class Report(Protocol):
    """What a trainer tells of its progress; no call may change the training."""

    def begin(self, epochs: int, batches: int | None, rows: Sequence[Row]) -> None:
        """Training begins, or goes on after ``rows``: the epochs wanted, and batches an epoch if known."""
        ...

    def batch(self, epoch: int, batch: int, tally: Tally) -> None:
        """A batch is done. Reading the tally waits for the device: do it seldom."""
        ...

    def epoch(self, row: Row) -> None:
        """An epoch is done."""
        ...

    def end(self) -> None:
        """Training ended, in whatever way."""
        ...


def line(row: Row, epochs: int) -> str:
    """One epoch as text."""
    parts = [f"epoch {row['epoch']:{len(str(epochs))}d}/{epochs}"]
    for part in ("train", "validation", "test"):
        if (error := row.get(f"{part}_error")) is not None:
            parts.append(f"{part} {error:7.2%}")
        elif f"{part}_cost" in row:
            parts.append(f"{part} cost {row[f'{part}_cost']:.5f}")
    parts += [f"cost {row['train_cost']:.4f}", f"residual {row['residual']:.1e}", f"{row['steps']:.0f} steps"]
    return "   ".join([*parts, f"{row['seconds']:.1f} s"])


class PlainLines:
    """One line an epoch, for files and pipes.

    Args:
        out: where the lines go.
        title: what the lines begin with.
    """

    def __init__(self, out: TextIO, title: str) -> None:
        self.out, self.title, self.epochs = out, title, 0

    def begin(self, epochs: int, batches: int | None, rows: Sequence[Row]) -> None:
        """Says where a resumed training goes on."""
        self.epochs = epochs
        if rows:
            self._say(f"goes on after epoch {rows[-1]['epoch']}")

    def batch(self, epoch: int, batch: int, tally: Tally) -> None:
        """Says nothing."""

    def epoch(self, row: Row) -> None:
        """The line."""
        self._say(line(row, self.epochs))

    def end(self) -> None:
        """Says nothing."""

    def _say(self, text: str) -> None:
        self.out.write(f"{self.title}   {text}\n")
        self.out.flush()


class ProgressBar:
    """A live bar with cost, errors, residual, steps, samples a second and time left; a line an epoch above it.

    Args:
        console: a terminal.
        title: what the bar begins with.
    """

    INTERVAL = 0.25
    """Seconds between two looks at the tally."""

    def __init__(self, console: "Console", title: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.title, self.epochs, self.batches = title, 0, 0
        columns = TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[live]}")
        self.bar = Progress(*columns, TimeRemainingColumn(), console=console, auto_refresh=False, transient=True)
        self.task = self.bar.add_task(title, total=None, live="")
        self.next = 0.0
        self.test = ""
        self.before = (0.0, 0)

    def begin(self, epochs: int, batches: int | None, rows: Sequence[Row]) -> None:
        """Shows the bar."""
        self.epochs, self.batches = epochs, batches or 0
        self.bar.update(self.task, total=epochs * self.batches if batches else None, completed=len(rows) * self.batches)
        if rows:
            self.bar.console.print(f"{self.title}   goes on after epoch {rows[-1]['epoch']}", highlight=False)
        self.bar.start()

    def batch(self, epoch: int, batch: int, tally: Tally) -> None:
        """Moves the bar, a few times a second."""
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + self.INTERVAL
        score = tally.score()
        then, samples = self.before
        speed = (score.samples - samples) / (now - then) if 0 < samples < score.samples else 0.0
        self.before = now, score.samples
        error = "" if score.error is None else f"train {score.error:.2%}  "
        live = f"cost {score.cost:.4f}  {error}{self.test}residual {score.residual:.0e}  {score.steps:.0f} steps"
        live += f"  {speed:,.0f} samples/s" if speed else ""
        done = (epoch - 1) * self.batches + batch
        self.bar.update(
            self.task, description=f"{self.title} {epoch}/{self.epochs}", completed=done, live=live, refresh=True
        )

    def epoch(self, row: Row) -> None:
        """Puts the epoch's line above the bar."""
        if (error := row.get("test_error")) is not None:
            self.test = f"test {error:.2%}  "
        self.bar.console.print(f"{self.title}   {line(row, self.epochs)}", highlight=False)
        self.bar.update(self.task, completed=row["epoch"] * self.batches, refresh=True)

    def end(self) -> None:
        """Takes the bar away."""
        self.bar.stop()


class TensorBoard:
    """Scalars of every epoch for TensorBoard; needs the extra ``eqprop[tensorboard]``.

    Args:
        folder: where the event files go.

    Raises:
        ModuleNotFoundError: if tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            raise ModuleNotFoundError("TensorBoard is not installed: pip install 'eqprop[tensorboard]'") from None
        self.folder, self._make = folder, SummaryWriter
        self.writer: Any = None

    def begin(self, epochs: int, batches: int | None, rows: Sequence[Row]) -> None:
        """Opens a file; what an earlier one holds of later epochs is not shown."""
        self.writer = self._make(str(self.folder), purge_step=len(rows) + 1)

    def batch(self, epoch: int, batch: int, tally: Tally) -> None:
        """Writes nothing."""

    def epoch(self, row: Row) -> None:
        """Writes the row's numbers."""
        for name, value in row.items():
            if isinstance(value, int | float) and name != "epoch":
                self.writer.add_scalar(name.replace("_", "/", 1), value, row["epoch"])
        for n, rate in enumerate(row["rates"]):
            self.writer.add_scalar(f"rate/{n}", rate, row["epoch"])

    def end(self) -> None:
        """Closes the file."""
        self.writer.close()
