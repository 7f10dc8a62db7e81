"""Ctrl-C and the terminate signal are obeyed between two batches, when weights and optimizer agree; a second one at once."""

import signal
import threading
from types import FrameType

__all__ = ["SIGNALS", "Interrupted", "Interrupts"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A training was stopped by a signal, after its checkpoint was written.

    Attributes:
        signal: the number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


class Interrupts:
    """A context in which the first signal is only noted. Python takes signals in its main thread: elsewhere it does nothing.

    Args:
        patient: for one process of several, which stop together or not at all. What it heard is asked of it when they have agreed,
            and more signals are ignored from the first on: a launcher passes on what the terminal has sent to all, and kills what
            does not end in time.

    Attributes:
        heard: the number of the signal that came, else None.
        asked: the number of the signal that is to be obeyed, else None.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.patient = patient
        self.heard: int | None = None
        self.asked: int | None = None
        self._before: dict[int, object] = {}

    def raise_if_requested(self) -> None:
        """Raises `Interrupted` if a signal is to be obeyed."""
        if self.asked is not None:
            raise Interrupted(self.asked)

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.heard = number
        if self.patient:
            self._before = dict.fromkeys(SIGNALS, signal.SIG_IGN)
        else:
            self.asked = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}
