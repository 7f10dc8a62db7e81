r"""The 1,797 handwritten digits of 8x8 pixels that are shipped with the package.

They are the test part, by its own writers, of "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak (1998),
UCI Machine Learning Repository, licensed under CC BY 4.0, in the copy that scikit-learn redistributes. NIST's 32x32 bitmaps
were divided into blocks of 4x4; a pixel is the number of set bits in its block, from 0 to 16.

The file has one line per sample: 64 pixels, row by row, then the class.
"""

import gzip
import hashlib
import zlib
from importlib.resources import files

import numpy as np
import torch

from eqprop.data.files import DataError
from eqprop.data.split import Split

__all__ = ["load_digits"]

LEVELS = 16
"""The largest pixel value."""

TEST_EVERY = 5
"""Samples 0, 5, 10, ... are the test set."""

SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
"""Checksum of the uncompressed file."""


def load_digits() -> Split:
    """Load the digits: 1,437 training and 360 test samples (every fifth, starting with the first), in a fixed order.

    Returns:
        ``(train, test)``, each ``(x, y)``: pixels ``(n, 64)`` float32 from 0 to 1, classes ``(n,)`` int64 from 0 to 9.

    Raises:
        DataError: if the file is missing or damaged.

    >>> (x, y), test = load_digits()
    >>> x.shape, y.shape, len(test[1])
    (torch.Size([1437, 64]), torch.Size([1437]), 360)
    """
    table = np.loadtxt(_read_table().splitlines(), delimiter=",", dtype=np.int64)
    x = torch.from_numpy(table[:, :-1]).float() / LEVELS
    y = torch.from_numpy(table[:, -1].copy())
    is_test = torch.arange(len(y)) % TEST_EVERY == 0
    return Split(train=(x[~is_test], y[~is_test]), test=(x[is_test], y[is_test]))


def _read_table() -> str:
    """Return the file's text after checking its checksum."""
    try:
        raw = gzip.decompress(files("eqprop.data").joinpath("digits.csv.gz").read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"the digits cannot be read ({error}): reinstall eqprop") from error
    if (found := hashlib.sha256(raw).hexdigest()) != SHA256:
        raise DataError(f"the digits are damaged (SHA-256 {found[:12]}…, not {SHA256[:12]}…): reinstall eqprop")
    return raw.decode("ascii")
