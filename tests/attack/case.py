"""A case: something to do, how to repeat it, and the deadline by which it must end."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

DEADLINE, GRACE = 6.0, 20.0
"""Seconds until a case gets SIGINT, which a training answers with a checkpoint, and from then until it counts as hanging."""


class Fault(AssertionError):
    """Something that must not happen."""


@dataclass(frozen=True)
class Case:
    """One hostile use.

    Args:
        how: a command or a snippet that repeats it.
        run: does it; raises `Fault` if it ends badly.
    """

    how: str
    run: Callable[[], None]


@contextmanager
def deadline() -> Iterator[None]:
    """Interrupt what takes too long, as a user would; raise Fault if it does not even answer that."""

    def hang(number, frame):
        raise Fault("hangs: it does not answer an interrupt")

    before = signal.signal(signal.SIGALRM, hang)
    timer = threading.Timer(DEADLINE, os.kill, (os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, DEADLINE + GRACE)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def failure(case: Case) -> str | None:
    """Run a case; return what went wrong with how to repeat it, or None."""
    try:
        with deadline():
            case.run()
    except Fault as fault:
        return f"{case.how}\n    {fault}"
    except KeyboardInterrupt:
        return None  # long, and it can be stopped
    except BaseException as error:
        return f"{case.how}\n    {type(error).__name__}: {error}"
    return None
