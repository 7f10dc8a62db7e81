r"""Cross-correlation of images with a kernel, its adjoint, and the gradient of the kernel.

*Average pooling is a correlation.* The mean over ``p x p`` windows of a correlation with stride ``s`` equals the correlation of
stride ``p s`` with a larger kernel ``V``, ``k + (p - 1) s`` wide:

    mean_p(W * pre)  =  V *_{ps} pre,             V[a] = 1/p^2 sum of W[a - i s] over the p^2 offsets i.

This form computes pooled values only: for ``k = 5, p = 2, s = 1`` it needs 36 products per unit instead of 100, in both
directions. Its transpose is the exact adjoint for every image size.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from eqprop._core.memory_format import channels_last

__all__ = ["Correlation", "average_kernel", "correlation_pairing"]


@dataclass(frozen=True)
class Correlation:
    """The correlation with a kernel ``(c_post, c_pre, k, k)`` and its adjoint."""

    kernel: Tensor
    stride: int
    padding: int

    def up(self, pre: Tensor) -> Tensor:
        """Return ``W * pre``."""
        return F.conv2d(channels_last(pre), self.kernel, None, self.stride, self.padding)

    def down(self, q: Tensor, shape: torch.Size) -> Tensor:
        """Return ``W *^T q``, an image with the height and width of ``shape``."""
        k, s, p = self.kernel.shape[-1], self.stride, self.padding
        # A stride may leave rows and columns at the border unused; the transpose must restore them.
        rest = [n - ((m - 1) * s - 2 * p + k) for n, m in zip(shape[-2:], q.shape[-2:], strict=True)]
        return F.conv_transpose2d(channels_last(q), self.kernel, None, s, p, output_padding=rest)


def average_kernel(weight: Tensor, size: int, stride: int) -> Tensor:
    """Return the kernel ``V``, ``(c_post, c_pre, K, K)``, of a correlation followed by average pooling: see the module."""
    box = weight.new_full((1, 1, size, size), size**-2)
    return F.conv_transpose2d(box, weight.flatten(0, 1).unsqueeze(0), stride=stride)[0].unflatten(0, weight.shape[:2])


class _Pairing(torch.autograd.Function):
    """Has the value 0 and the gradient of `correlation_pairing`."""

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
            Correlation(kernel, ctx.stride, ctx.padding).down(left, right.shape) if of_right else None,
            None,
            None,
            None,
        )


def correlation_pairing(
    correlation: Correlation, bias: Tensor | None, left: Tensor, right: Tensor, step: Tensor
) -> Tensor:
    """Return a scalar with the gradient of ``<left, W * right> + <bias, sum of step over pixels>`` in kernel, bias and ``right``.

    Its value is 0: the true value is not used.
    """
    kernel, stride, padding = correlation.kernel, correlation.stride, correlation.padding
    return _Pairing.apply(kernel, bias, left, right, step, stride, padding)  # type: ignore[no-any-return]
