r"""IDX, the format of MNIST and of its successors (Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits").

All numbers are big-endian::

    0  0  type  rank      four bytes: the type of an item (0x08: unsigned byte), the number of dimensions
    size                  four bytes, once for every dimension
    items                 the last index runs fastest; nothing follows
"""

import math
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_idx", "samples"]

UBYTE = 0x08
TYPES = {UBYTE: "unsigned byte", 0x09: "signed byte", 0x0B: "short", 0x0C: "int", 0x0D: "float", 0x0E: "double"}
"""The published types; only the first is read."""

MAX_RANK = 32
"""What every version of NumPy can hold."""


def read_idx(content: bytes, rank: int | None = None) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes as an array; a read-only view, nothing is copied.

    Args:
        content: the whole file, uncompressed.
        rank: the number of dimensions that it must have; None: any from 1 to 32.

    Raises:
        ValueError: if it is no IDX file, or one of another type or rank, or too short, or too long.

    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
    array([7, 8, 9], dtype=uint8)
    """
    sizes = header(content)
    if rank is not None and len(sizes) != rank:
        raise ValueError(f"an IDX file of {rank} dimension(s) was expected, got one of {len(sizes)}")
    offset = 4 + 4 * len(sizes)
    if (found := len(content) - offset) != math.prod(sizes):
        shape = "x".join(map(str, sizes))
        raise ValueError(f"an IDX file of {shape} must hold {math.prod(sizes)} bytes of data, got {found}")
    return np.frombuffer(content, np.uint8, offset=offset).reshape(sizes)


def header(content: bytes) -> tuple[int, ...]:
    """The size of every dimension, after a check of all that comes before."""
    magic = bytes(content[:4])
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES:
        raise ValueError(f"not an IDX file: it starts with {magic.hex(' ') or 'nothing'}, not with 00 00 08")
    if magic[2] != UBYTE:
        raise ValueError(f"an IDX file of unsigned bytes was expected, got type {magic[2]:#04x} ({TYPES[magic[2]]})")
    if not 1 <= (rank := magic[3]) <= MAX_RANK:
        raise ValueError(f"an IDX file of 1 to {MAX_RANK} dimensions was expected, got one of {rank}")
    if len(content) < 4 + 4 * rank:
        raise ValueError(f"an IDX file of {rank} dimension(s) starts with {4 + 4 * rank} bytes, got {len(content)}")
    return struct.unpack_from(f">{rank}I", content, 4)


def samples(contents: Sequence[bytes]) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """One file of images and one of classes: ``[(images (n, rows, columns), classes (n,))]``.

    Raises:
        ValueError: as `read_idx`, and if there are not as many classes as images.
    """
    images, classes = (read_idx(content, rank) for content, rank in zip(contents, (3, 1), strict=True))
    if len(images) != len(classes):
        raise ValueError(f"there must be one class an image, got {len(images)} images and {len(classes)} classes")
    return [(images, classes)]
