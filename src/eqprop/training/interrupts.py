"""Ctrl-C and the terminate signal are obeyed between two batches, when weights and optimiser agree; a second one at once."""

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

__all__ = ["Interrupted", "Interrupts"]

T = TypeVar("T")

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

    Attributes:
        asked: the number of the signal that came, else None.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._before: dict[int, object] = {}

    def obey(self) -> None:
        """Raises `Interrupted` if a signal came."""
        if self.asked is not None:
            raise Interrupted(self.asked)

    def watch(self, items: Iterable[T]) -> Iterator[T]:
        """The items, until a signal came: raises `Interrupted` then."""
        for item in items:
            self.obey()
            yield item

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}
