"""Questions about a user's own classes, which the library's tests do not cover."""

import torch
from torch import Tensor

__all__ = ["is_customized", "replaced_method", "tensors_agree"]


def is_customized(instance: object, base: type) -> bool:
    """Return whether the class of ``instance``, or one between it and ``base``, was written outside of this package."""
    between = (c for c in type(instance).__mro__ if issubclass(c, base))
    return any(c.__module__.partition(".")[0] != "eqprop" for c in between)


def replaced_method(instance: object, base: type) -> str | None:
    """Return the name of a method of ``base`` that was replaced on the object itself, or None."""
    own = getattr(instance, "__dict__", {})
    return next((name for name in own if not name.startswith("_") and callable(getattr(base, name, None))), None)


def tensors_agree(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors agree to half of the digits of their dtype, relative to the largest entry."""
    if a.shape != b.shape:
        return False
    scale = torch.maximum(a.abs().amax(), b.abs().amax())
    return bool((a - b).abs().amax() <= 10 * torch.finfo(a.dtype).eps ** 0.5 * scale)
