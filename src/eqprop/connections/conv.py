r"""Convolutions between images, with optional pooling of the upper image.

``phi = <post, P(W * pre) + b>``, with ``*`` the cross-correlation of `torch.nn.Conv2d` and P a pooling
(`eqprop.connections.pooling`). The upper population is the pooled image (Ernoult et al. 2019, section 4.3 and appendix). Hence

    up = P(W * pre) + b          down = W *^T (dP/dz^T post),      dP/dz at z = W * pre,

with the transposed convolution ``*^T`` of the same kernel, stride and padding. One convolution of ``pre`` serves both directions.
The bias, one per channel, may stand outside of all the poolings here. Average pooling is folded into the kernel
(`eqprop.connections.correlation`).

*Nearest-neighbor feedback.* ``pool="avg-nearest"`` copies a pooled value to its whole window undivided, as implementations that
call a nearest-neighbor interpolation do (presumably also Lin, Bal & Sengupta 2024). The feedback is ``c = p^2`` times the
adjoint. The dynamics of a chain then descend an energy in which layer n has a weight ``kappa_n``, ``c`` times that of the layer
below wherever the edge between them is pooled in this way. With beta in units of the output's weight ``kappa_L``, the gradient of
the connection into layer n is ``kappa_n / kappa_L`` times the contrast. Below such an edge the contrast is ``c`` times the
gradient, and learning rates must be divided by ``c``; `ConvNet` warns of it.

The contrast is the difference of two correlations of ``q = dP/dz^T post`` with ``pre``, computed as a product of differences, as in
`eqprop.connections.dense`, in one call for both states:

    q_a . pre_a - q_b . pre_b  =  (q_a - q_b) . pre_a + q_b . (pre_a - pre_b).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn

from eqprop._core.checks import MAX_INT, ArgumentError, boolean, non_negative_int, positive_int
from eqprop._core.derived import derived_from
from eqprop._core.memory_format import channels_last
from eqprop.activations import Activation
from eqprop.connections.base import Ends, LinearConnection, PreparedConnection
from eqprop.connections.correlation import Correlation, average_kernel, correlation_pairing
from eqprop.connections.pooling import (
    DEFAULT_POOL_SIZE,
    MaxPool,
    NoPool,
    Pool,
    PoolName,
    SoftmaxPool,
    check_pooling,
)

__all__ = ["Conv2d", "PreparedConv"]


class Conv2d(LinearConnection):
    """A convolution upward and its transpose downward, with optional pooling; initialized as `torch.nn.Conv2d`.

    Args:
        c_pre: number of channels of the lower population, an image ``(c_pre, H, W)``.
        c_post: number of channels of the upper population, the pooled image.
        kernel_size: height and width of the kernel.
        stride: stride of the convolution.
        padding: rows and columns of zeros added to each side of the lower image.
        pool: "max", "avg", "avg-nearest" (mean with nearest-neighbor feedback), "softmax" or None. Max pooling needs an upper
            population whose activity is never negative: other dynamics would not settle.
        pool_size: height, width and stride of the windows; only with a pooling.
        bias: whether to add a bias to post, one per channel.

    Attributes:
        weight: ``(c_post, c_pre, kernel_size, kernel_size)``.
        bias: ``(c_post,)`` or None.

    Raises:
        ArgumentError: if a number is out of range, the pooling is unknown, or ``pool_size`` is given without a pooling.

    >>> import torch
    >>> layer = Conv2d(1, 32, 5, pool="max")
    >>> layer.up(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 32, 12, 12])
    """

    linear = True

    def __init__(
        self,
        c_pre: int,
        c_post: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        pool: PoolName | None = None,
        pool_size: int = DEFAULT_POOL_SIZE,
        bias: bool = True,
    ) -> None:
        super().__init__()
        k = positive_int("kernel_size", kernel_size)
        self.weight = nn.Parameter(torch.empty(positive_int("c_post", c_post), positive_int("c_pre", c_pre), k, k))
        self.bias = nn.Parameter(torch.empty(c_post)) if boolean("bias", bias) else None
        self.stride = positive_int("stride", stride)
        self.padding = non_negative_int("padding", padding, MAX_INT)
        check_pooling(pool, pool_size)
        self.pool, self.pool_size = pool, pool_size
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw ``W`` and ``b`` from U(-1/sqrt(n), 1/sqrt(n)), with n inputs per unit, as `torch.nn.Conv2d` does."""
        bound = 1 / sqrt(self.weight[0].numel())
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        """Return the arguments for ``repr``."""
        c_post, c_pre, k, _ = self.weight.shape
        pooling = f", pool={self.pool!r}, pool_size={self.pool_size}" if self.pool else ""
        return f"{c_pre}, {c_post}, {k}, stride={self.stride}, padding={self.padding}{pooling}, bias={self.bias is not None}"

    def check_activation(self, post: Activation) -> None:
        """Check that the activity above a max pooling cannot be negative."""
        if self.pool == "max" and not post.lowest >= 0:
            raise ArgumentError(
                "pool",
                f"max pooling below a population with {post!r}, whose activity can be negative, has no steady state to settle "
                'to: use pool="avg" or an activation that is never negative (for a custom activation, set `lowest=0`)',
            )

    @derived_from("up")
    def phi(self, pre: Tensor, post: Tensor) -> Tensor:
        """Return ``<post, P(W * pre) + b>``: ``(B,)``."""
        return (self._up(pre) * post).flatten(1).sum(1)

    @derived_from("phi")
    def up(self, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """Return ``P(W * pre) + b``: ``(B, c_post, h, w)``."""
        return self._up(pre)

    @derived_from("phi", "up", "feedback_current", "feedback_weight")
    def down(self, post: Tensor, pre: Tensor | None = None) -> Tensor:
        """Return ``W *^T (dP/dz^T post)``: ``(B, c_pre, H, W)``. ``pre`` is required."""
        return self._down(self.weight, post, pre)

    @derived_from("phi", "up")
    def feedback_current(self, feedback: Tensor, post: Tensor, pre: Tensor | None) -> Tensor:
        """Return ``V *^T (dP/dz^T post)`` for the feedback kernel ``V``: ``(B, c_pre, H, W)``. ``pre`` is required."""
        return self._down(feedback, post, pre)

    @derived_from("phi", "up", "down", "feedback_current", "feedback_weight")
    def both(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(up, down)``, from one convolution of ``pre``."""
        correlation, bias = self._correlation(self.weight), self._image_bias()
        z = correlation.up(pre)
        pooled, trace = self._pooling.pool(z)
        down = correlation.down(self._pooling.unpool(post, trace, z.shape), pre.shape)
        down = down if self.feedback_gain == 1 else self.feedback_gain * down
        return pooled if bias is None else pooled + bias, down

    @derived_from("phi", "up")
    def contrast(self, free: Ends, a: Ends, b: Ends) -> Tensor:
        """Return a scalar whose gradient is the difference of the two correlations, in one call for both states."""
        step = a.post - b.post
        if (
            a.pre is b.pre
        ):  # a static input: its pooling is the same in both states, so that q_a - q_b is linear in the step
            with torch.no_grad():
                left = self._unpool(Ends(a.pre, step))
            return self._pairing(left, a.pre, step)
        with torch.no_grad():
            q_a, q_b = self._unpool(Ends(*map(torch.cat, zip(a, b, strict=True)))).chunk(2)
            left, right = torch.cat([q_a - q_b, q_b]), torch.cat([a.pre, a.pre - b.pre])
        return self._pairing(left, right, step)

    @derived_from("phi", "up", "contrast", "feedback_current")
    def contrast_with_feedback(self, feedback: Tensor, free: Ends, a: Ends, b: Ends) -> Tensor:
        """Return ``<P(W * pre*) + b, post_a - post_b> + <V *^T (dP/dz^T post*), pre_a - pre_b>``.

        ``dP/dz`` is taken at ``z = W * pre*``. For softmax pooling it depends smoothly on ``z``, so that the second term has a
        gradient in ``W`` too.
        """
        down = self._down(feedback, free.post, free.pre)
        return (self._up(free.pre) * (a.post - b.post)).sum() + (down * (a.pre - b.pre)).sum()

    @derived_from("phi", "up")
    def fan_out(self, pre: Sequence[int], post: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the number of units that the kernel, including the average, joins to each unit; fewer at the border of an image.

        Raises:
            ArgumentError: for a pooling whose feedback depends on the image.
        """
        if not self._pooling.fixed:
            raise ArgumentError(
                "pool", f'where {self.pool} pooling sends a unit\'s activity depends on the image: take pool="avg"'
            )
        # A kernel of ones counts the units that it joins.
        ones = self._correlation(torch.ones_like(self.weight[:1, :1], dtype=torch.double, device="cpu"))
        taps = Correlation(ones.kernel.ne(0).double(), ones.stride, ones.padding)
        below, above = (torch.ones(1, 1, *shape[1:], dtype=torch.double) for shape in (pre, post))
        up, down = post[0] * taps.down(above, below.shape)[0], pre[0] * taps.up(below)[0]
        return up.expand(*pre).contiguous(), down.expand(*post).contiguous()

    @derived_from("phi", "up", "down", "both", "feedback_current")
    def offset(self) -> Tensor | None:
        """Return the bias, ``(c_post, 1, 1)``."""
        return self._image_bias()

    @derived_from("phi", "up", "down", "both", "feedback_current", "feedback_weight", "offset", "prepare_with_feedback")
    def prepare(self, pre: int, post: int, gains: Sequence[float]) -> PreparedConnection:
        """Prepare a kernel that includes an average pooling, in channels-last format."""
        return self._prepare(self.weight, pre, post, gains)

    @derived_from("phi", "up", "down", "both", "feedback_current", "offset", "prepare")
    def prepare_with_feedback(
        self, feedback: Tensor, pre: int, post: int, gains: Sequence[float]
    ) -> PreparedConnection:
        """Prepare kernels as `prepare`, the downward one from ``feedback``."""
        return self._prepare(feedback, pre, post, gains)

    def _up(self, pre: Tensor) -> Tensor:
        if pre.dim() != 4:
            raise ArgumentError(
                "pre", f"a convolution takes images (B, channels, height, width), got {tuple(pre.shape)}"
            )
        pooled, _ = self._pooling.pool(self._correlation(self.weight).up(pre))
        bias = self._image_bias()
        return pooled if bias is None else pooled + bias

    def _down(self, feedback: Tensor, post: Tensor, pre: Tensor | None) -> Tensor:
        if pre is None:
            raise ArgumentError(
                "pre", "the downward current of a convolution depends on the image below: call `down(post, pre)`"
            )
        down = self._correlation(feedback).down(self._unpool(Ends(pre, post)), pre.shape)
        return down if self.feedback_gain == 1 else self.feedback_gain * down

    def _prepare(self, feedback: Tensor, pre: int, post: int, gains: Sequence[float]) -> PreparedConnection:
        forward = self._correlation(self.weight)
        back = forward if feedback is self.weight else self._correlation(feedback)
        return PreparedConv(pre, post, self.feedback_gain * gains[pre], gains[post], forward, back, self._pooling)

    @property
    def feedback_gain(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Factor between `down` and ``dphi/dpre``: more than 1 for nearest-neighbor feedback."""
        return self.pool_size**2 if self.pool == "avg-nearest" else 1

    @property
    def _pooling(self) -> Pool:
        """The pooling that remains when an average is folded into the kernel."""
        return {"max": MaxPool, "softmax": SoftmaxPool}.get(self.pool or "", NoPool)(self.pool_size)

    def _correlation(self, weight: Tensor) -> Correlation:
        if self.pool not in ("avg", "avg-nearest"):
            return Correlation(channels_last(weight), self.stride, self.padding)
        kernel = average_kernel(weight, self.pool_size, self.stride)
        return Correlation(channels_last(kernel), self.stride * self.pool_size, self.padding)

    def _image_bias(self) -> Tensor | None:
        return None if self.bias is None else self.bias[:, None, None]

    def _unpool(self, ends: Ends) -> Tensor:
        """Return ``dP/dz^T post`` at ``z = W * pre``."""
        if self._pooling.fixed:
            return ends.post
        z = self._correlation(self.weight).up(ends.pre)
        return self._pooling.unpool(ends.post, self._pooling.pool(z)[1], z.shape)

    def _pairing(self, left: Tensor, right: Tensor, step: Tensor) -> Tensor:
        return correlation_pairing(self._correlation(self.weight), self.bias, left, right, step)


class _Pooled(NamedTuple):
    """The pooled image ``P(z)`` of ``z = W * pre``, the trace that unpooling needs, and the shape of ``z``."""

    image: Tensor
    trace: Tensor
    shape: torch.Size


@dataclass(frozen=True)
class PreparedConv(PreparedConnection):
    """A convolution prepared for settling.

    Attributes:
        forward: correlation of the upward current.
        feedback: correlation whose adjoint gives the downward current.
        pooling: pooling of the upward current.
        pooled: convolved and pooled pre, if the connection is specialized for a pre.
    """

    forward: Correlation
    feedback: Correlation
    pooling: Pool
    pooled: _Pooled | None = None

    def add(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Add both currents, from one convolution of pre."""
        pooled = self._pool(a)
        self._add_up(u, pooled)
        if self.pre:
            self._add_down(u, self.pooling.unpool(a[self.post], pooled.trace, pooled.shape))

    def add_up(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Add the current into post: a convolution and a pooling."""
        self._add_up(u, self._pool(a))

    def add_down(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Add the current into pre: a transposed convolution, preceded by a convolution if the pooling depends on its result."""
        if self.pre and self.pooling.fixed:
            self._add_down(u, a[self.post])
        elif self.pre:
            pooled = self._pool(a)
            self._add_down(u, self.pooling.unpool(a[self.post], pooled.trace, pooled.shape))

    def specialize(self, a: Sequence[Tensor]) -> "PreparedConv":
        """Return a copy that stores the pooled image of pre, if both directions need it."""
        return self if self.pooling.fixed else replace(self, pooled=replace(self, pooled=None)._pool(a))

    def _pool(self, a: Sequence[Tensor]) -> _Pooled:
        if self.pooled is not None:
            return self.pooled
        z = self.forward.up(a[self.pre])
        return _Pooled(*self.pooling.pool(z), z.shape)

    def _add_up(self, u: list[Tensor], pooled: _Pooled) -> None:
        u[self.post] = torch.add(u[self.post], pooled.image, alpha=self.gain_post)

    def _add_down(self, u: list[Tensor], q: Tensor) -> None:
        into = u[self.pre]
        u[self.pre] = torch.add(into, self.feedback.down(q, into.shape), alpha=self.gain_pre)
