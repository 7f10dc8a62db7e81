"""What a number given by a user must be; each check returns it or says what was got and what to do."""

import math
from numbers import Real
from typing import TypeVar

__all__ = ["nonzero", "one_of", "positive", "positive_int"]

T = TypeVar("T")


def positive_int(name: str, value: object) -> int:
    """A whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{name}` must be a whole number of at least 1, got {value!r}")
    return value


def positive(name: str, value: object) -> float:
    """A finite number above 0."""
    if not isinstance(value, Real) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"`{name}` must be a finite number above 0, got {value!r}")
    return float(value)


def nonzero(name: str, value: object) -> float:
    """A finite number other than 0."""
    if not isinstance(value, Real) or not math.isfinite(value) or value == 0:
        raise ValueError(f"`{name}` must be non-zero and finite, got {value!r}")
    return float(value)


def one_of(name: str, value: T, choices: tuple[T, ...]) -> T:
    """One of the listed values."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value
