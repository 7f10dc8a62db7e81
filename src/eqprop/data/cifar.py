"""The binary version of CIFAR-10 (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009).

A file is a row of records without a header. A record is 3,073 bytes: the class, from 0 to 9, and 32x32 pixels, first all
of red, then green, then blue, each row by row.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["MEAN", "SHAPE", "STD", "read_cifar", "samples"]

SHAPE = (3, 32, 32)
"""Colors, rows, columns."""

MEAN = (0.4914, 0.4822, 0.4465)
"""Of all training pixels, by color, as `eqprop.data.Normalize` takes it."""

STD = (0.2023, 0.1994, 0.2010)
"""What the literature divides by: the standard deviation within an image, averaged over training images; that of all pixels is
(0.2470, 0.2435, 0.2616). The code of Laborieux et al. (2021) divides by three times `STD`."""

RECORD = 1 + 3 * 32 * 32
CLASSES = 10


def read_cifar(content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """``(images (n, 3, 32, 32), classes (n,))`` of one file; read-only views, nothing is copied.

    Raises:
        ValueError: if the length is no multiple of a record's, or a class is above 9.

    >>> images, classes = read_cifar(bytes([7]) + bytes(3072))
    >>> images.shape, classes
    ((1, 3, 32, 32), array([7], dtype=uint8))
    """
    if not content or len(content) % RECORD:
        raise ValueError(f"a CIFAR-10 file is a whole number of records of {RECORD} bytes, got {len(content)} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    classes = records[:, 0]
    if (largest := classes.max()) >= CLASSES:
        raise ValueError(f"a class of CIFAR-10 is at most {CLASSES - 1}, got {largest} in record {classes.argmax()}")
    return records[:, 1:].reshape(-1, *SHAPE), classes


def samples(contents: Sequence[bytes]) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """`read_cifar` of every file, in order."""
    return [read_cifar(content) for content in contents]
