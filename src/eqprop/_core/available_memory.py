"""Memory that is available, refusals of work that cannot fit, and recognition of failed allocations."""

import contextlib
import os
from pathlib import Path

import torch

from eqprop._core.checks import ArgumentError

__all__ = ["available_bytes", "check_fits", "is_out_of_memory"]

_CGROUP = Path("/sys/fs/cgroup")
_FAILED = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "storage size calculation overflowed",
)
"""Parts of torch's messages, in small letters: its allocators raise a plain RuntimeError."""


def available_bytes() -> int | None:
    """Return the bytes of main memory that a process can still take, or None if the system does not say.

    This is the smallest of what the system has left, swap included, of the limit of the container, and of ``ulimit -v``.
    """
    found = [_left_in_system(), _left_in_container(), _left_in_process()]
    return min((max(0, left) for left in found if left is not None), default=None)


def check_fits(argument: str, needed: int, what: str) -> None:
    """Raise ArgumentError if more bytes are needed than there are.

    Args:
        argument: the argument that decides how many are needed.
        needed: bytes of main memory.
        what: what needs them, for the message, such as "the weights".
    """
    left = available_bytes()
    if left is not None and needed > left:
        raise ArgumentError(
            argument,
            f"`{argument}` is too large: {what} need {format_bytes(needed)} of memory, and {format_bytes(left)} are available: "
            "make it smaller",
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory could not be allocated, on any device."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(part in str(error).lower() for part in _FAILED)


def format_bytes(number: int) -> str:
    """Return a number of bytes in a readable unit.

    >>> format_bytes(1_620_000_000)
    '1.6 GB'
    """
    return f"{number / 1e9:,.1f} GB" if number >= 1e8 else f"{number / 1e6:,.1f} MB"


def _left_in_system() -> int | None:
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        kilobytes = {words[0].rstrip(":"): int(words[1]) for words in lines}
        return 1024 * (kilobytes["MemAvailable"] + kilobytes.get("SwapFree", 0))
    with contextlib.suppress(
        OSError, ValueError, AttributeError
    ):  # other systems: all memory, for want of a better number
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _left_in_container() -> int | None:
    """Return what the limit of a control group leaves; the page cache of files can be reclaimed."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        cached = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        return limit - used + int(cached["inactive_file"])
    return None


def _left_in_process() -> int | None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            return limit - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return None
