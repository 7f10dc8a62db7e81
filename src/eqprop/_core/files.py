"""Crash-safe writing of files: the content goes to a temporary file, is synced to the disk, and replaces the target in one step."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

__all__ = ["DamagedError", "append_line", "write_atomic"]


class DamagedError(ValueError):
    """A file does not have the content that was written to it."""


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace the content of ``path``. After a kill at any moment the file has either the old or the new content.

    Raises:
        OSError: if the folder is not writable or the disk is full; the old file is then unchanged.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # report the file that the caller named, not the temporary one
        raise


def append_line(path: Path, line: str) -> None:
    """Append a line and sync it to the disk.

    Raises:
        OSError: if the file is not writable or the disk is full; part of the line may have been written.
    """
    with path.open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
