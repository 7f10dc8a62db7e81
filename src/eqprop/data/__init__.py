"""Data sets as tensors: found on disk or downloaded, checked by checksum, normalized, augmented and batched."""

from eqprop.data.augmentation import Augment, Normalize
from eqprop.data.batches import Batches
from eqprop.data.digits import load_digits
from eqprop.data.files import DataError
from eqprop.data.loading import fetch, load
from eqprop.data.locations import Entry, survey
from eqprop.data.sources import NAMES, shape_of, sizes
from eqprop.data.split import Samples, Split, hold_out

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
