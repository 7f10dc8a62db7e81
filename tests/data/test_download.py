"""A download returns the published file or raises, whatever the mirrors do. All mirrors are on 127.0.0.1."""

import gzip
import io
import tarfile
import time
import tracemalloc

import pytest

import eqprop
from eqprop.data import DataError
from eqprop.data.download import SLACK, download
from eqprop.data.sources import File, Source
from small_sets import (
    body,
    body_without_length,
    failing,
    isolate,
    redirect,
    small_cifar,
    small_mnist,
    stall,
    tar_gz,
    trickle,
)

NAME = "train-images-idx3-ubyte"


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    isolate(tmp_path, monkeypatch)


def download_all(source, wanted=None, **options) -> dict[str, bytes]:
    return {file.name: raw for file, raw in download(source, wanted or source.files, timeout=0.5, **options)}


def flipped(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def test_files_are_returned_as_stored(server):
    small = small_mnist(mirrors=[f"{server.url}/a"])
    server.serve(small, "/a")
    found = download_all(small.source)
    assert {name: gzip.decompress(raw) for name, raw in found.items()} == small.contents
    assert list(found) == list(small.contents)
    assert server.agents == [f"eqprop/{eqprop.__version__}"] * 4


def test_only_wanted_files_are_requested(server):
    small = small_mnist(mirrors=[f"{server.url}/a"])
    server.serve(small, "/a")
    assert list(download_all(small.source, [small.source.files[2]])) == ["t10k-images-idx3-ubyte"]
    assert server.asked == ["/a/t10k-images-idx3-ubyte.gz"]


PACKED = gzip.compress(small_mnist().contents[NAME])
ROUTES = {
    "404": (failing(404), "HTTP 404"),
    "500": (failing(500), "HTTP 500"),
    "truncated": (body(PACKED[:100], declared=len(PACKED)), rf"100 of {len(PACKED)} bytes|IncompleteRead\(100"),
    "truncated before it was sent": (body(PACKED[:100]), "ends early"),
    "a bit of the stream": (body(flipped(PACKED, 60)), "not a valid gzip|SHA-256"),
    "a bit of the content": (body(gzip.compress(flipped(small_mnist().contents[NAME], 500))), "SHA-256"),
    "not compressed": (body(small_mnist().contents[NAME]), "not a valid gzip"),
    "a web page": (body(b"<html>please log in</html>"), "not a valid gzip"),
    "empty": (body(b""), "ends early, after 0"),
    "another file": (body(gzip.compress(b"hello")), "must be 4720 bytes, got 5"),
    "too long when unpacked": (body(gzip.compress(bytes(10**6))), "got more than 4720"),
    "announces too much": (body(b"", declared=10**12), f"offers {10**12} bytes"),
    "sends too much": (body_without_length(bytes(4720 + SLACK + 1)), "sent more than the expected"),
    "silent": (stall(), "no answer for 0.5 s"),
    "stalls": (stall(PACKED[:100], len(PACKED)), "less than 1024 bytes a second"),
    "trickles": (trickle(0.02), "less than 1024 bytes a second"),
    "redirects to itself": (redirect(f"/bad/{NAME}.gz"), "HTTP 302"),
    "redirects away from https": (redirect("http://mirror.invalid/x.gz"), "redirects to http://mirror.invalid/x.gz"),
    "redirects to a file": (redirect("file:///etc/hostname"), "HTTP 302"),
    "no such protocol": (lambda handler: handler.wfile.write(b"hello\r\n\r\n"), "hello"),
    "hangs up": (lambda handler: None, "closed connection"),
}


@pytest.mark.parametrize("fault", ROUTES)
def test_after_a_failure_the_next_mirror_is_tried(server, fault):
    """Without a next mirror the error gives the reason."""
    small = small_mnist(mirrors=[f"{server.url}/bad", f"{server.url}/good"])
    answer, message = ROUTES[fault]
    server.serve(small, "/good")
    server.routes[f"/bad/{NAME}.gz"] = answer
    began = time.monotonic()
    assert gzip.decompress(download_all(small.source, small.source.files[:1])[NAME]) == small.contents[NAME]
    assert time.monotonic() - began < 4
    assert server.asked[0] == f"/bad/{NAME}.gz"
    assert server.asked[-1] == f"/good/{NAME}.gz"

    alone = small_mnist(mirrors=[f"{server.url}/bad"]).source
    with pytest.raises(DataError, match=message) as failure:
        download_all(alone, alone.files[:1])
    assert len(str(failure.value).splitlines()) <= 3


def test_a_decompression_bomb_needs_little_memory(server):
    """100 kB that would decompress to 100 MB."""
    small = small_mnist(mirrors=[f"{server.url}/a"])
    server.routes[f"/a/{NAME}.gz"] = body(gzip.compress(bytes(100_000_000)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="got more than 4720"):
            download_all(small.source)
        assert tracemalloc.get_traced_memory()[1] < 30 * 10**6
    finally:
        tracemalloc.stop()


def test_the_error_has_a_reason_for_every_mirror(server):
    small = small_mnist(mirrors=[f"{server.url}/a", f"{server.url}/b", "http://127.0.0.1:1/c"])
    server.routes[f"/b/{NAME}.gz"] = failing(503)
    with pytest.raises(DataError, match="mnist could not be downloaded") as failure:
        download_all(small.source)
    first, advice = str(failure.value).splitlines()
    assert f"{server.url}/a/{NAME}.gz HTTP 404" in first
    assert f"{server.url}/b/{NAME}.gz HTTP 503" in first
    assert "http://127.0.0.1:1/c" in first
    assert "refused" in first
    assert "set EQPROP_DATA to a folder that holds mnist/" in advice


def test_no_mirror_is_an_error():
    with pytest.raises(DataError, match="no mirror"):
        download_all(small_mnist().source)


def test_redirections_are_followed(server):
    small = small_mnist(mirrors=[f"{server.url}/old"])
    server.serve(small, "/new")
    server.routes[f"/old/{NAME}.gz"] = redirect(f"{server.url}/new/{NAME}.gz")
    assert gzip.decompress(download_all(small.source, small.source.files[:1])[NAME]) == small.contents[NAME]


@pytest.mark.parametrize("known", [True, False])
def test_progress_counts_to_the_total(server, known):
    small = small_mnist(mirrors=[f"{server.url}/a"])
    server.routes[f"/a/{NAME}.gz"] = (body if known else body_without_length)(PACKED)
    calls = []
    download_all(small.source, small.source.files[:1], progress=lambda done, total: calls.append((done, total)))
    assert calls == sorted(calls)
    assert calls[-1][0] == len(PACKED)
    assert {total for _, total in calls} == {len(PACKED) if known else None}


def test_an_error_in_the_progress_callback_is_raised(server):
    """It is not a failure of the mirror."""
    small = small_mnist(mirrors=[f"{server.url}/a", f"{server.url}/a"])
    server.serve(small, "/a")

    def broken(done, total):
        raise ValueError("my bar")

    with pytest.raises(ValueError, match="my bar"):
        download_all(small.source, progress=broken)
    assert len(server.asked) == 1


def archive(small, **changes) -> dict[str, bytes]:
    """The members of the published archive: the files in a folder, and a web page."""
    members = {f"cifar-10-batches-bin/{name}": raw for name, raw in small.contents.items()}
    return {"cifar-10-batches-bin/readme.html": b"<html>"} | members | changes


def test_an_archive_is_requested_once(server):
    small = small_cifar(mirrors=[f"{server.url}/c.tar.gz"])
    server.routes["/c.tar.gz"] = body(tar_gz(archive(small)))
    assert download_all(small.source) == small.contents
    assert server.asked == ["/c.tar.gz"]


def test_only_wanted_members_are_read(server):
    small = small_cifar(mirrors=[f"{server.url}/c.tar.gz"])
    members = archive(small) | {"../evil": b"x", "/etc/evil": b"x", "data_batch_1.bin": b"x"}
    server.routes["/c.tar.gz"] = body(tar_gz(dict(reversed(members.items()))))
    wanted = small.source.files[1:3]
    assert download_all(small.source, wanted) == {file.name: small.contents[file.name] for file in wanted}


def linked(small) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in small.contents:
            link = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            link.type, link.linkname, link.size = tarfile.SYMTYPE, "/etc/passwd", 2 * 3073
            tar.addfile(link)
    return packed.getvalue()


FIRST = "cifar-10-batches-bin/data_batch_1.bin"
ARCHIVES = {
    "lacks one": (lambda s: tar_gz({n: r for n, r in archive(s).items() if n != FIRST}), f"without {FIRST}"),
    "one is short": (lambda s: tar_gz(archive(s, **{FIRST: b"short"})), "must be 6146 bytes, got 5"),
    "one is long": (
        lambda s: tar_gz(archive(s, **{FIRST: bytes(6147)})),
        f"{FIRST} must hold at most 6146 bytes, got 6147",
    ),
    "one is wrong": (lambda s: tar_gz(archive(s, **{FIRST: bytes(2 * 3073)})), "SHA-256"),
    "links": (linked, f"{FIRST} is not a plain file"),
    "truncated": (lambda s: tar_gz(archive(s))[:-2000], "damaged archive"),
    "a bit": (lambda s: flipped(tar_gz(archive(s)), 20000), "damaged archive"),
    "no archive": (lambda s: b"<html>please log in</html>", "damaged archive"),
    "not compressed": (lambda s: tar_gz(archive(s), mode="w"), "damaged archive"),
    "a long way to go": (
        lambda s: tar_gz({str(n): bytes(10**6) for n in range(4)} | archive(s)),
        "larger than",
    ),
}


@pytest.mark.parametrize("fault", ARCHIVES)
def test_after_a_damaged_archive_the_next_mirror_is_tried(server, fault):
    small = small_cifar(mirrors=[f"{server.url}/bad.tar.gz", f"{server.url}/good.tar.gz"])
    make, message = ARCHIVES[fault]
    server.routes["/bad.tar.gz"] = body(make(small))
    server.routes["/good.tar.gz"] = body(tar_gz(archive(small)))
    assert download_all(small.source) == small.contents

    alone = small_cifar(mirrors=[f"{server.url}/bad.tar.gz"]).source
    with pytest.raises(DataError, match=message) as failure:
        download_all(alone)
    assert len(str(failure.value).splitlines()) <= 3


@pytest.mark.parametrize(
    "url", ["http://mirror.invalid/x", "ftp://mirror.invalid/x", "file:///x", "mirror", "http://127.0.0.1.invalid/"]
)
def test_a_mirror_must_use_https(url):
    with pytest.raises(ValueError, match="https://, got"):
        Source("x", (1,), (1, 1), train=(File("a", "0", 1),), mirrors=(url,))
