"""One progress bar for several seeds: sums and means over all of them; the test error is that of the last row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eqprop.training.history import Row
from eqprop.training.metrics import Metrics
from eqprop.training.progress.callbacks import Callback, ProgressBar, Throughput

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["shared_bar"]


def shared_bar(console: "Console", title: str, titles: Sequence[str]) -> list[Callback]:
    """Return one callback per training; all update the same bar.

    Args:
        console: a terminal.
        title: start of the bar.
        titles: start of the lines of each training.
    """
    bar, parts = ProgressBar(console, title), []
    parts.extend(_SeedCallback(bar, each, parts) for each in titles)
    return parts


class _SeedCallback:
    """The callback of one training.

    Args:
        bar: the shared bar.
        title: start of its lines.
        parts: the callbacks of all trainings.
    """

    def __init__(self, bar: ProgressBar, title: str, parts: "list[_SeedCallback]") -> None:
        self.bar, self.title, self.parts = bar, title, parts
        self.running, self.batches, self.done = False, 0, 0
        self.throughput, self.metrics = Throughput(), Metrics()

    def on_fit_start(self, epochs: int, batches: int | None, rows: Sequence[Row]) -> None:
        """Show the bar when the first training starts."""
        if not any(part.running for part in self.parts):
            self.bar.on_fit_start(epochs, len(self.parts) * batches if batches else None, ())
        self.running, self.batches = True, batches or 0
        self.done = len(rows) * self.batches
        if rows:
            self.bar.print_line(f"{self.title}   resumes after epoch {rows[-1]['epoch']}")

    def on_batch_end(self, epoch: int, batch: int, metrics: Metrics) -> None:
        """Update the bar, a few times per second."""
        self.done, self.metrics = (epoch - 1) * self.batches + batch, metrics
        self.throughput.count(epoch, metrics.samples)
        if not self.bar.due():
            return
        total, done = Metrics(metrics.sums.device), sum(part.done for part in self.parts)
        for part in self.parts:
            if part.metrics.samples:
                total.merge(part.metrics)
        self.bar.throughput.count(0, sum(part.throughput.past + part.throughput.now for part in self.parts))
        self.bar.show(1 + (done - 1) // (len(self.parts) * self.batches or done), done, total)

    def on_epoch_end(self, row: Row) -> None:
        """Print the epoch's line above the bar."""
        self.bar.print_row(row, self.title)

    def on_fit_end(self) -> None:
        """Remove the bar when the last training ends."""
        self.running = False
        if not any(part.running for part in self.parts):
            self.bar.on_fit_end()
