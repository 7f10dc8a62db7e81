"""Files that survive a crash, and reading of files that somebody may have damaged.

Writing is atomic: the content goes to a temporary file, is synced to the disk, and replaces the target in one step.
"""

import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["DamagedError", "append_line", "check_regular", "parse_json", "read_regular", "write_atomic"]

MAX_BYTES = 2**28
"""Size of a text file above which it is not one of ours: 256 MiB."""


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


def check_regular(path: Path) -> None:
    """Check that a path is a regular file: reading a device or a pipe may never end.

    Raises:
        FileNotFoundError: if there is nothing.
        DamagedError: if it is something else.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():
        raise DamagedError(f"{path} is not a regular file: remove it, and restore the file that was there")


def read_regular(path: Path, most: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file.

    Raises:
        FileNotFoundError: if there is none.
        DamagedError: if it is no regular file, or is longer than ``most`` bytes.
    """
    check_regular(path)
    if (size := path.stat().st_size) > most:
        raise DamagedError(f"{path} has {size} bytes, more than the {most} that such a file may have: restore it")
    return path.read_bytes()


def parse_json(content: bytes | str) -> Any:
    """Return the value of JSON text that comes from a file.

    Raises:
        ValueError: if it is not JSON, is nested too deeply, or contains NaN or infinity.
    """
    try:
        return json.loads(content, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not allowed: numbers must be finite")
