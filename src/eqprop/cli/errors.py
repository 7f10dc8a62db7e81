"""What a command tells of an error, and its exit code."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

__all__ = ["Diverged", "Failed", "ReportedElsewhere", "UsageError", "failure", "unknown"]


class UsageError(ValueError):
    """The command line is not one that the command takes."""


class Failed(RuntimeError):
    """A training could not go on; the message says why and what is kept."""


class Diverged(Failed):
    """A training met a number that is not finite.

    Args:
        folder: of the run.
        reason: where in the training, and what.
        advice: what is kept and what can be done.
    """

    def __init__(self, folder: Path, reason: str, advice: str) -> None:
        super().__init__(f"{folder}: the training diverged: {reason}\n{advice}")
        self.folder, self.reason = folder, reason


class ReportedElsewhere(Exception):
    """Another process of this command tells the error.

    Args:
        code: the exit code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


LINES = 3
"""An error has at most so many."""


def failure(error: Exception) -> tuple[str, int | None]:
    """Message and exit code; no code for an error that is nobody's mistake but ours."""
    import torch

    from eqprop.data import DataError
    from eqprop.training.distributed.gloo import ProcessLostError

    if isinstance(error, Failed | ProcessLostError):
        return short(str(error)), 1
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return short(f"out of memory: {error}"), 1
    if isinstance(error, OSError) and error.filename is not None:
        return short(f"{error.filename}: {error.strerror}"), 2
    if isinstance(error, ValueError | OSError | DataError | ModuleNotFoundError):
        return short(str(error)), 2
    return "", None


def short(text: str) -> str:
    """At most three lines."""
    return "\n".join(text.splitlines()[:LINES])


def unknown(what: str, word: str, known: Sequence[str], where: str) -> UsageError:
    """The error for a word that is not among the known ones."""
    near = get_close_matches(word, known, 1)
    return UsageError(f"there is no {what} {word!r}: " + (f"did you mean {near[0]!r}?" if near else where))
