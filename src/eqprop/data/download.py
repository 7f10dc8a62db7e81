"""Download files by HTTPS. Mirrors are tried in turn; a content is accepted only if its checksum is right."""

import io
import tarfile
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from eqprop.data.files import DataError, Progress, check_content, gunzip
from eqprop.data.sources import File, Source, is_secure
from eqprop.version import __version__

__all__ = ["download"]

T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds to wait for data from a server."""

SLOWEST = 1024
"""Minimum average speed, in bytes per second, after the first `TIMEOUT` seconds."""

SLACK = 2**20
"""Bytes by which a compressed file may exceed the size of its content."""

CHUNK = 2**17


class _MirrorError(Exception):
    """A mirror failed; the next one is tried."""


def download(
    source: Source, wanted: Sequence[File], progress: Progress | None = None, timeout: float = TIMEOUT
) -> Generator[tuple[File, bytes], None, None]:
    """Download files and yield each, checked and in the form in which it is stored, as soon as it is complete.

    Args:
        source: data set; for each file its mirrors are tried in turn.
        wanted: some of its files.
        progress: called as bytes arrive; counts from 0 for every file (for an archive: once, for all files).
        timeout: seconds to wait for data from a server.

    Raises:
        DataError: if every mirror failed; the message lists the reason for each.
    """

    def body(url: str, size: int) -> bytearray:
        return _receive(url, size + SLACK, timeout, progress or (lambda done, total: None))

    if source.archive is None:
        for file in wanted:
            urls = [f"{mirror}/{file.name}.gz" for mirror in source.mirrors]
            yield file, _try_mirrors(source, urls, lambda url, file=file: _check_gzip(body(url, file.size), file))
    else:
        size = sum(file.size for file in source.files)
        yield from _try_mirrors(source, source.mirrors, lambda url: _read_members(source, wanted, body(url, size)))


def _try_mirrors(source: Source, urls: Sequence[str], use: Callable[[str], T]) -> T:
    """Return the result of `use` for the first address that does not fail."""
    failures = []
    for url in urls:
        try:
            return use(url)
        except _MirrorError as error:
            failures.append(f"{url} {error}")
    raise DataError(
        f"{source.name} could not be downloaded: {'; '.join(failures) or 'it has no mirror'}\n"
        f"try again later, or set EQPROP_DATA to a folder that holds {source.folder}/"
    )


def _check_gzip(body: bytearray, file: File) -> bytes:
    """Return a compressed file unchanged if its content is right."""
    try:
        check_content(gunzip(body, file), file)
    except ValueError as error:
        raise _MirrorError(f"sent a wrong file: {error}") from error
    return bytes(body)


def _read_members(source: Source, wanted: Sequence[File], body: bytearray) -> list[tuple[File, bytes]]:
    """Read the wanted files from a ``.tar.gz``. Only members of the expected name and size are read, none is written to disk."""
    remaining = {f"{source.archive}/{file.name}": file for file in wanted}
    limit = sum(file.size for file in source.files) + SLACK
    found = []
    try:
        with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as tar:
            while remaining and (member := tar.next()) and member.offset < limit:
                file = remaining.get(member.name)
                if file and member.isfile() and member.size == file.size and (stream := tar.extractfile(member)):
                    content = stream.read()
                    check_content(content, file)
                    found.append((remaining.pop(member.name), content))
    except (tarfile.TarError, zlib.error, OSError, EOFError, ValueError) as error:
        raise _MirrorError(f"sent a damaged archive: {error}") from error
    if remaining:
        raise _MirrorError(f"sent an archive without {', '.join(remaining)}")
    return found


def _receive(url: str, limit: int, timeout: float, progress: Progress) -> bytearray:
    """Return what the server sends, at most `limit` bytes."""
    body = bytearray()
    with _connect(url, timeout) as response:
        total = response.length
        if total is not None and total > limit:
            raise _MirrorError(f"offers {total} bytes, more than the expected maximum of {limit}")
        for chunk in _chunks(response, timeout):
            body += chunk
            if len(body) > limit:
                raise _MirrorError(f"sent more than the expected maximum of {limit} bytes")
            progress(len(body), total)
    if total is not None and len(body) < total:
        raise _MirrorError(f"stopped after {len(body)} of {total} bytes")
    return body


def _connect(url: str, timeout: float) -> HTTPResponse:
    """Send a GET request, follow redirections, and return the response."""
    request = Request(url, headers={"User-Agent": f"eqprop/{__version__}"})
    try:
        return build_opener(_SecureRedirectHandler).open(request, timeout=timeout)
    except (OSError, HTTPException, ValueError) as error:
        raise _MirrorError(_reason(error, timeout)) from error


def _chunks(response: HTTPResponse, timeout: float) -> Iterator[bytes]:
    """Yield the body as it arrives; raise if it arrives too slowly."""
    start, received = time.monotonic(), 0
    while chunk := _read_chunk(response, timeout):
        received += len(chunk)
        if received < SLOWEST * (time.monotonic() - start - timeout):
            raise _MirrorError(f"sent less than {SLOWEST} bytes a second")
        yield chunk


def _read_chunk(response: HTTPResponse, timeout: float) -> bytes:
    try:
        return response.read1(CHUNK)
    except (OSError, HTTPException, ValueError) as error:
        raise _MirrorError(_reason(error, timeout)) from error


def _reason(error: Exception, timeout: float) -> str:
    """Return one line that says why a mirror failed."""
    if isinstance(error, HTTPError):
        error.close()
        return f"HTTP {error.code}"
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer for {timeout:g} s"
    text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
    return " ".join(text.split())


class _SecureRedirectHandler(HTTPRedirectHandler):
    """Follow redirections to HTTPS only."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if not is_secure(newurl):
            raise URLError(f"redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
