r"""The 1,797 handwritten digits, 8x8 pixels of 17 grey levels, that travel with the package.

They are the test part, by writers of its own, of "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak (1998),
UCI Machine Learning Repository, licensed under CC BY 4.0, in the copy that scikit-learn redistributes. One line a sample: 64
pixels from 0 to 16, row by row, then the class.

NIST's 32x32 bitmaps were cut into blocks of 4x4; a pixel is the number of set bits of its block.
"""

import gzip
import hashlib
import zlib
from importlib.resources import files

import numpy as np
import torch

from eqprop.data.errors import DataError
from eqprop.data.split import Split

__all__ = ["load_digits"]

LEVELS = 16
"""The largest pixel."""

TEST_EVERY = 5
"""Samples 0, 5, 10, ... are the test set."""

SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
"""Of the uncompressed file."""


def load_digits() -> Split:
    """The digits: 1,437 training and 360 test samples (every fifth, from the first on), in a fixed order.

    Returns:
        ``(train, test)``, each ``(x, y)``: pixels ``(n, 64)`` float32 from 0 to 1, classes ``(n,)`` int64 from 0 to 9.

    Raises:
        DataError: if the file is missing or is not the one that was shipped.

    >>> (x, y), test = load_digits()
    >>> x.shape, y.shape, len(test[1])
    (torch.Size([1437, 64]), torch.Size([1437]), 360)
    """
    table = np.loadtxt(content().splitlines(), delimiter=",", dtype=np.int64)
    x = torch.from_numpy(table[:, :-1]).float() / LEVELS
    y = torch.from_numpy(table[:, -1].copy())
    held_out = torch.arange(len(y)) % TEST_EVERY == 0
    return Split(train=(x[~held_out], y[~held_out]), test=(x[held_out], y[held_out]))


def content() -> str:
    """The table as text, after a check that it is the one that was shipped."""
    try:
        raw = gzip.decompress(files("eqprop.data").joinpath("digits.csv.gz").read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"the digits cannot be read ({error}): install eqprop anew") from error
    if (found := hashlib.sha256(raw).hexdigest()) != SHA256:
        raise DataError(f"the digits are damaged (SHA-256 {found[:12]}…, not {SHA256[:12]}…): install eqprop anew")
    return raw.decode("ascii")
