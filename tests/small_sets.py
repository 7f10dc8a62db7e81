"""Tiny data sets in the published formats, and a local server that can misbehave in many ways."""

import gzip
import hashlib
import io
import struct
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import torch

from eqprop.data import Split, locations
from eqprop.data.formats import decode_cifar
from eqprop.data.sources import File, Source

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def isolate(tmp_path, monkeypatch):
    """Simulate a user with an empty cache on a machine without data sets."""
    for name in ("EQPROP_DATA", "EQPROP_OFFLINE", *PROXIES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(locations, "DEBIAN", tmp_path / "debian")


def secluded(tmp_path, monkeypatch):
    """Change to an empty folder of a user without data sets and without a network."""
    isolate(tmp_path, monkeypatch)
    monkeypatch.setenv("EQPROP_OFFLINE", "1")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def idx_bytes(shape: tuple[int, ...], items: bytes, kind: int = 8) -> bytes:
    """Build an IDX file."""
    return struct.pack(">BBBB", 0, 0, kind, len(shape)) + struct.pack(f">{len(shape)}I", *shape) + items


@dataclass
class Small:
    """A source, its files, and the samples that they must give."""

    source: Source
    contents: dict[str, bytes]
    images: dict[str, np.ndarray]
    classes: dict[str, np.ndarray]

    def put(self, root, *, packed=True, only=None):
        """Write the files below `root`; `only` names some of them."""
        folder = root / self.source.folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.contents if only is None else only:
            if packed and self.source.archive is None:
                (folder / f"{name}.gz").write_bytes(gzip.compress(self.contents[name]))
            else:
                (folder / name).write_bytes(self.contents[name])
        return root


def described(contents: dict[str, bytes]) -> tuple[File, ...]:
    return tuple(File(name, hashlib.sha256(raw).hexdigest(), len(raw)) for name, raw in contents.items())


def small_mnist(name="mnist", mirrors=(), debian_package=None) -> Small:
    """Build MNIST with six training and four test samples."""
    draw = np.random.default_rng(1)
    images = {part: draw.integers(0, 256, (n, 28, 28), np.uint8) for part, n in (("train", 6), ("t10k", 4))}
    classes = {part: draw.integers(0, 10, len(found), np.uint8) for part, found in images.items()}
    contents = {}
    for part in images:
        contents[f"{part}-images-idx3-ubyte"] = idx_bytes(images[part].shape, images[part].tobytes())
        contents[f"{part}-labels-idx1-ubyte"] = idx_bytes(classes[part].shape, classes[part].tobytes())
    files = described(contents)
    source = Source(
        name, (1, 28, 28), (6, 4), name, files[:2], files[2:], mirrors=tuple(mirrors), debian_package=debian_package
    )
    return Small(source, contents, images, classes)


def small_cifar(mirrors=()) -> Small:
    """Build CIFAR-10 with two samples per file."""
    draw = np.random.default_rng(2)
    names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    images = {name: draw.integers(0, 256, (2, 3, 32, 32), np.uint8) for name in names}
    classes = {name: draw.integers(0, 10, 2, np.uint8) for name in names}
    contents = {
        name: b"".join(bytes([c]) + i.tobytes() for i, c in zip(images[name], classes[name], strict=True))
        for name in names
    }
    files = described(contents)
    folder = "cifar-10/cifar-10-batches-bin"
    source = Source("cifar-10", (3, 32, 32), (10, 2), folder, files[:5], files[5:], decode_cifar, tuple(mirrors),
                    archive="cifar-10-batches-bin")  # fmt: skip
    return Small(source, contents, images, classes)


def is_test_set(split: Split, small: Small) -> bool:
    """Whether the test classes are those of a small MNIST."""
    return torch.equal(split.test[1], torch.tensor(small.classes["t10k"].tolist()))


def tree(root: Path) -> list[str]:
    """List all files below a folder."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def damage(path: Path) -> Path:
    """Change one bit of the uncompressed content."""
    raw = bytearray(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def error_lines(failure) -> list[str]:
    """The lines of an error's text, of which there are at most three."""
    found = str(failure.value).splitlines()
    assert 1 <= len(found) <= 3
    return found


def tar_gz(members: dict[str, bytes], mode="w:gz") -> bytes:
    """Pack plain files into an archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as tar:
        for name, raw in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return packed.getvalue()


Answer = Callable[["Handler"], None]


def body(raw: bytes, declared: int | None = None, status=200) -> Answer:
    """Send `raw`; `declared` is the length in the header if it is not the true one."""

    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(raw) if declared is None else declared))
        handler.end_headers()
        handler.wfile.write(raw)

    return answer


def body_without_length(raw: bytes) -> Answer:
    """Send `raw` without a Content-Length header."""

    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(raw)

    return answer


def failing(status: int) -> Answer:
    return body(b"no", status=status)


def redirect(url: str) -> Answer:
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def stall(raw: bytes = b"", declared: int = 1000) -> Answer:
    """Send `raw`, then nothing for up to five seconds."""

    def answer(handler):
        if raw:
            body(raw, declared)(handler)
            handler.wfile.flush()
        handler.server.closing.wait(5)

    return answer


def trickle(pause: float) -> Answer:
    """Send up to a hundred bytes, one per `pause` seconds."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(pause)

    return answer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.agents.append(self.headers["User-Agent"])
        self.server.routes.get(self.path, failing(404))(self)

    def log_message(self, *args):
        pass


@dataclass
class Loopback:
    """The server's answers by path, and the requests that it got."""

    url: str
    routes: dict[str, Answer]
    asked: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)

    def serve(self, small: Small, prefix: str):
        """Serve all files of a data set below `prefix`."""
        for name, raw in small.contents.items():
            self.routes[f"{prefix}/{name}.gz"] = body(gzip.compress(raw))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address):
        """Print no traceback: in many tests the client closes the connection on purpose."""


@contextmanager
def loopback() -> Iterator[Loopback]:
    with Server(("127.0.0.1", 0), Handler) as server:
        state = Loopback(f"http://127.0.0.1:{server.server_port}", {})
        server.routes, server.asked, server.agents = state.routes, state.asked, state.agents
        server.closing = threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.closing.set()
            server.shutdown()
            thread.join(5)
