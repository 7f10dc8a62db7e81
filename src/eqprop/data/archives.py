"""Read chosen members of tar archives of unknown origin. Nothing is written to disk, and memory and time are bounded."""

import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice

__all__ = ["read_members"]

LARGEST_READ = 2**20
"""Bytes of one read. `tarfile` reads an extended header (a long name, a PAX record) at once, whatever size it claims."""

MAX_MEMBERS = 1000
"""Members that are looked at: an archive of headers alone, or one whose sizes lead back to its start, has no last one."""

CHUNK = 2**17


def read_members(stream: io.BufferedIOBase, sizes: Mapping[str, int], limit: int) -> Iterator[tuple[str, bytes]]:
    """Yield the wanted members of a tar archive as ``(name, content)``, in their order in the archive.

    Args:
        stream: the uncompressed archive, such as a `gzip.GzipFile`.
        sizes: maximum size of each wanted member, in bytes, by its name.
        limit: maximum size of the archive, in bytes.

    Raises:
        ValueError: if the archive is damaged or too large, lacks a wanted member, or has something else under its name.
    """
    remaining = dict(sizes)
    try:
        with tarfile.open(fileobj=_Bounded(stream, limit), mode="r:") as tar:
            for member in islice(tar, MAX_MEMBERS):
                if member.name in remaining:
                    yield member.name, _read_member(tar, member, remaining.pop(member.name))
                if not remaining:
                    return
    except (tarfile.TarError, zlib.error, OSError, EOFError, RecursionError, OverflowError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    raise ValueError(f"it is without {', '.join(remaining)}")


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    stream = tar.extractfile(member) if member.isreg() else None  # a link could lead anywhere, also to itself
    if stream is None:
        raise ValueError(f"{member.name} is not a plain file")
    if not 0 <= member.size <= most:
        raise ValueError(f"{member.name} must hold at most {most} bytes, got {member.size}")
    return b"".join(iter(lambda: stream.read(CHUNK), b""))


class _Bounded(io.BufferedIOBase):
    """A stream that refuses long reads and far positions, which only a damaged or malicious archive asks for."""

    def __init__(self, stream: io.BufferedIOBase, limit: int) -> None:
        self._stream, self._limit = stream, limit

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= LARGEST_READ:
            raise ValueError(f"it has a header of {size} bytes")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence != io.SEEK_SET or not 0 <= offset <= self._limit:
            raise ValueError(f"it is larger than {self._limit} bytes, or has a member of negative size")
        return self._stream.seek(offset)

    def tell(self) -> int:
        return self._stream.tell()
