"""Read and write the files of a data set: every content is checked, every write is atomic."""

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from eqprop._core.files import write_atomic
from eqprop.data.sources import File, Source

__all__ = ["DataError", "Progress", "check_content", "gunzip", "is_intact", "locate", "printable", "read", "write"]

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called as ``progress(done, total)`` with byte counts of one file; `total` is None if the server does not report it."""


class DataError(RuntimeError):
    """A data file is damaged, or cannot be downloaded, unpacked, read or written."""


def locate(source: Source, folder: Path, file: File) -> Path | None:
    """Return the path of `file` in `folder`, compressed or not; None if it is missing."""
    return next((path for name in source.stored_names(file) if (path := folder / name).is_file()), None)


def read(path: Path, file: File) -> bytes:
    """Return the uncompressed content of `path` after checking its size and checksum against `file`.

    Raises:
        DataError: if the file cannot be read or is damaged.
    """
    try:
        raw = path.read_bytes()
        content = gunzip(raw, file) if path.suffix == ".gz" else raw
        check_content(content, file)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    return content


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
