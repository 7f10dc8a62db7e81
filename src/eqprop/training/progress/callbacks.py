"""Callbacks that report progress: plain lines, a progress bar on a terminal, TensorBoard."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from eqprop.training.history import Row
from eqprop.training.metrics import Metrics

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Callback", "PlainLines", "ProgressBar", "TensorBoard"]


class Callback(Protocol):
    """Interface of callbacks of a trainer; they must not change the training."""

    def on_fit_start(self, epochs: int, batches: int | None, rows: Sequence[Row]) -> None:
        """Called when training starts, or resumes after ``rows``; ``batches`` is the number per epoch, if known."""
        ...

    def on_batch_end(self, epoch: int, batch: int, metrics: Metrics) -> None:
        """Called after a batch. `Metrics.score` synchronizes with the device: do not call it for every batch."""
        ...

    def on_epoch_end(self, row: Row) -> None:
        """Called after an epoch."""
        ...

    def on_fit_end(self) -> None:
        """Called when training ends, also after an error."""
        ...


def _row_texts(row: Row, epochs: int) -> dict[str, str]:
    """Return the texts of one epoch by name."""
    said = {"epoch": f"epoch {row['epoch']:{len(str(epochs))}d}/{epochs}"}
    for part in ("train", "validation", "test"):
        if (error := row.get(f"{part}_error")) is not None:
            said[part] = f"{part} {error:7.2%}"
        elif f"{part}_cost" in row:
            said[part] = f"{part} cost {row[f'{part}_cost']:.5f}"
    said["cost"] = f"cost {row['train_cost']:.4f}"
    if row["residual"] is not None:  # the estimator reported a free phase
        said |= {"residual": f"residual {row['residual']:.1e}"}
        if row.get("nudged_residual") is not None:
            said["nudged"] = f"nudged {row['nudged_residual']:.1e}"
        said["steps"] = f"{row['steps']:.0f} steps"
    if row.get("spikes_per_unit") is not None:
        said["spikes"] = f"{row['spikes_per_unit']:.3f} spikes"
    return said | {"seconds": f"{row['seconds']:.1f} s"}


def format_row(row: Row, epochs: int, title: str, width: int | None = None) -> str:
    """Return the line of one epoch; items of `OPTIONAL`, last first, are left out until it fits into ``width`` characters."""
    said = {"title": title} | _row_texts(row, epochs)
    for name in (*reversed(OPTIONAL), None):
        text = "   ".join(said.values())
        if width is None or len(text) <= width or name is None:
            return text
        said.pop(name, None)
    raise AssertionError


OPTIONAL = ("title", "seconds", "cost", "steps", "residual", "nudged", "spikes")
"""Items that a line may leave out, most important first."""


class PlainLines:
    """Writes one line per epoch, for files and pipes.

    Args:
        out: the stream.
        title: start of each line.
    """

    def __init__(self, out: TextIO, title: str) -> None:
        self.out, self.title, self.epochs = out, title, 0

    def on_fit_start(self, epochs: int, batches: int | None, rows: Sequence[Row]) -> None:
        """Report where a training is resumed."""
        self.epochs = epochs
        if rows:
            self._write(f"{self.title}   resumes after epoch {rows[-1]['epoch']}")

    def on_batch_end(self, epoch: int, batch: int, metrics: Metrics) -> None:
        """Do nothing."""

    def on_epoch_end(self, row: Row) -> None:
        """Write the line."""
        self._write(format_row(row, self.epochs, self.title))

    def on_fit_end(self) -> None:
        """Do nothing."""

    def _write(self, text: str) -> None:
        self.out.write(f"{text}\n")
        self.out.flush()


class Throughput:
    """Samples per second between two readings, across the ends of epochs."""

    def __init__(self) -> None:
        self.epoch = self.past = self.now = 0
        self.before: tuple[float, int] | None = None

    def count(self, epoch: int, samples: int) -> None:
        """Set the number of samples done in an epoch."""
        if epoch != self.epoch:
            self.past += self.now
        self.epoch, self.now = epoch, samples

    def read(self, time: float) -> float | None:
        """Return samples per second since the last reading; None at the first."""
        total, before = self.past + self.now, self.before
        self.before = time, total
        return (total - before[1]) / (time - before[0]) if before and time > before[0] else None


class ProgressBar:
    """Progress bar with cost, errors, samples per second, residual, steps and remaining time, and a line per epoch.

    On a narrow terminal the last items are left out; nothing is cut off.

    Args:
        console: a terminal.
        title: start of the bar.
    """

    INTERVAL = 0.25
    """Seconds between two updates."""

    BAR, CLOCK, GAPS, CORE = 8, 7, 3, 38
    """Minimal widths, in characters: the bar, the remaining time, the gaps between columns, cost with both errors."""

    def __init__(self, console: "Console", title: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        self.title, self.epochs, self.batches = title, 0, 0
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=self.BAR)),
            TextColumn("{task.fields[live]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=console,
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        self.task = self.bar.add_task(title, total=None, live="")
        self.next = 0.0
        self.throughput = Throughput()
        self.texts: dict[str, str] = {}

    def on_fit_start(self, epochs: int, batches: int | None, rows: Sequence[Row]) -> None:
        """Show the bar."""
        self.epochs, self.batches = epochs, batches or 0
        self.bar.update(self.task, total=epochs * self.batches if batches else None, completed=len(rows) * self.batches)
        if rows:
            self.print_line(f"{self.title}   resumes after epoch {rows[-1]['epoch']}")
        self.bar.start()

    def on_batch_end(self, epoch: int, batch: int, metrics: Metrics) -> None:
        """Update the bar, a few times per second."""
        self.throughput.count(epoch, metrics.samples)
        if self.due():
            self.show(epoch, (epoch - 1) * self.batches + batch, metrics)

    def due(self) -> bool:
        """Return whether an update is due, and schedule the next one if so."""
        now = time.monotonic()
        due = now >= self.next
        self.next = now + self.INTERVAL if due else self.next
        return due

    def show(self, epoch: int, done: int, metrics: Metrics) -> None:
        """Update the bar: ``done`` batches of all epochs."""
        score = metrics.score()
        if (speed := self.throughput.read(time.monotonic())) is not None:
            self.texts["speed"] = f"{speed:,.0f} samples/s"
        self._set_texts(score.cost, score.error, score.residual, score.steps)
        self._show(epoch, done)

    def on_epoch_end(self, row: Row) -> None:
        """Print the epoch's line above the bar, and update the bar."""
        self.print_row(row, self.title)
        self._set_texts(row["train_cost"], row["train_error"], row["residual"], row["steps"])
        self._show(row["epoch"], row["epoch"] * self.batches)

    def print_row(self, row: Row, title: str) -> None:
        """Print the line of an epoch above the bar."""
        if (error := row.get("test_error")) is not None:
            self.texts["test"] = f"test {error:6.2%}"
        self.print_line(format_row(row, self.epochs, title, self.bar.console.width))

    def on_fit_end(self) -> None:
        """Remove the bar."""
        self.bar.stop()

    def print_line(self, text: str) -> None:
        """Print a line above the bar."""
        self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _set_texts(self, cost: float, error: float | None, residual: float | None, steps: float | None) -> None:
        self.texts["cost"] = f"cost {cost:.4f}"
        if error is not None:
            self.texts["train"] = f"train {error:6.2%}"
        if residual is not None:
            self.texts |= {"residual": f"residual {residual:.0e}", "steps": f"{steps:.0f} steps"}

    def _show(self, epoch: int, done: int) -> None:
        """Show as much of the title, then of the metrics, as fits."""
        count = f"{epoch:{len(str(self.epochs))}d}/{self.epochs}"
        room = self.bar.console.width - self.BAR - self.CLOCK - self.GAPS - len(count)
        titled = room - len(self.title) - 1 >= self.CORE
        live = _join_fitting(
            [self.texts[name] for name in METRICS_SHOWN if name in self.texts], room - titled * (len(self.title) + 1)
        )
        self.bar.update(
            self.task,
            description=f"{self.title} {count}" if titled else count,
            completed=done,
            live=live,
            refresh=True,
        )


METRICS_SHOWN = ("cost", "train", "test", "speed", "residual", "steps")
"""Metrics in the bar, most important first."""


def _join_fitting(texts: Sequence[str], width: int) -> str:
    """Join as many of the first texts as fit into ``width`` characters."""
    text = ""
    for each in texts:
        longer = f"{text}  {each}" if text else each
        if len(longer) > width:
            break
        text = longer
    return text


def _scalars(row: Row) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a row with their tags: ``test/error``; ``rate/0``, ``weight/angle/0`` for elements of lists."""
    for name, value in row.items():
        tag = TAGS.get(name, name.replace("_", "/", 1))
        if isinstance(value, list):
            yield from ((f"{tag.removesuffix('s')}/{n}", each) for n, each in enumerate(value))
        elif isinstance(value, int | float) and name != "epoch":
            yield tag, value


TAGS = {"wound_up": "coders/wound_up", "late": "coders/late"}
"""Tags of columns whose name does not have the form PART_METRIC."""


class TensorBoard:
    """Writes the scalars of every epoch for TensorBoard; needs the extra ``eqprop[tensorboard]``.

    TensorBoard puts the host name into the names of its files: do not publish them.

    Args:
        folder: folder of the event files.

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

    def on_fit_start(self, epochs: int, batches: int | None, rows: Sequence[Row]) -> None:
        """Open a file; TensorBoard hides later epochs of earlier files."""
        self.writer = self._make(str(self.folder), purge_step=len(rows) + 1)

    def on_batch_end(self, epoch: int, batch: int, metrics: Metrics) -> None:
        """Do nothing."""

    def on_epoch_end(self, row: Row) -> None:
        """Write the row's numbers."""
        for tag, value in _scalars(row):
            self.writer.add_scalar(tag, value, row["epoch"])

    def on_fit_end(self) -> None:
        """Close the file."""
        self.writer.close()
