r"""Correlations of images with a kernel: up, back by the adjoint, and the gradient of the kernel.

*Average pooling is a correlation.* The mean over windows of ``p x p`` of a correlation with stride ``s`` is the correlation with
the kernel spread by that mean, ``k + (p - 1) s`` wide, and stride ``p s``:

    mean_p(W * pre)  =  V *_{ps} pre,             V[a] = 1/p^2 sum of W[a - i s] over the p^2 offsets i.

It computes only what is kept: for ``k = 5, p = 2, s = 1`` 36 products a unit in the place of 100, upwards and downwards, and its
transpose is the exact adjoint, whatever the size of the image.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from eqprop._core.memory_format import channels_last

__all__ = ["Filter", "averaged", "correlated"]


@dataclass(frozen=True)
class Filter:
    """A correlation with a kernel ``(c_post, c_pre, k, k)``, and its adjoint."""

    kernel: Tensor
    stride: int
    padding: int

    def up(self, pre: Tensor) -> Tensor:
        """``W * pre``."""
        return F.conv2d(channels_last(pre), self.kernel, None, self.stride, self.padding)

    def down(self, q: Tensor, shape: torch.Size) -> Tensor:
        """``W *^T q``, an image of that shape's height and width."""
        k, s, p = self.kernel.shape[-1], self.stride, self.padding
        rest = [n - ((m - 1) * s - 2 * p + k) for n, m in zip(shape[-2:], q.shape[-2:], strict=True)]
        return F.conv_transpose2d(channels_last(q), self.kernel, None, s, p, output_padding=rest)


def averaged(weight: Tensor, size: int, stride: int) -> Tensor:
    """The kernel of "correlate with that stride, then average windows of that size", ``(c_post, c_pre, K, K)``."""
    box = weight.new_full((1, 1, size, size), size**-2)
    return F.conv_transpose2d(box, weight.flatten(0, 1).unsqueeze(0), stride=stride)[0].unflatten(0, weight.shape[:2])


class _Pairing(torch.autograd.Function):
    """A scalar of value 0 with the gradient of ``<left, W * right> + <b, step>``: see `eqprop.connections.dense`."""

    @staticmethod
    def forward(
        ctx: Any,
        kernel: Tensor,
        bias: Tensor | None,
        left: Tensor,
        right: Tensor,
        step: Tensor,
        stride: int,
        padding: int,
    ) -> Tensor:
        ctx.save_for_backward(kernel, left, right, step)
        ctx.stride, ctx.padding = stride, padding
        return kernel.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        kernel, left, right, step = ctx.saved_tensors
        of_kernel, of_bias, _, of_right, *_ = ctx.needs_input_grad
        left = left * slopes[0]
        return (
            conv2d_weight(right, kernel.shape, left, ctx.stride, ctx.padding) if of_kernel else None,
            step.sum((0, 2, 3)) * slopes[0] if of_bias else None,
            None,
            Filter(kernel, ctx.stride, ctx.padding).down(left, right.shape) if of_right else None,
            None,
            None,
            None,
        )


def correlated(by: Filter, bias: Tensor | None, left: Tensor, right: Tensor, step: Tensor) -> Tensor:
    """A scalar with the gradient, in kernel, ``bias`` and ``right``, of ``<left, W * right> + <bias, sum of step over pixels>``.

    Its value is 0, as nobody reads it.
    """
    return _Pairing.apply(by.kernel, bias, left, right, step, by.stride, by.padding)  # type: ignore[no-any-return]
