"""Files that are whole or absent: written beside their place, forced to the disk, and moved there in one step."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

__all__ = ["DamagedError", "append_line", "write_atomic"]


class DamagedError(ValueError):
    """A file is not what was written."""


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace ``path`` by ``content``; a reader, or a kill at any moment, meets the old file or the new one.

    Raises:
        OSError: if the folder cannot be written to or the disk is full; the old file is still there then.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with beside.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # the user's, not the draft's
        raise


def append_line(path: Path, line: str) -> None:
    """Add a line and force it to the disk.

    Raises:
        OSError: if the file cannot be written to or the disk is full; part of the line may be there then.
    """
    with path.open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
