"""Data sets, one file a format. Each loader returns a `Split`: training and test samples as tensors."""

from eqprop.data.digits import load_digits
from eqprop.data.split import Split

__all__ = ["Split", "load_digits"]
