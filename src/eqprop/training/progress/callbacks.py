"""Who is told how a training goes: plain lines, a live bar on a terminal, TensorBoard. The run folder's metrics are apart."""

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
    """What a trainer tells of its progress; no call may change the training."""

    def on_fit_start(self, epochs: int, batches: int | None, rows: Sequence[Row]) -> None:
        """Training begins, or goes on after ``rows``: the epochs wanted, and batches an epoch if known."""
        ...

    def on_batch_end(self, epoch: int, batch: int, metrics: Metrics) -> None:
        """A batch is done. Reading the tally waits for the device: do it seldom."""
        ...

    def on_epoch_end(self, row: Row) -> None:
        """An epoch is done."""
        ...

    def on_fit_end(self) -> None:
        """Training ended, in whatever way."""
        ...


def pieces(row: Row, epochs: int) -> dict[str, str]:
    """What is said of one epoch, by name."""
    said = {"epoch": f"epoch {row['epoch']:{len(str(epochs))}d}/{epochs}"}
    for part in ("train", "validation", "test"):
        if (error := row.get(f"{part}_error")) is not None:
            said[part] = f"{part} {error:7.2%}"
        elif f"{part}_cost" in row:
            said[part] = f"{part} cost {row[f'{part}_cost']:.5f}"
    said["cost"] = f"cost {row['train_cost']:.4f}"
    if row["residual"] is not None:  # a phase was shown
        said |= {"residual": f"residual {row['residual']:.1e}", "steps": f"{row['steps']:.0f} steps"}
    if row.get("spikes_per_unit") is not None:
        said["spikes"] = f"{row['spikes_per_unit']:.3f} spikes"
    return said | {"seconds": f"{row['seconds']:.1f} s"}


def line(row: Row, epochs: int, title: str, width: int | None = None) -> str:
    """One epoch as text; in a terminal of some width without what finds no room, last things of ``SPARE`` first."""
    said = {"title": title} | pieces(row, epochs)
    for name in (*reversed(SPARE), None):
        text = "   ".join(said.values())
        if width is None or len(text) <= width or name is None:
            return text
        said.pop(name, None)
    raise AssertionError


SPARE = ("title", "seconds", "cost", "steps", "residual", "spikes")
"""What a line can do without, dearest first."""


class PlainLines:
    """One line an epoch, for files and pipes.

    Args:
        out: where the lines go.
        title: what the lines begin with.
    """

    def __init__(self, out: TextIO, title: str) -> None:
        self.out, self.title, self.epochs = out, title, 0

    def on_fit_start(self, epochs: int, batches: int | None, rows: Sequence[Row]) -> None:
        """Says where a resumed training goes on."""
        self.epochs = epochs
        if rows:
            self._say(f"{self.title}   resumes after epoch {rows[-1]['epoch']}")

    def on_batch_end(self, epoch: int, batch: int, metrics: Metrics) -> None:
        """Says nothing."""

    def on_epoch_end(self, row: Row) -> None:
        """The line."""
        self._say(line(row, self.epochs, self.title))

    def on_fit_end(self) -> None:
        """Says nothing."""

    def _say(self, text: str) -> None:
        self.out.write(f"{text}\n")
        self.out.flush()


class Pace:
    """Samples a second between two looks, whether or not an epoch ended between them."""

    def __init__(self) -> None:
        self.epoch = self.past = self.now = 0
        self.before: tuple[float, int] | None = None

    def count(self, epoch: int, samples: int) -> None:
        """So many samples of that epoch are done."""
        if epoch != self.epoch:
            self.past += self.now
        self.epoch, self.now = epoch, samples

    def look(self, time: float) -> float | None:
        """The pace since the last look, which may have been none."""
        total, before = self.past + self.now, self.before
        self.before = time, total
        return (total - before[1]) / (time - before[0]) if before and time > before[0] else None


class ProgressBar:
    """A live bar with cost, errors, residual, steps, samples a second and time left; a line an epoch above it.

    Where the terminal is narrow the last of these are left out, and nothing is cut off.

    Args:
        console: a terminal.
        title: what the bar begins with.
    """

    INTERVAL = 0.25
    """Seconds between two looks at the metrics."""

    BAR, CLOCK, GAPS, CORE = 8, 7, 3, 38
    """Cells of the shortest bar, of the time left, between the columns, and of cost, train and test error."""

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
        self.pace = Pace()
        self.said: dict[str, str] = {}

    def on_fit_start(self, epochs: int, batches: int | None, rows: Sequence[Row]) -> None:
        """Shows the bar."""
        self.epochs, self.batches = epochs, batches or 0
        self.bar.update(self.task, total=epochs * self.batches if batches else None, completed=len(rows) * self.batches)
        if rows:
            self.say(f"{self.title}   resumes after epoch {rows[-1]['epoch']}")
        self.bar.start()

    def on_batch_end(self, epoch: int, batch: int, metrics: Metrics) -> None:
        """Moves the bar, a few times a second."""
        self.pace.count(epoch, metrics.samples)
        if self.due():
            self.show(epoch, (epoch - 1) * self.batches + batch, metrics)

    def due(self) -> bool:
        """Whether it is time for another look; if so, the next one is due later."""
        now = time.monotonic()
        due = now >= self.next
        self.next = now + self.INTERVAL if due else self.next
        return due

    def show(self, epoch: int, done: int, metrics: Metrics) -> None:
        """Moves the bar to so many batches in all."""
        score = metrics.score()
        if (speed := self.pace.look(time.monotonic())) is not None:
            self.said["speed"] = f"{speed:,.0f} samples/s"
        self._tell(score.cost, score.error, score.residual, score.steps)
        self._show(epoch, done)

    def on_epoch_end(self, row: Row) -> None:
        """Puts the epoch's line above the bar, and its numbers into it."""
        self.above(row, self.title)
        self._tell(row["train_cost"], row["train_error"], row["residual"], row["steps"])
        self._show(row["epoch"], row["epoch"] * self.batches)

    def above(self, row: Row, title: str) -> None:
        """Puts the line of an epoch of that title above the bar."""
        if (error := row.get("test_error")) is not None:
            self.said["test"] = f"test {error:6.2%}"
        self.say(line(row, self.epochs, title, self.bar.console.width))

    def on_fit_end(self) -> None:
        """Takes the bar away."""
        self.bar.stop()

    def say(self, text: str) -> None:
        """Puts a line above the bar."""
        self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _tell(self, cost: float, error: float | None, residual: float | None, steps: float | None) -> None:
        self.said["cost"] = f"cost {cost:.4f}"
        if error is not None:
            self.said["train"] = f"train {error:6.2%}"
        if residual is not None:
            self.said |= {"residual": f"residual {residual:.0e}", "steps": f"{steps:.0f} steps"}

    def _show(self, epoch: int, done: int) -> None:
        """As much as fits: of the title, then of what is measured."""
        count = f"{epoch:{len(str(self.epochs))}d}/{self.epochs}"
        room = self.bar.console.width - self.BAR - self.CLOCK - self.GAPS - len(count)
        titled = room - len(self.title) - 1 >= self.CORE
        live = fitting([self.said[name] for name in LIVE if name in self.said], room - titled * (len(self.title) + 1))
        self.bar.update(
            self.task,
            description=f"{self.title} {count}" if titled else count,
            completed=done,
            live=live,
            refresh=True,
        )


LIVE = ("cost", "train", "test", "speed", "residual", "steps")
"""What the bar tells, dearest first."""


def fitting(said: Sequence[str], room: int) -> str:
    """As many of the first texts as there is room for, in one line."""
    text = ""
    for each in said:
        longer = f"{text}  {each}" if text else each
        if len(longer) > room:
            break
        text = longer
    return text


def scalars(row: Row) -> Iterator[tuple[str, float]]:
    """The numbers of a row by tag: ``test/error``; one for each element of a list, ``rate/0``, ``weight/angle/0``."""
    for name, value in row.items():
        tag = TAGS.get(name, name.replace("_", "/", 1))
        if isinstance(value, list):
            yield from ((f"{tag.removesuffix('s')}/{n}", each) for n, each in enumerate(value))
        elif isinstance(value, int | float) and name != "epoch":
            yield tag, value


TAGS = {"wound_up": "coders/wound_up", "late": "coders/late"}
"""Of what is not called PART_MEASURE."""


class TensorBoard:
    """Scalars of every epoch for TensorBoard; needs the extra ``eqprop[tensorboard]``.

    TensorBoard's writer puts the host's name into the names of its files: leave them out of what you publish.

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

    def on_fit_start(self, epochs: int, batches: int | None, rows: Sequence[Row]) -> None:
        """Opens a file; what an earlier one holds of later epochs is not shown."""
        self.writer = self._make(str(self.folder), purge_step=len(rows) + 1)

    def on_batch_end(self, epoch: int, batch: int, metrics: Metrics) -> None:
        """Writes nothing."""

    def on_epoch_end(self, row: Row) -> None:
        """Writes the row's numbers."""
        for tag, value in scalars(row):
            self.writer.add_scalar(tag, value, row["epoch"])

    def on_fit_end(self) -> None:
        """Closes the file."""
        self.writer.close()
