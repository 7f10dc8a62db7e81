"""Download files by HTTPS. Mirrors are tried in turn; a content is accepted only if its checksum is right."""

import io
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from gzip import GzipFile
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse
from socket import socket
from typing import IO, Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import (
    AbstractHTTPHandler,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    Request,
    build_opener,
)

from eqprop.data.archives import read_members
from eqprop.data.files import SLACK, DataError, Progress, check_content, gunzip, printable
from eqprop.data.sources import File, Source, is_local, is_secure
from eqprop.version import __version__

__all__ = ["download"]

T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds for a server to answer, and then for every part of ``SLOWEST * TIMEOUT`` bytes."""

SLOWEST = 1024
"""Minimum speed, in bytes per second."""

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
        timeout: seconds for a server to answer, and then for every part of ``SLOWEST * timeout`` bytes.

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
        size = source.packed.size if source.packed else sum(file.size for file in source.files)
        yield from _try_mirrors(source, source.mirrors, lambda url: _read_archive(source, wanted, body(url, size)))


def _try_mirrors(source: Source, urls: Sequence[str], use: Callable[[str], T]) -> T:
    """Return the result of `use` for the first address that does not fail."""
    failures = []
    for url in urls:
        try:
            return use(url)
        except _MirrorError as error:
            failures.append(printable(f"{url} {error}"))
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


def _read_archive(source: Source, wanted: Sequence[File], body: bytearray) -> list[tuple[File, bytes]]:
    """Read the wanted files from a ``.tar.gz``."""
    members = {f"{source.archive}/{file.name}": file for file in wanted}
    limit = sum(file.size for file in source.files) + SLACK
    found = []
    try:
        if source.packed is not None:
            check_content(body, source.packed)
        with GzipFile(fileobj=io.BytesIO(body)) as stream:
            for name, content in read_members(stream, {name: file.size for name, file in members.items()}, limit):
                check_content(content, members[name])
                found.append((members[name], content))
    except ValueError as error:
        raise _MirrorError(f"sent a damaged archive: {error}") from error
    return found


def _receive(url: str, limit: int, timeout: float, progress: Progress) -> bytearray:
    """Return what the server sends, at most `limit` bytes."""
    body, allowance = bytearray(), _Allowance(timeout, 2 * limit)
    with _connect(url, allowance) as response:
        total = response.length
        if total is not None and total > limit:
            raise _MirrorError(f"offers {total} bytes, more than the expected maximum of {limit}")
        for chunk in _chunks(response, allowance):
            body += chunk
            if len(body) > limit:
                raise _MirrorError(f"sent more than the expected maximum of {limit} bytes")
            progress(len(body), total)
    if total is not None and len(body) < total:
        raise _MirrorError(f"stopped after {len(body)} of {total} bytes")
    return body


def _connect(url: str, allowance: "_Allowance") -> HTTPResponse:
    """Send a GET request, follow redirections, and return the response."""
    request = Request(url, headers={"User-Agent": f"eqprop/{__version__}"})
    opener = build_opener(_SecureRedirectHandler, _BoundedHTTP(allowance), _BoundedHTTPS(allowance))
    try:
        return opener.open(request, timeout=allowance.timeout)
    except (OSError, HTTPException, ValueError) as error:
        raise _MirrorError(_reason(error, allowance.timeout)) from error


def _chunks(response: HTTPResponse, allowance: "_Allowance") -> Iterator[bytes]:
    """Yield the body as it arrives. Every part of `SLOWEST` bytes per second of the timeout begins a new timeout."""
    part = 0.0
    while chunk := _read_chunk(response, allowance.timeout):
        part += len(chunk)
        if part >= SLOWEST * allowance.timeout:
            part = 0.0
            allowance.renew()
        yield chunk


def _read_chunk(response: HTTPResponse, timeout: float) -> bytes:
    try:
        return response.read1(CHUNK)
    except (OSError, HTTPException, ValueError) as error:
        raise _MirrorError(_reason(error, timeout)) from error


def _reason(error: Exception, timeout: float) -> str:
    """Return why a mirror failed."""
    if isinstance(error, HTTPError):
        error.close()
        return f"HTTP {error.code}"
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer for {timeout:g} s"
    return (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__


class _Allowance:
    """The time and the bytes that a server has left.

    Everything that arrives counts: status lines, headers, redirections, chunk sizes and trailers. A timeout of the socket does not
    bound them, because each byte restarts it, and `http.client` reads informational responses and trailers without end.

    Args:
        timeout: seconds for a response up to its body, and for every further part of the body.
        limit: number of bytes.
    """

    def __init__(self, timeout: float, limit: int) -> None:
        self.timeout, self._left = timeout, limit
        self.renew()

    def renew(self) -> None:
        """Begin a new timeout."""
        self._deadline, self._silent = time.monotonic() + self.timeout, True

    def remaining(self) -> float:
        """Return the seconds left, above 0; raise OSError if there are none."""
        if (seconds := self._deadline - time.monotonic()) <= 0:
            raise self.expired()
        return seconds

    def expired(self) -> OSError:
        """Return the error for the end of the time."""
        return TimeoutError() if self._silent else OSError(f"sent less than {SLOWEST} bytes a second")

    def spend(self, count: int) -> None:
        """Count bytes that arrived; raise OSError if they are too many."""
        self._left -= count
        self._silent = self._silent and not count
        if self._left < 0:
            raise OSError("sent more than the expected maximum")


class _BoundedReader(io.RawIOBase):
    """The bytes of a socket, within an allowance."""

    def __init__(self, raw: io.RawIOBase, connection: socket, allowance: _Allowance) -> None:
        self._raw, self._socket, self._allowance = raw, connection, allowance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._socket.settimeout(self._allowance.remaining())
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError as error:
            raise self._allowance.expired() from error
        self._allowance.spend(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(HTTPResponse):
    """A response that is read within an allowance, from its status line to its trailers."""

    def __init__(self, sock: socket, *args: Any, allowance: _Allowance, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        allowance.renew()
        self.fp = io.BufferedReader(_BoundedReader(self.fp.detach(), sock, allowance))


class _Bounded(AbstractHTTPHandler):
    """Open connections whose responses are read within an allowance."""

    def __init__(self, allowance: _Allowance) -> None:
        super().__init__()
        self._allowance = allowance

    def do_open(self, http_class: Any, req: Request, **options: Any) -> HTTPResponse:
        def connect(*args: Any, **kwargs: Any) -> HTTPConnection:
            connection = http_class(*args, **kwargs)
            connection.response_class = partial(_BoundedResponse, allowance=self._allowance)
            return connection

        return super().do_open(connect, req, **options)  # type: ignore[arg-type]


class _BoundedHTTP(_Bounded, HTTPHandler):
    pass


class _BoundedHTTPS(_Bounded, HTTPSHandler):
    pass


class _SecureRedirectHandler(HTTPRedirectHandler):
    """Follow redirections to HTTPS only, and none from outside to this machine or its network, whose services trust it."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if not is_secure(newurl):
            raise URLError(f"redirects to {newurl}, which is not https")
        if is_local(newurl) and not is_local(req.full_url):
            raise URLError(f"redirects to {newurl}, which is not a public address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
