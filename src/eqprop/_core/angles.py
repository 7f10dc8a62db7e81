"""The angle between two lists of tensors, each taken as one vector."""

import math
from collections.abc import Sequence

from torch import Tensor

__all__ = ["angle_between"]


def angle_between(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Return the angle in degrees between two lists of tensors of equal shapes.

    Two zero vectors have an angle of 0, a zero and a non-zero vector one of 90. The result is NaN if a number is not finite.
    """
    dot, a2, b2 = (
        sum(float((p.double() * q.double()).sum()) for p, q in zip(left, right, strict=True))
        for left, right in ((a, b), (a, a), (b, b))
    )
    if a2 == 0 or b2 == 0:
        return 0.0 if a2 == b2 else 90.0
    cosine = dot / math.sqrt(a2 * b2)
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine)))) if math.isfinite(cosine) else math.nan
