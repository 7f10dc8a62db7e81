"""JSON of measurements: a number that is not finite, which JSON cannot hold, becomes null instead of an error after hours."""

import json
import math
from typing import Any

__all__ = ["dump_measured"]


def dump_measured(value: Any) -> str:
    """Return ``value`` as JSON text, with null in the place of numbers that are not finite.

    >>> dump_measured({"cosine": float("nan")})
    '{\\n  "cosine": null\\n}\\n'
    """
    return json.dumps(_finite_or_none(value), indent=2, allow_nan=False) + "\n"


def _finite_or_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite_or_none(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_or_none(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
