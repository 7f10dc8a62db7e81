"""Reading and writing the files of a data set: nothing is taken unchecked, nothing is ever half written."""

import hashlib
import zlib
from pathlib import Path

from eqprop._core.files import write_atomic
from eqprop.data.errors import DataError
from eqprop.data.sources import File, Source

__all__ = ["checked", "gunzip", "locate", "read", "sound", "write"]


def locate(source: Source, folder: Path, file: File) -> Path | None:
    """The file on disk, compressed or not; None if it is not there."""
    return next((path for name in source.stored(file) if (path := folder / name).is_file()), None)


def read(path: Path, file: File) -> bytes:
    """The uncompressed content of `path`, which is `file` and nothing else.

    Raises:
        DataError: if it cannot be read or is damaged.
    """
    try:
        raw = path.read_bytes()
        return checked(gunzip(raw, file) if path.suffix == ".gz" else raw, file)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error


def sound(path: Path, file: File) -> bool:
    """Whether `read` would return."""
    try:
        read(path, file)
    except DataError:
        return False
    return True


def gunzip(raw: bytes | bytearray, file: File) -> bytes:
    """What a ``.gz`` holds; never much more memory is taken than `file` needs.

    Raises:
        ValueError: if it is no gzip, a damaged one, or ends early.
    """
    stream = zlib.decompressobj(wbits=31)
    try:
        content = stream.decompress(raw, file.size + 1)
    except zlib.error as error:
        raise ValueError(f"it is no sound gzip file ({error})") from error
    if len(content) <= file.size and not stream.eof:
        raise ValueError(f"the gzip file ends early, after {len(content)} of {file.size} bytes of content")
    return content


def checked(content: bytes, file: File) -> bytes:
    """The content itself, if it is that of `file`.

    Raises:
        ValueError: if it is not.
    """
    if len(content) != file.size:
        got = f"{len(content)}" if len(content) < file.size else f"more than {file.size}"
        raise ValueError(f"its content must be {file.size} bytes, got {got}")
    if (found := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise ValueError(f"its content has SHA-256 {found[:12]}…, not {file.sha256[:12]}…")
    return content


def write(path: Path, content: bytes) -> None:
    """Put a file in place in one step: whoever looks sees the old file or the new one, also after a crash.

    Raises:
        DataError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}\nname another folder by EQPROP_DATA, or make room there"
        ) from error
