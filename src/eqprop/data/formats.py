r"""File formats: IDX (MNIST and its successors) and the binary version of CIFAR-10.

**IDX** (Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits"). All numbers are big-endian::

    0  0  type  rank      four bytes: the type of an item (0x08: unsigned byte) and the number of dimensions
    size                  four bytes for each dimension
    items                 in C order (the last index runs fastest), up to the end of the file

**CIFAR-10** (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009). A file is a sequence of records
without a header. A record is 3,073 bytes: the class, from 0 to 9, then 32x32 pixels, row by row, of red, green and blue in turn.

Readers return read-only views of the file's content; nothing is copied.
"""

import math
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["CIFAR_CLASSES", "CIFAR_RECORD", "CIFAR_SHAPE", "decode_cifar", "decode_idx", "read_cifar", "read_idx"]

UBYTE = 0x08
"""The IDX type code of unsigned bytes, the only one that is read."""

TYPES = {UBYTE: "unsigned byte", 0x09: "signed byte", 0x0B: "short", 0x0C: "int", 0x0D: "float", 0x0E: "double"}

MAX_RANK = 32
"""The largest number of dimensions that every version of NumPy supports."""

CIFAR_SHAPE = (3, 32, 32)
"""Shape of a CIFAR-10 image: channels, rows, columns."""

CIFAR_RECORD = 1 + math.prod(CIFAR_SHAPE)
CIFAR_CLASSES = 10


def read_idx(content: bytes, rank: int | None = None) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes.

    Args:
        content: the whole file, uncompressed.
        rank: the expected number of dimensions; None: any from 1 to 32.

    Returns:
        A read-only view of `content`.

    Raises:
        ValueError: if `content` is not an IDX file, or has another type, rank or length than expected.

    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
    array([7, 8, 9], dtype=uint8)
    """
    shape = _read_idx_shape(content)
    if rank is not None and len(shape) != rank:
        raise ValueError(f"expected an IDX file of {rank} dimension(s), got one of {len(shape)}")
    offset = 4 + 4 * len(shape)
    if (found := len(content) - offset) != math.prod(shape):
        sizes = "x".join(map(str, shape))
        raise ValueError(f"an IDX file of shape {sizes} must hold {math.prod(shape)} bytes of data, got {found}")
    return np.frombuffer(content, np.uint8, offset=offset).reshape(shape)


def _read_idx_shape(content: bytes) -> tuple[int, ...]:
    """Check the header and return the size of each dimension."""
    magic = bytes(content[:4])
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES:
        raise ValueError(f"not an IDX file: it starts with {magic.hex(' ') or 'nothing'}, not with 00 00 08")
    if magic[2] != UBYTE:
        raise ValueError(f"expected an IDX file of unsigned bytes, got type {magic[2]:#04x} ({TYPES[magic[2]]})")
    if not 1 <= (rank := magic[3]) <= MAX_RANK:
        raise ValueError(f"expected an IDX file of 1 to {MAX_RANK} dimensions, got one of {rank}")
    if len(content) < 4 + 4 * rank:
        raise ValueError(f"an IDX file of {rank} dimension(s) has a header of {4 + 4 * rank} bytes, got {len(content)}")
    return struct.unpack_from(f">{rank}I", content, 4)


def decode_idx(contents: Sequence[bytes]) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Decode a file of images and a file of classes.

    Returns:
        One pair ``(images (n, rows, columns), classes (n,))``.

    Raises:
        ValueError: if a file is not valid (see `read_idx`), or the numbers of images and classes differ.
    """
    images, classes = (read_idx(content, rank) for content, rank in zip(contents, (3, 1), strict=True))
    if len(images) != len(classes):
        raise ValueError(f"expected one class per image, got {len(images)} images and {len(classes)} classes")
    return [(images, classes)]


def read_cifar(content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read a binary CIFAR-10 file.

    Returns:
        ``(images (n, 3, 32, 32), classes (n,))``, read-only views of `content`.

    Raises:
        ValueError: if the length is not a multiple of the record size, or a class is above 9.

    >>> images, classes = read_cifar(bytes([7]) + bytes(3072))
    >>> images.shape, classes
    ((1, 3, 32, 32), array([7], dtype=uint8))
    """
    if not content or len(content) % CIFAR_RECORD:
        raise ValueError(f"a CIFAR-10 file must hold whole records of {CIFAR_RECORD} bytes, got {len(content)} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, CIFAR_RECORD)
    classes = records[:, 0]
    if (largest := classes.max()) >= CIFAR_CLASSES:
        raise ValueError(
            f"a CIFAR-10 class must be at most {CIFAR_CLASSES - 1}, got {largest} in record {classes.argmax()}"
        )
    return records[:, 1:].reshape(-1, *CIFAR_SHAPE), classes


def decode_cifar(contents: Sequence[bytes]) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Decode CIFAR-10 files, in order; one pair ``(images, classes)`` per file."""
    return [read_cifar(content) for content in contents]
