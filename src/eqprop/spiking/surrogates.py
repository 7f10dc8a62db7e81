r"""Threshold and clamp with surrogate gradients, for BPTT through spikes.

Both functions have derivative 0 almost everywhere they saturate, so a unit that is silent for every sample would never change. The
forward pass is exact. The backward pass uses the derivative of an arctangent (Fang et al. 2021) at the distance d from the points
where the slope is not 0:

    1 / (1 + (pi d)^2),        d = v for the threshold at 0;  d = distance of v to [0, 1] for the clamp.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["clamp01", "heaviside", "records_gradient"]


class _ArctanSurrogate(torch.autograd.Function):
    """Forward: ``values``. Backward: the gradient with respect to ``v``, scaled by the arctangent's slope at ``distance``."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, values: Tensor, distance: Tensor) -> Tensor:
        ctx.save_for_backward(distance)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (distance,) = ctx.saved_tensors
        return slopes[0] / (1 + (torch.pi * distance).square()), None, None


def heaviside(v: Tensor) -> Tensor:
    """Return 1 where ``v > 0``, else 0.

    >>> v = torch.tensor([0.0, 1.0], requires_grad=True)
    >>> heaviside(v)
    tensor([0., 1.], grad_fn=<_ArctanSurrogateBackward>)
    """
    with torch.no_grad():
        values = v.gt(0).to(v.dtype)
    return values if not records_gradient(v) else _ArctanSurrogate.apply(v, values, v.detach())  # type: ignore[no-any-return]


def clamp01(v: Tensor) -> Tensor:
    """Clamp ``v`` to [0, 1]; in place where no gradient is recorded."""
    if not records_gradient(v):
        return v.clamp_(0, 1)
    with torch.no_grad():
        values = v.clamp(0, 1)
        distance = v - values
    return _ArctanSurrogate.apply(v, values, distance)  # type: ignore[no-any-return]


def records_gradient(v: Tensor) -> bool:
    """Return whether autograd records operations on ``v``."""
    return torch.is_grad_enabled() and v.requires_grad
