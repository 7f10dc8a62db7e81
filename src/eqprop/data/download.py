"""Downloads by HTTPS: the first mirror whose file is the published one, whatever the others send."""

import io
import tarfile
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO, TypeAlias, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from eqprop.data.errors import DataError
from eqprop.data.files import checked, gunzip
from eqprop.data.sources import File, Source, permitted
from eqprop.version import __version__

__all__ = ["Progress", "download"]

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes of one file that have come and with all that will come, or None where the server does not say."""

T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds that a server may be silent."""

SLOWEST = 1024
"""Bytes a second that a server must send on average, after its first `TIMEOUT` seconds."""

SLACK = 2**20
"""Bytes by which a compressed file may be longer than its content."""

CHUNK = 2**17


class MirrorError(Exception):
    """One mirror has failed; the next is asked."""


def download(
    source: Source, wanted: Sequence[File], progress: Progress | None = None, timeout: float = TIMEOUT
) -> Generator[tuple[File, bytes], None, None]:
    """The wanted files, each in the form in which it is stored, as soon as it has come and was found to be sound.

    Args:
        source: whose mirrors are asked in turn, for every file anew.
        wanted: some of its files.
        progress: called as bytes come; counts from 0 for every file (for an archive: once, for all files).
        timeout: seconds that a server may be silent.

    Raises:
        DataError: if every mirror failed; the text has the reason of each.
    """

    def body(url: str, size: int) -> bytearray:
        return receive(url, size + SLACK, timeout, progress or (lambda done, total: None))

    if source.archive is None:
        for file in wanted:
            urls = [f"{mirror}/{file.name}.gz" for mirror in source.mirrors]
            yield file, first(source, urls, lambda url, file=file: packed(body(url, file.size), file))
    else:
        size = sum(file.size for file in source.files)
        yield from first(source, source.mirrors, lambda url: members(source, wanted, body(url, size)))


def first(source: Source, urls: Sequence[str], take: Callable[[str], T]) -> T:
    """What `take` makes of the first address that does not fail."""
    failures = []
    for url in urls:
        try:
            return take(url)
        except MirrorError as error:
            failures.append(f"{url} {error}")
    raise DataError(
        f"{source.name} could not be downloaded: {'; '.join(failures) or 'it has no mirror'}\n"
        f"try again later, or `eqprop data fetch {source.name} --via {source.manager}`, "
        f"or name a folder that holds {source.folder}/ by EQPROP_DATA"
    )


def packed(body: bytearray, file: File) -> bytes:
    """A compressed file as it came, if its content is right."""
    try:
        checked(gunzip(body, file), file)
    except ValueError as error:
        raise MirrorError(f"sent another file, {error}") from error
    return bytes(body)


def members(source: Source, wanted: Sequence[File], body: bytearray) -> list[tuple[File, bytes]]:
    """The wanted files out of a ``.tar.gz``; only members of exactly their names and sizes are read, nothing is unpacked."""
    left = {f"{source.archive}/{file.name}": file for file in wanted}
    limit = sum(file.size for file in source.files) + SLACK
    taken = []
    try:
        with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as tar:
            while left and (member := tar.next()) and member.offset < limit:
                file = left.get(member.name)
                if file and member.isfile() and member.size == file.size and (stream := tar.extractfile(member)):
                    taken.append((left.pop(member.name), checked(stream.read(), file)))
    except (tarfile.TarError, zlib.error, OSError, EOFError, ValueError) as error:
        raise MirrorError(f"sent a damaged archive, {error}") from error
    if left:
        raise MirrorError(f"sent an archive without {', '.join(left)}")
    return taken


def receive(url: str, limit: int, timeout: float, progress: Progress) -> bytearray:
    """All that the server sends, at most `limit` bytes."""
    body = bytearray()
    with connect(url, timeout) as response:
        total = response.length
        if total is not None and total > limit:
            raise MirrorError(f"offers {total} bytes where at most {limit} were expected")
        for chunk in chunks(response, timeout):
            body += chunk
            if len(body) > limit:
                raise MirrorError(f"sent more than the {limit} bytes that were expected")
            progress(len(body), total)
    if total is not None and len(body) < total:
        raise MirrorError(f"stopped after {len(body)} of {total} bytes")
    return body


def connect(url: str, timeout: float) -> HTTPResponse:
    """The answer to a GET request, after redirections."""
    request = Request(url, headers={"User-Agent": f"eqprop/{__version__}"})
    try:
        return build_opener(Redirections).open(request, timeout=timeout)
    except (OSError, HTTPException, ValueError) as error:
        raise MirrorError(reason(error, timeout)) from error


def chunks(response: HTTPResponse, timeout: float) -> Iterator[bytes]:
    """The body, piece by piece."""
    began, received = time.monotonic(), 0
    while chunk := next_chunk(response, timeout):
        received += len(chunk)
        if received < SLOWEST * (time.monotonic() - began - timeout):
            raise MirrorError(f"sent less than {SLOWEST} bytes a second")
        yield chunk


def next_chunk(response: HTTPResponse, timeout: float) -> bytes:
    """What has come by now; nothing at the end."""
    try:
        return response.read1(CHUNK)
    except (OSError, HTTPException, ValueError) as error:
        raise MirrorError(reason(error, timeout)) from error


def reason(error: Exception, timeout: float) -> str:
    """One line on why a mirror failed."""
    if isinstance(error, HTTPError):
        error.close()
        return f"HTTP {error.code}"
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer for {timeout:g} s"
    text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
    return " ".join(text.split())


class Redirections(HTTPRedirectHandler):
    """A redirection must not leave HTTPS."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """The request to the new address, if that is permitted."""
        if not permitted(newurl):
            raise URLError(f"redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
