"""No answer of a server takes for ever, fills the memory, or reaches the terminal or another service as it is."""

import gzip
import hashlib
import io
import tarfile
import time
import tracemalloc
from dataclasses import replace
from email.message import Message
from urllib.error import URLError
from urllib.request import Request

import pytest

from eqprop.data import DataError
from eqprop.data.download import SLACK, _SecureRedirectHandler, download
from eqprop.data.files import printable
from eqprop.data.sources import File, is_local
from small_sets import body, isolate, redirect, small_cifar, small_mnist, tar_gz

NAME = "train-images-idx3-ubyte"
TIMEOUT = 0.3
PACKED = gzip.compress(small_mnist().contents[NAME])


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    isolate(tmp_path, monkeypatch)


def drip(start: bytes, again: bytes, pause: float = 0.03):
    """Send `start`, then `again` after every `pause` until the client closes the connection, for 5 s at most."""

    def answer(handler):
        handler.wfile.write(start)
        until = time.monotonic() + 5
        while time.monotonic() < until:
            handler.wfile.write(again)
            handler.wfile.flush()
            time.sleep(pause)

    return answer


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = CHUNKED + f"{len(PACKED):x}\r\n".encode() + PACKED + b"\r\n0\r\n"
MOVED = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n"
ENDLESS = {
    "a status line": (b"HTTP/1.1 200 ", b"O"),
    "headers": (OK, b"X: y\r\n"),
    "one header": (OK + b"X: ", b"y"),
    "informational responses": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers of an informational response": (b"HTTP/1.1 100 Continue\r\n", b"X: y\r\n"),
    "the size of a chunk": (CHUNKED, b"0"),
    "an extension of a chunk": (CHUNKED + b"1;", b"x"),
    "small chunks": (CHUNKED, b"1\r\nx\r\n"),
    "trailers": (WHOLE, b"X: y\r\n"),
    "the body of a redirection": (MOVED + b"\r\n", b"x"),
}


def fetch_one(mirrors: list[str], timeout: float = TIMEOUT) -> bytes:
    source = small_mnist(mirrors=mirrors).source
    [(_, raw)] = download(source, source.files[:1], timeout=timeout)
    return raw


@pytest.mark.parametrize("part", ENDLESS)
def test_no_part_of_an_answer_takes_for_ever(server, part):
    """A byte now and then keeps a socket's timeout from ending."""
    server.routes[f"/bad/{NAME}.gz"] = drip(*ENDLESS[part])
    began = time.monotonic()
    with pytest.raises(DataError, match="less than 1024 bytes a second"):
        fetch_one([f"{server.url}/bad"])
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("part", ["trailers", "the body of a redirection"])
def test_no_part_of_an_answer_is_endless_at_full_speed(server, part):
    start, again = ENDLESS[part]
    server.routes[f"/bad/{NAME}.gz"] = drip(start, again * 5000, pause=0)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="more than the expected maximum"):
            fetch_one([f"{server.url}/bad"], timeout=20)
        assert tracemalloc.get_traced_memory()[1] < 12 * SLACK
    finally:
        tracemalloc.stop()


def test_a_slow_server_may_take_many_timeouts(server):
    """The least speed, not the whole duration, is limited: more than one timeout passes here."""
    parts = [PACKED[i : i + 600] for i in range(0, len(PACKED), 600)]
    assert len(parts) * 0.1 > 1.5 * 0.4

    def answer(handler):
        handler.wfile.write(OK + f"Content-Length: {len(PACKED)}\r\n\r\n".encode())
        for part in parts:
            handler.wfile.write(part)
            handler.wfile.flush()
            time.sleep(0.1)

    server.routes[f"/m/{NAME}.gz"] = answer
    assert fetch_one([f"{server.url}/m"], timeout=0.4) == PACKED


@pytest.mark.parametrize(
    "answer",
    [
        lambda handler: handler.wfile.write(b"\x1b[2J\x1b]0;owned\x07\x9b1m\r\n\r\n"),
        lambda handler: handler.wfile.write(b"HTTP/1.1 999999999 \x1b[2J\r\n\r\n"),
        lambda handler: handler.wfile.write(b"HTTP/1.1 2\x1b[31m0 OK\r\n\r\n"),
        redirect("http://mirror.invalid/\x1b[2J"),
        redirect("http://mirror.invalid/" + "x" * 50_000),
        lambda handler: handler.wfile.write(b"HTTP/1.1 \xe2\x80\xae" + b"x" * 60_000 + b"\r\n\r\n"),
    ],
)
def test_a_message_has_no_control_characters_and_is_short(server, answer):
    server.routes[f"/bad/{NAME}.gz"] = answer
    with pytest.raises(DataError) as failure:
        fetch_one([f"{server.url}/bad"])
    lines = str(failure.value).split("\n")
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert all(len(line) < 500 for line in lines)


def test_printable():
    assert printable("a\tb\r\nc \x1b[0m\u202e\udc80é") == r"a b c \x1b[0m\u202e\udc80é"
    assert printable("x" * 10, most=10) == "x" * 10
    assert printable("x" * 11, most=10) == "x" * 9 + "…"


LOCAL = ["127.0.0.1", "127.1", "2130706433", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "localhost", "a.localhost",
         "10.0.0.1", "192.168.1.1", "169.254.169.254", "[fe80::1%25eth0]"]  # fmt: skip


@pytest.mark.parametrize("host", LOCAL)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_outside_mirror_cannot_reach_local_services(scheme, host):
    """Such a redirection would send a request of the mirror's choice, with path and query, from this machine."""
    outside, target = Request("https://mirror.invalid/x"), f"{scheme}://{host}:8080/admin?delete=all"
    with pytest.raises(URLError, match=r"redirects to .*, which is not"):
        _SecureRedirectHandler().redirect_request(outside, io.BytesIO(), 302, "Found", Message(), target)
    assert is_local(target)


def test_other_redirections_are_followed():
    for url in ("https://8.8.8.8/x", "https://mirror.example/x", "https://localhost.example/x"):
        found = _SecureRedirectHandler().redirect_request(
            Request("https://mirror.invalid/x"), io.BytesIO(), 302, "", Message(), url
        )
        assert found.full_url == url


def header(kind: bytes, size: int, name="x", **fields) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(record: bytes) -> bytes:
    """A PAX header with one record ``key=value``."""
    length = len(record) + 2
    while len(raw := f"{length} ".encode() + record + b"\n") != length:
        length = len(raw)
    return header(tarfile.XHDTYPE, len(raw)) + raw.ljust(512, b"\0")


HUGE = 1_500_000_000
FIRST = "cifar-10-batches-bin/data_batch_1.bin"
HEADERS = {
    "a long name": lambda: header(tarfile.GNUTYPE_LONGNAME, HUGE),
    "a long link": lambda: header(tarfile.GNUTYPE_LONGLINK, HUGE),
    "a PAX header": lambda: header(tarfile.XHDTYPE, HUGE),
    "a global PAX header": lambda: header(tarfile.XGLTYPE, HUGE),
    "a Solaris header": lambda: header(tarfile.SOLARIS_XHDTYPE, HUGE),
    "a large member": lambda: header(tarfile.REGTYPE, HUGE),
    "a negative size": lambda: pax(b"size=-1024") + header(tarfile.REGTYPE, 0),
    "a size before the start": lambda: pax(b"size=-10240") + header(tarfile.REGTYPE, 0),
    "headers of headers": lambda: (header(tarfile.GNUTYPE_LONGNAME, 1) + b"x".ljust(512, b"\0")) * 3000,
    "headers alone": lambda: header(tarfile.REGTYPE, 0) * 2000,
    "a link to itself": lambda: header(tarfile.SYMTYPE, 0, FIRST, linkname="data_batch_1.bin"),
    "a hard link to itself": lambda: header(tarfile.LNKTYPE, 0, FIRST, linkname=FIRST),
    "a folder": lambda: header(tarfile.DIRTYPE, 0, FIRST),
    "a FIFO": lambda: header(tarfile.FIFOTYPE, 0, FIRST),
}


@pytest.mark.parametrize("part", HEADERS)
def test_a_header_of_an_archive_needs_little_memory(server, part):
    small = small_cifar(mirrors=[f"{server.url}/bad", f"{server.url}/good"])
    good = tar_gz({f"cifar-10-batches-bin/{name}": raw for name, raw in small.contents.items()})
    server.routes["/bad"] = body(gzip.compress(HEADERS[part]() + bytes(3_000_000)))
    server.routes["/good"] = body(good)
    tracemalloc.start()
    try:
        assert {file.name: raw for file, raw in download(small.source, small.source.files)} == small.contents
        assert tracemalloc.get_traced_memory()[1] < 20 * 10**6
    finally:
        tracemalloc.stop()
    alone = replace(small.source, mirrors=small.source.mirrors[:1])
    with pytest.raises(DataError, match="sent a damaged archive"):
        list(download(alone, alone.files))


def test_an_archive_is_unpacked_only_if_its_checksum_is_right(server, monkeypatch):
    small = small_cifar(mirrors=[f"{server.url}/c"])
    raw = tar_gz({f"cifar-10-batches-bin/{name}": raw for name, raw in small.contents.items()})
    server.routes["/c"] = body(raw)
    checksum = hashlib.sha256(raw).hexdigest()
    right = replace(small.source, packed=File("c.tar.gz", checksum, len(raw)))
    assert len(list(download(right, right.files))) == 6

    monkeypatch.setattr("eqprop.data.download.read_members", lambda *arguments: pytest.fail("unpacked"))
    for packed in (File("c", "0" * 64, len(raw)), File("c", checksum, len(raw) + 1)):
        with pytest.raises(DataError, match="damaged archive: its content must"):
            list(download(replace(right, packed=packed), right.files))
