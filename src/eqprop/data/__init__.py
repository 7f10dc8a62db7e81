"""Data sets, one file a format. Each loader returns a `Split`: training and test samples as tensors."""

from eqprop.data.augmentation import Augment
from eqprop.data.batches import Batches, hold_out
from eqprop.data.digits import load_digits
from eqprop.data.errors import DataError
from eqprop.data.listing import Entry, survey
from eqprop.data.loading import fetch, load
from eqprop.data.normalize import Normalize
from eqprop.data.sources import NAMES, shape_of, sizes
from eqprop.data.split import Samples, Split

__all__ = [
    "NAMES",
    "Augment",
    "Batches",
    "DataError",
    "Entry",
    "Normalize",
    "Samples",
    "Split",
    "fetch",
    "hold_out",
    "load",
    "load_digits",
    "shape_of",
    "sizes",
    "survey",
]
