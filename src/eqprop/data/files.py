"""Read and write the files of a data set: every content is checked, every write is atomic."""

import hashlib
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from eqprop._core.files import write_atomic
from eqprop.data.sources import File, Source

__all__ = [
    "SLACK",
    "DataError",
    "Progress",
    "check_content",
    "gunzip",
    "is_intact",
    "locate",
    "printable",
    "read",
    "write",
]

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called as ``progress(done, total)`` with byte counts of one file; `total` is None if the server does not report it."""


SLACK = 2**20
"""Bytes by which a compressed file may exceed the size of its content."""


class DataError(RuntimeError):
    """A data file is damaged, or cannot be downloaded, unpacked, read or written."""


def locate(source: Source, folder: Path, file: File) -> Path | None:
    """Return the path of `file` in `folder`, compressed or not; None if it is missing.

    What exists under the name but is no readable file is returned too: `read` says what is wrong with it.
    """
    return next((path for name in source.stored_names(file) if not _is_missing(path := folder / name)), None)


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # no permission, a loop of links
        return False
    return False


def read(path: Path, file: File) -> bytes:
    """Return the uncompressed content of `path` after checking its size and checksum against `file`.

    Raises:
        DataError: if the file cannot be read or is damaged.
    """
    try:
        packed = path.suffix == ".gz"
        raw = _read_bounded(path, file.size + SLACK if packed else file.size)
        content = gunzip(raw, file) if packed else raw
        check_content(content, file)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    return content


def _read_bounded(path: Path, most: int) -> bytes:
    """Return the content of a regular file of at most `most` bytes. Others are not opened: a FIFO would block for ever."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is not a regular file")
    if status.st_size > most:
        raise ValueError(f"it must have at most {most} bytes, got {status.st_size}")
    with path.open("rb") as stream:
        return stream.read(most + 1)  # at most: it may have grown, or report no size


def is_intact(path: Path, file: File) -> bool:
    """Return whether `path` can be read and has the expected content."""
    try:
        read(path, file)
    except DataError:
        return False
    return True


def gunzip(raw: bytes | bytearray, file: File) -> bytes:
    """Decompress a ``.gz`` file.

    At most one byte more than ``file.size`` is decompressed, so a malicious file cannot exhaust the memory.

    Raises:
        ValueError: if `raw` is not a valid gzip file or ends early.
    """
    stream = zlib.decompressobj(wbits=31)
    try:
        content = stream.decompress(raw, file.size + 1)
    except zlib.error as error:
        raise ValueError(f"not a valid gzip file ({error})") from error
    if len(content) <= file.size and not stream.eof:
        raise ValueError(f"the gzip file ends early, after {len(content)} of {file.size} bytes of content")
    return content


def check_content(content: bytes | bytearray, file: File) -> None:
    """Check the size and SHA-256 of an uncompressed content.

    Raises:
        ValueError: if one of them differs from that of `file`.
    """
    if len(content) != file.size:
        got = f"{len(content)}" if len(content) < file.size else f"more than {file.size}"
        raise ValueError(f"its content must be {file.size} bytes, got {got}")
    if (found := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise ValueError(f"its content must have SHA-256 {file.sha256[:12]}…, got {found[:12]}…")


def printable(text: str, most: int = 300) -> str:
    r"""Return text from outside in one line of at most `most` characters; control characters, which a terminal obeys, are escaped.

    >>> printable("HTTP/1.1 200 \x1b[2J")
    'HTTP/1.1 200 \\x1b[2J'
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def write(path: Path, content: bytes) -> None:
    """Write a file atomically and create its folder: after a crash the old or the new content is there.

    Raises:
        DataError: if the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}\nfree some space, or set EQPROP_DATA to another folder"
        ) from error
