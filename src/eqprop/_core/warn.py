"""Warnings that point to the user's code."""

import sys
import warnings
from pathlib import Path
from types import FrameType

__all__ = ["warn_user"]

_PACKAGE = str(Path(__file__).parents[1])


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning at the innermost call from outside of this package, however deep inside the package the cause is."""
    level, frame = 2, sys._getframe(1)  # a stacklevel of 2 means the caller of this function
    while frame.f_back is not None and _is_own(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_own(frame: FrameType) -> bool:
    """Whether a frame belongs to this package, or to the constructor that `dataclasses` generates for one of its classes."""
    code = frame.f_code
    return code.co_filename.startswith(_PACKAGE) or (code.co_filename, code.co_name) == ("<string>", "__init__")
