"""What a number or an object given by a user must be; each check returns it or says what was got and what to do."""

import math
from numbers import Integral, Real
from typing import TypeVar

__all__ = [
    "ArgumentError",
    "angle_in_degrees",
    "finite",
    "fraction",
    "instance",
    "non_negative",
    "non_negative_int",
    "nonzero",
    "one_of",
    "positive",
    "positive_fraction",
    "positive_int",
]

T = TypeVar("T")


class ArgumentError(ValueError):
    """A value that an argument cannot take.

    Args:
        argument: name of the argument, as in the signature; the command line maps it to an option.
        message: what was expected, what was got, and what to do.
    """

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(message)
        self.argument = argument

    def __reduce__(self) -> tuple[type["ArgumentError"], tuple[str, str]]:
        """Pickle with both arguments: worker processes send errors back."""
        return type(self), (self.argument, str(self))


WHOLE = 2**31 - 1
"""The largest count of anything."""

SINGLE = 3.4e38
"""The largest number of single precision."""


def positive_int(name: str, value: object, most: int = WHOLE) -> int:
    """A whole number from 1 to ``most``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ArgumentError(name, f"`{name}` must be a whole number of at least 1, got {value!r}")
    if int(value) > most:
        raise ArgumentError(name, f"`{name}` must be at most {most}, got {value!r}")
    return int(value)


def positive(name: str, value: object) -> float:
    """A finite number above 0."""
    if not isinstance(value, Real) or not math.isfinite(value) or value <= 0:
        raise ArgumentError(name, f"`{name}` must be a finite number above 0, got {value!r}")
    return single(name, value)


def single(name: str, value: Real) -> float:
    """A number that single precision can hold."""
    if abs(float(value)) > SINGLE:
        raise ArgumentError(name, f"`{name}` must be at most {SINGLE:g}, which single precision holds, got {value!r}")
    return float(value)


def non_negative_int(name: str, value: object) -> int:
    """A whole number of at least 0."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
        raise ArgumentError(name, f"`{name}` must be a whole number of at least 0, got {value!r}")
    return int(value)


def non_negative(name: str, value: object) -> float:
    """A finite number of at least 0."""
    if not isinstance(value, Real) or not math.isfinite(value) or value < 0:
        raise ArgumentError(name, f"`{name}` must be a finite number of at least 0, got {value!r}")
    return float(value)


def finite(name: str, value: object) -> float:
    """A finite number."""
    if not isinstance(value, Real) or not math.isfinite(value):
        raise ArgumentError(name, f"`{name}` must be a finite number, got {value!r}")
    return single(name, value)


def fraction(name: str, value: object) -> float:
    """A number from 0 up to, but not including, 1."""
    if not isinstance(value, Real) or not 0 <= float(value) < 1:
        raise ArgumentError(name, f"`{name}` must be a number in [0, 1), got {value!r}")
    return float(value)


def positive_fraction(name: str, value: object) -> float:
    """A number above 0 and up to 1."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) <= 1:
        raise ArgumentError(name, f"`{name}` must be a number in (0, 1], got {value!r}")
    return float(value)


def nonzero(name: str, value: object) -> float:
    """A finite number other than 0."""
    if not isinstance(value, Real) or not math.isfinite(value) or value == 0:
        raise ArgumentError(name, f"`{name}` must be non-zero and finite, got {value!r}")
    return single(name, value)


def one_of(name: str, value: T, choices: tuple[T, ...]) -> T:
    """One of the listed values."""
    if value not in choices:
        raise ArgumentError(name, f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def instance(name: str, value: object, kind: type[T]) -> T:
    """An object of that class; the class itself, for one, is not."""
    if not isinstance(value, kind):
        got = (
            f"the class {value.__name__} itself"
            if isinstance(value, type)
            else f"an object of class {type(value).__name__}"
        )
        raise ArgumentError(name, f"`{name}` must be an object of class {kind.__name__}, got {got}")
    return value


def angle_in_degrees(name: str, value: object) -> float:
    """A number from 0 to 180."""
    if not isinstance(value, Real) or not 0 <= float(value) <= 180:
        raise ArgumentError(name, f"`{name}` must be between 0 and 180 degrees, got {value!r}")
    return float(value)
