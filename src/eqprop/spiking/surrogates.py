r"""Steps and bounds that pass a gradient on: what BPTT through spikes goes through.

A threshold has derivative 0, and a unit at its bound too, so that one that is silent for every sample would stay so. Forward both
are what they are; backward their derivative is that of an arctangent, at the distance d from where they are not flat (Fang et al.
2021):

    1 / (1 + (pi d)^2),        d = v at the threshold 0;  d = 0 within the bounds [0, 1], else the distance to them.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["above", "bounded", "differentiable"]


class _Passing(torch.autograd.Function):
    """``values``, with the slope of an arctangent at the distances from where ``v`` has one of its own."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, values: Tensor, distance: Tensor) -> Tensor:
        ctx.save_for_backward(distance)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (distance,) = ctx.saved_tensors
        return slopes[0] / (1 + (torch.pi * distance).square()), None, None


def above(v: Tensor) -> Tensor:
    """1 where ``v > 0``, else 0.

    >>> v = torch.tensor([0.0, 1.0], requires_grad=True)
    >>> above(v)
    tensor([0., 1.], grad_fn=<_PassingBackward>)
    """
    with torch.no_grad():
        values = v.gt(0).to(v.dtype)
    return values if not differentiable(v) else _Passing.apply(v, values, v.detach())  # type: ignore[no-any-return]


def bounded(v: Tensor) -> Tensor:
    """``v`` within [0, 1]; overwrites it where no gradient is wanted."""
    if not differentiable(v):
        return v.clamp_(0, 1)
    with torch.no_grad():
        values = v.clamp(0, 1)
        distance = v - values
    return _Passing.apply(v, values, distance)  # type: ignore[no-any-return]


def differentiable(v: Tensor) -> bool:
    """Whether autograd follows."""
    return torch.is_grad_enabled() and v.requires_grad
