"""Where each data set comes from: files with checksums, mirrors, and Debian packages.

A checksum is the SHA-256 of a file's *uncompressed* content, so a file is checked in the same way however it was compressed.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from socket import inet_aton
from typing import TypeAlias
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from eqprop._core.checks import ArgumentError, describe_value
from eqprop.data.formats import CIFAR_SHAPE, decode_cifar, decode_idx

__all__ = [
    "CIFAR_10_MEAN",
    "CIFAR_10_STD",
    "NAMES",
    "SOURCES",
    "File",
    "Source",
    "is_local",
    "is_secure",
    "shape_of",
    "sizes",
    "source_of",
]

Decoder: TypeAlias = Callable[[Sequence[bytes]], list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]]
"""Turns the contents of some files into one or more pairs ``(images (n, ...), classes (n,))``."""

CIFAR_10_MEAN = (0.4914, 0.4822, 0.4465)
"""Mean of the training pixels of CIFAR-10 by channel, for `eqprop.data.Normalize`."""

CIFAR_10_STD = (0.2023, 0.1994, 0.2010)
"""The usual divisors of CIFAR-10 by channel: the standard deviation within an image, averaged over the training images.
The standard deviation of all pixels is (0.2470, 0.2435, 0.2616). The code of Laborieux et al. (2021) divides by three times
`CIFAR_10_STD`."""


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        name: file name without folder and without ``.gz``.
        sha256: SHA-256 of the uncompressed content, in hexadecimal digits.
        size: size of the uncompressed content, in bytes.
    """

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Source:
    """A data set and where it comes from. A source without files is shipped with the package.

    Attributes:
        name: name of the data set, as users type it.
        shape: shape of one loaded sample.
        sizes: number of training and test samples.
        folder: folder of the files, relative to a root.
        train: files of the training samples, in the order that `decode` expects.
        test: files of the test samples.
        decode: function that turns the contents of `train` or `test` into samples.
        mirrors: HTTPS addresses: a folder with one ``.gz`` per file or, if `archive` is given, the ``.tar.gz`` itself.
        archive: folder of the files inside the ``.tar.gz``; None if mirrors hold one ``.gz`` per file.
        packed: the ``.tar.gz`` itself, checked before it is unpacked; None if it is not known.
        debian_package: Debian package that installs the files in ``/usr/share/datasets``.
        image: shape of one sample as an image, if samples are loaded flat.

    Raises:
        ValueError: if a mirror does not use HTTPS (plain HTTP is allowed for 127.0.0.1).
    """

    name: str
    shape: tuple[int, ...]
    sizes: tuple[int, int]
    folder: str = ""
    train: tuple[File, ...] = ()
    test: tuple[File, ...] = ()
    decode: Decoder = decode_idx
    mirrors: tuple[str, ...] = ()
    archive: str | None = None
    packed: File | None = None
    debian_package: str | None = None
    image: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for url in self.mirrors:
            if not is_secure(url):
                raise ArgumentError("mirrors", f"each of `mirrors` must start with https://, got {url!r}")

    @property
    def files(self) -> tuple[File, ...]:
        """All files: those of the training samples, then those of the test samples."""
        return self.train + self.test

    def stored_names(self, file: File) -> tuple[str, ...]:
        """Return the names that `file` can have on disk; new files get the first."""
        return (f"{file.name}.gz", file.name) if self.archive is None else (file.name,)


def is_secure(url: str) -> bool:
    """Return whether `url` uses HTTPS, or plain HTTP to this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname == "127.0.0.1")


def is_local(url: str) -> bool:
    """Return whether `url` names this machine or its private network."""
    host = urlsplit(url).hostname or ""
    try:  # the resolver also reads short forms, such as 127.1
        address = ip_address(inet_aton(host) if ":" not in host else host.partition("%")[0])
    except (OSError, ValueError):
        return host == "localhost" or host.endswith(".localhost")
    return not address.is_global


def _idx_files(part: str, count: int, images: str, classes: str) -> tuple[File, File]:
    """Describe the files of `count` 28x28 images and of their classes; the last two arguments are checksums."""
    return (
        File(f"{part}-images-idx3-ubyte", images, 16 + 28 * 28 * count),
        File(f"{part}-labels-idx1-ubyte", classes, 8 + count),
    )


DIGITS = Source("digits", shape=(64,), sizes=(1437, 360), image=(1, 8, 8))

MNIST = Source(
    "mnist",
    shape=(1, 28, 28),
    sizes=(60_000, 10_000),
    folder="mnist",
    train=_idx_files(
        "train",
        60_000,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    test=_idx_files(
        "t10k",
        10_000,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    ),
)

FASHION = Source(
    "fashion-mnist",
    shape=(1, 28, 28),
    sizes=(60_000, 10_000),
    folder="fashion-mnist",
    train=_idx_files(
        "train",
        60_000,
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    test=_idx_files(
        "t10k",
        10_000,
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    mirrors=(
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    ),
    debian_package="dataset-fashion-mnist",
)

CIFAR_10 = Source(
    "cifar-10",
    shape=CIFAR_SHAPE,
    sizes=(50_000, 10_000),
    folder="cifar-10/cifar-10-batches-bin",
    train=(
        File("data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5", 30_730_000),
        File("data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed", 30_730_000),
        File("data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67", 30_730_000),
        File("data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48", 30_730_000),
        File("data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add", 30_730_000),
    ),
    test=(File("test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b", 30_730_000),),
    decode=decode_cifar,
    mirrors=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    archive="cifar-10-batches-bin",
    packed=File(
        "cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170_052_171
    ),
)

SOURCES = {source.name: source for source in (DIGITS, MNIST, FASHION, CIFAR_10)}

NAMES = tuple(SOURCES)
"""Names of the data sets that `load` knows."""


def source_of(name: str) -> Source:
    """Return the source of the data set called `name`.

    Raises:
        ValueError: if there is no such data set.
    """
    if isinstance(name, str) and name in SOURCES:
        return SOURCES[name]
    near = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.5) if isinstance(name, str) else []
    hint = f"did you mean {near[0]!r}? The data sets are" if near else "the data sets are"
    raise ArgumentError("name", f"`name`: no data set is called {describe_value(name)}: {hint} {', '.join(NAMES)}")


def shape_of(name: str) -> tuple[int, ...]:
    """Return the shape of one sample without loading the data set.

    Raises:
        ValueError: if there is no such data set.

    >>> shape_of("digits"), shape_of("mnist")
    ((64,), (1, 28, 28))
    """
    return source_of(name).shape


def sizes(name: str) -> tuple[int, int]:
    """Return the number of training and test samples without loading the data set.

    Raises:
        ValueError: if there is no such data set.

    >>> sizes("cifar-10")
    (50000, 10000)
    """
    return source_of(name).sizes
