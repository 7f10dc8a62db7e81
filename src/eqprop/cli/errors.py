"""The errors of commands, and which message and exit code each error has."""

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

__all__ = [
    "DISK_ERRORS",
    "CommandFailedError",
    "ReportedElsewhereError",
    "TrainingDivergedError",
    "UsageError",
    "describe",
    "report_full_disk",
    "unknown",
]


class UsageError(ValueError):
    """The command line is not valid."""


class CommandFailedError(RuntimeError):
    """A command could not finish; the message says why and what is kept."""


class TrainingDivergedError(CommandFailedError):
    """A training met a number that is not finite.

    Args:
        folder: folder of the run.
        reason: where in the training, and which number.
        advice: what is kept and what to do.
    """

    def __init__(self, folder: Path, reason: str, advice: str) -> None:
        super().__init__(f"{folder}: the training diverged: {reason}\n{advice}")
        self.folder, self.reason = folder, reason


class ReportedElsewhereError(Exception):
    """The command failed, and another of its processes reports the error.

    Args:
        code: exit code of this process.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


MAX_LINES = 3

SMALLER = (
    "make the batch (--data.batch-size, --batch), the network (--model.sizes, --model.channels) or the number of seeds smaller, "
    "or use a machine with more memory"
)


def describe(error: Exception) -> tuple[str, int | None]:
    """Return the message and the exit code of an error; the code is None for an error that is a bug in eqprop."""
    from eqprop._core.available_memory import is_out_of_memory
    from eqprop.data import DataError
    from eqprop.training.distributed.gloo import ProcessLostError

    text, code = str(error), 2
    if isinstance(error, CommandFailedError | ProcessLostError | FloatingPointError):
        code = 1
    elif is_out_of_memory(error):
        text, code = f"out of memory: {_first_sentence(error)}\n{SMALLER}", 1
    elif isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    elif not isinstance(error, ValueError | OSError | DataError | ModuleNotFoundError):
        return "", None
    text = re.sub(r"[^\s/]{256,}", lambda word: f"{word[0][:40]}…{word[0][-20:]}", text)  # no file has such a name
    return "\n".join(text.splitlines()[:MAX_LINES]), code


def _first_sentence(error: Exception) -> str:
    """Return the part of an allocator's message that says how much it wanted."""
    found = re.search(r"[Tt]ried to allocate [\d.]+ \w+", str(error))
    return found[0].lower() if found else "an allocation failed"


def unknown(what: str, word: str, known: Sequence[str], hint: str) -> UsageError:
    """Return the error for a word that is not among the known ones; it names the nearest one, or gives the hint."""
    near = get_close_matches(word, known, 1)
    return UsageError(f"there is no {what} {word!r}: " + (f"did you mean {near[0]!r}?" if near else hint))


DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Error numbers of a disk that is full or broken."""


@contextmanager
def report_full_disk(path: Path, retry: str = "do it again in another folder", kept: str = "") -> Iterator[None]:
    """Report a full disk with what to do next.

    Args:
        path: file or folder that is written.
        retry: what to do when there is room.
        kept: what is not lost.

    Raises:
        CommandFailedError: in place of the error of the disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        advice = f"make room, then {retry}"
        text = f"{error.strerror}\n{kept}: {advice}" if kept else f"{error.strerror}: {advice}"
        raise CommandFailedError(f"{path}: {text}") from None
