"""Checks of arguments: each returns the value in its expected type or raises an `ArgumentError`.

A message states what was expected and what was got, and begins with the name of the argument: "`steps` must be a whole number of at
least 1, got 0".
"""

import math
import sys
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeGuard, TypeVar

from torch import Tensor

__all__ = [
    "MAX_FLOAT32",
    "MAX_INT",
    "ArgumentError",
    "angle_in_degrees",
    "boolean",
    "describe_value",
    "finite",
    "fraction",
    "function",
    "instance",
    "mapping",
    "non_negative",
    "non_negative_int",
    "nonzero",
    "nudging_strength",
    "one_of",
    "positive",
    "positive_fraction",
    "positive_int",
    "sequence",
]

T = TypeVar("T")

MAX_INT = 2**31 - 1
MAX_FLOAT32 = 3.4e38
_EPSILON = sys.float_info.epsilon
_MAX_SHOWN = 200


class ArgumentError(ValueError):
    """An argument has a value that it cannot take.

    Args:
        argument: name of the argument, as in the signature; the command line maps it to an option.
        message: what was expected, what was got, and what to do.
    """

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(message)
        self.argument = argument

    def __reduce__(self) -> tuple[type["ArgumentError"], tuple[str, str]]:
        """Pickle with both arguments: worker processes send errors to their parent."""
        return type(self), (self.argument, str(self))


def positive_int(name: str, value: object, most: int = MAX_INT) -> int:
    """Return ``value`` as an int from 1 to ``most``."""
    if not _is_int(value) or value < 1:
        raise _error(name, "a whole number of at least 1", value)
    if int(value) > most:
        raise _error(name, f"at most {most}", value)
    return int(value)


def non_negative_int(name: str, value: object, most: int | None = None) -> int:
    """Return ``value`` as an int from 0 to ``most``."""
    if not _is_int(value) or value < 0:
        raise _error(name, "a whole number of at least 0", value)
    if most is not None and int(value) > most:
        raise _error(name, f"at most {most}", value)
    return int(value)


def positive(name: str, value: object) -> float:
    """Return ``value`` as a finite float above 0."""
    if not _is_finite(value) or value <= 0:
        raise _error(name, "a finite number above 0", value)
    return _float32_range(name, value)


def non_negative(name: str, value: object) -> float:
    """Return ``value`` as a finite float of at least 0."""
    if not _is_finite(value) or value < 0:
        raise _error(name, "a finite number of at least 0", value)
    return _float32_range(name, value)


def nonzero(name: str, value: object) -> float:
    """Return ``value`` as a finite float other than 0."""
    if not _is_finite(value) or value == 0:
        raise _error(name, "non-zero and finite", value)
    return _float32_range(name, value)


def nudging_strength(name: str, value: object) -> float:
    """Return ``value`` as a float other than 0 at which double precision has digits left; other precisions have less range."""
    beta = nonzero(name, value)
    if not _EPSILON < abs(beta) < 1 / _EPSILON:
        expected = f"between {_EPSILON:.1g} and {1 / _EPSILON:.1g} in size, since EP divides by it"
        raise _error(name, expected, value)
    return beta


def finite(name: str, value: object) -> float:
    """Return ``value`` as a finite float."""
    if not _is_finite(value):
        raise _error(name, "a finite number", value)
    return _float32_range(name, value)


def fraction(name: str, value: object) -> float:
    """Return ``value`` as a float in [0, 1)."""
    if not _is_finite(value) or not 0 <= float(value) < 1:
        raise _error(name, "a number in [0, 1)", value)
    return float(value)


def positive_fraction(name: str, value: object) -> float:
    """Return ``value`` as a float in (0, 1]."""
    if not _is_finite(value) or not 0 < float(value) <= 1:
        raise _error(name, "a number in (0, 1]", value)
    return float(value)


def angle_in_degrees(name: str, value: object) -> float:
    """Return ``value`` as a float from 0 to 180."""
    if not _is_finite(value) or not 0 <= float(value) <= 180:
        raise _error(name, "between 0 and 180 degrees", value)
    return float(value)


def one_of(name: str, value: T, choices: tuple[T, ...]) -> T:
    """Return ``value`` if it is one of ``choices``."""
    if not any(value is choice or (isinstance(value, type(choice)) and value == choice) for choice in choices):
        raise _error(name, f"one of {', '.join(map(repr, choices))}", value)
    return value


def boolean(name: str, value: object) -> bool:
    """Return ``value`` if it is True or False; other values are refused, since every non-empty string counts as true."""
    if not isinstance(value, bool) and type(value).__name__ not in (
        "bool_",
        "bool",
    ):  # of NumPy, by its old and new name
        raise _error(name, "True or False", value)
    return bool(value)


def function(name: str, value: T) -> T:
    """Return ``value`` if it can be called."""
    if not callable(value):
        raise _error(name, "a function", value)
    return value


def mapping(name: str, value: T) -> T:
    """Return ``value`` if it is a dictionary or another mapping."""
    if not isinstance(value, Mapping):
        raise _error(name, "a dictionary", value)
    return value


def sequence(name: str, value: object, expected: str) -> Sequence[Any]:
    """Return ``value`` if it is a list, a tuple or another sequence, but not a string; ``expected`` says what it must be."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise _error(name, expected, value)
    return value


def instance(name: str, value: object, kind: type[T]) -> T:
    """Return ``value`` if it is an instance of ``kind``; the message tells an instance from the class itself."""
    if isinstance(value, kind):
        return value
    named = isinstance(value, type)
    got = f"the class {value.__name__} itself" if named else f"an object of class {type(value).__name__}"
    raise ArgumentError(name, f"`{name}` must be an object of class {kind.__name__}, got {got}")


def _error(name: str, expected: str, value: object) -> ArgumentError:
    return ArgumentError(name, f"`{name}` must be {expected}, got {describe_value(value)}")


def describe_value(value: object) -> str:
    """Return a short description on one line: tensors by their shape, long numbers and texts cut."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and {value.dtype}"
    try:
        text = repr(value) if isinstance(value, str) else " ".join(repr(value).split())
    except ValueError:  # Python refuses to print whole numbers of more than 4,300 digits
        return f"an object of class {type(value).__name__} with too many digits"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _is_int(value: object) -> TypeGuard[Integral]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_finite(value: object) -> TypeGuard[Real]:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond double precision
        return False


def _float32_range(name: str, value: Real) -> float:
    if abs(float(value)) > MAX_FLOAT32:
        raise _error(name, f"at most {MAX_FLOAT32:g}, the range of single precision", value)
    return float(value)
