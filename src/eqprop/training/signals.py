"""SIGINT and SIGTERM stop a training between two batches, when weights and optimizer agree; a second one stops it immediately."""

import signal
import threading
from types import FrameType

__all__ = ["SIGNALS", "Interrupted", "Interrupts"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A training was stopped by a signal, after its checkpoint was written.

    Attributes:
        signal: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


class Interrupts:
    """Context manager that records the first signal instead of raising KeyboardInterrupt.

    Python delivers signals to its main thread; in any other thread this does nothing.

    Args:
        distributed: whether several processes train together. They stop at the same batch, so a received signal is only requested
            once all have exchanged it, and later signals are ignored: a launcher forwards the signals that the terminal has
            already sent to all, and kills processes that do not end in time.

    Attributes:
        received: number of the signal that arrived, else None.
        requested: number of the signal that stops the training, else None.
    """

    def __init__(self, *, distributed: bool = False) -> None:
        self.distributed = distributed
        self.received: int | None = None
        self.requested: int | None = None
        self._handlers: dict[int, object] = {}

    def raise_if_requested(self) -> None:
        """Raise `Interrupted` if a signal is to stop the training."""
        if self.requested is not None:
            raise Interrupted(self.requested)

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._record) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if self.distributed:
            self._handlers = dict.fromkeys(SIGNALS, signal.SIG_IGN)
        else:
            self.requested = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._handlers = {}
