"""One bar for several trainings side by side: sums and means over all of them; the test is the last one's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eqprop.training.history import Row
from eqprop.training.metrics import Metrics
from eqprop.training.progress.callbacks import Callback, Pace, ProgressBar

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["shared_bar"]


def shared_bar(console: "Console", title: str, titles: Sequence[str]) -> list[Callback]:
    """Reports of trainings, one each, that move one bar.

    Args:
        console: a terminal.
        title: what the bar begins with.
        titles: what the lines of each training begin with.
    """
    bar, parts = ProgressBar(console, title), []
    parts.extend(Part(bar, each, parts) for each in titles)
    return parts


class Part:
    """The report of one of the trainings.

    Args:
        bar: the one of all.
        title: of this one.
        parts: the reports of all.
    """

    def __init__(self, bar: ProgressBar, title: str, parts: "list[Part]") -> None:
        self.bar, self.title, self.parts = bar, title, parts
        self.going, self.batches, self.done = False, 0, 0
        self.pace, self.metrics = Pace(), Metrics()

    def on_fit_start(self, epochs: int, batches: int | None, rows: Sequence[Row]) -> None:
        """Shows the bar, if this is the first to begin."""
        if not any(part.going for part in self.parts):
            self.bar.on_fit_start(epochs, len(self.parts) * batches if batches else None, ())
        self.going, self.batches = True, batches or 0
        self.done = len(rows) * self.batches
        if rows:
            self.bar.say(f"{self.title}   resumes after epoch {rows[-1]['epoch']}")

    def on_batch_end(self, epoch: int, batch: int, metrics: Metrics) -> None:
        """Moves the bar, a few times a second."""
        self.done, self.metrics = (epoch - 1) * self.batches + batch, metrics
        self.pace.count(epoch, metrics.samples)
        if not self.bar.due():
            return
        total, done = Metrics(metrics.sums.device), sum(part.done for part in self.parts)
        for part in self.parts:
            if part.metrics.samples:
                total.merge(part.metrics)
        self.bar.pace.count(0, sum(part.pace.past + part.pace.now for part in self.parts))
        self.bar.show(1 + (done - 1) // (len(self.parts) * self.batches or done), done, total)

    def on_epoch_end(self, row: Row) -> None:
        """Puts the epoch's line above the bar."""
        self.bar.above(row, self.title)

    def on_fit_end(self) -> None:
        """Takes the bar away, if this is the last to end."""
        self.going = False
        if not any(part.going for part in self.parts):
            self.bar.on_fit_end()
