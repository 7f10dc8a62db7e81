r"""Convolutions between images, with a pooling on the way up.

``phi = <post, P(W * pre) + b>``, with ``*`` the cross-correlation of `torch.nn.Conv2d` and P a pooling (`eqprop.connections.pooling`); the
state above is the pooled image (Ernoult et al. 2019, section 4.3 and appendix). Hence

    up = P(W * pre) + b          down = W *^T (dP/dz^T post),      dP/dz at z = W * pre,

with the transposed convolution ``*^T`` of the same kernel, stride and padding. One convolution of ``pre`` serves the pooled
current and the way back. For all the poolings here the bias, one a channel, may stand outside.

Average pooling is folded into the kernel (`eqprop.connections.correlation`).

*Plain upsampling.* ``pool="avg-nearest"`` spreads a pooled value over its window undivided, as implementations that call a
nearest-neighbor interpolation do (and as Lin, Bal & Sengupta 2024 are summarized): ``c = p^2`` times the adjoint. The dynamics of
a chain then descend an energy in which layer n weighs ``kappa_n``, ``c`` times that of the layer below wherever an edge between
the two is pooled so. With beta in units of the output's weight ``kappa_L``, the gradient of the connection into layer n is
``kappa_n / kappa_L`` times the contrast: below such an edge contrasts are c times the gradient, and so must learning rates be
divided. `ConvNet` warns of it.

The contrast is a difference of two correlations of ``q = dP/dz^T post`` with ``pre``, taken as a product of differences, as in
`eqprop.connections.dense`, in one call for both states:

    q_a . pre_a - q_b . pre_b  =  (q_a - q_b) . pre_a + q_b . (pre_a - pre_b).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn

from eqprop._core.checks import non_negative_int, positive_int
from eqprop._core.memory_format import channels_last
from eqprop.activations import Activation
from eqprop.connections.base import Ends, LinearConnection, PreparedConnection
from eqprop.connections.correlation import Filter, averaged, correlated
from eqprop.connections.pooling import PAIR, MaxPool, NoPool, Pool, PoolName, SoftmaxPool, check_pooling

__all__ = ["Conv2d"]


class Conv2d(LinearConnection):
    """A convolution upwards and its transpose downwards, pooled on request; PyTorch's initialization of `torch.nn.Conv2d`.

    Args:
        c_pre: channels of the lower population, an image ``(c_pre, H, W)``.
        c_post: channels of the upper one, the pooled image.
        kernel_size: height and width of the kernel.
        stride: of the convolution.
        padding: zeros on each side of the lower image.
        pool: "max", "avg", "avg-nearest" (means, with plain upsampling on the way back), "softmax" or None. Max pooling is
            refused below a population whose activity can be negative: its dynamics would not settle.
        pool_size: height and width of a window, and its stride; without a pooling there is none.
        bias: whether post has a bias, one a channel.

    Attributes:
        weight: ``(c_post, c_pre, kernel_size, kernel_size)``.
        bias: ``(c_post,)`` or None.

    Raises:
        ValueError: if a number is not a whole one in its range, the pooling is unknown, or windows of a size have none.

    >>> import torch
    >>> layer = Conv2d(1, 32, 5, pool="max")
    >>> layer.up(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 32, 12, 12])
    """

    def __init__(
        self,
        c_pre: int,
        c_post: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        pool: PoolName | None = None,
        pool_size: int = PAIR,
        bias: bool = True,
    ) -> None:
        super().__init__()
        k = positive_int("kernel_size", kernel_size)
        self.weight = nn.Parameter(torch.empty(positive_int("c_post", c_post), positive_int("c_pre", c_pre), k, k))
        self.bias = nn.Parameter(torch.empty(c_post)) if bias else None
        self.stride = positive_int("stride", stride)
        self.padding = non_negative_int("padding", padding)
        check_pooling(pool, pool_size)
        self.pool, self.pool_size = pool, pool_size
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W and b from U(-1/sqrt(n), 1/sqrt(n)), with n inputs a unit, as `torch.nn.Conv2d` does."""
        bound = 1 / sqrt(self.weight[0].numel())
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        """The choices, as `print(model)` shows them."""
        c_post, c_pre, k, _ = self.weight.shape
        pooling = f", pool={self.pool!r}, pool_size={self.pool_size}" if self.pool else ""
        return f"{c_pre}, {c_post}, {k}, stride={self.stride}, padding={self.padding}{pooling}, bias={self.bias is not None}"

    def check_activation(self, post: Activation) -> None:
        """Refuse max pooling below an activity that can be negative."""
        if self.pool == "max" and not post.lowest >= 0:
            raise ValueError(
                f"max pooling below a population with {post!r}, whose activity can be negative, has no steady state to settle "
                'to: take pool="avg", or an activation that is never negative (one of your own says so by `lowest=0`)'
            )

    def phi(self, pre: Tensor, post: Tensor) -> Tensor:
        """``<post, P(W * pre) + b>``: ``(B,)``."""
        return (self.up(pre) * post).flatten(1).sum(1)

    def up(self, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """``P(W * pre) + b``: ``(B, c_post, h, w)``."""
        if pre.dim() != 4:
            raise ValueError(f"a convolution takes images (B, channels, height, width), got {tuple(pre.shape)}")
        pooled, _ = self._pooling.pool(self._filter(self.weight).up(pre))
        offset = self.offset()
        return pooled if offset is None else pooled + offset

    def feedback_current(self, feedback: Tensor, post: Tensor, pre: Tensor | None) -> Tensor:
        """``V *^T (dP/dz^T post)``: ``(B, c_pre, H, W)``; needs ``pre``, if only for its size."""
        if pre is None:
            raise ValueError("the way down a convolution depends on the image below: call `down(post, pre)`")
        down = self._filter(feedback).down(self._slopes(Ends(pre, post)), pre.shape)
        return down if self.amplified == 1 else self.amplified * down

    def both(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """``(up, down)``, from one convolution of ``pre``."""
        by, offset = self._filter(self.weight), self.offset()
        z = by.up(pre)
        pooled, trace = self._pooling.pool(z)
        down = by.down(self._pooling.spread(post, trace, z.shape), pre.shape)
        down = down if self.amplified == 1 else self.amplified * down
        return pooled if offset is None else pooled + offset, down

    def contrast(self, free: Ends, a: Ends, b: Ends) -> Tensor:
        """The gradient is the difference of the two correlations, in one call for both states."""
        step = a.post - b.post
        if a.pre is b.pre:  # a static input
            with torch.no_grad():
                left = self._slopes(Ends(a.pre, step))
            return self._pairing(left, a.pre, step)
        with torch.no_grad():
            q_a, q_b = self._slopes(Ends(*map(torch.cat, zip(a, b, strict=True)))).chunk(2)
            left, right = torch.cat([q_a - q_b, q_b]), torch.cat([a.pre, a.pre - b.pre])
        return self._pairing(left, right, step)

    def contrast_with_feedback(self, feedback: Tensor, free: Ends, a: Ends, b: Ends) -> Tensor:
        """``<P(W * pre*) + b, post_a - post_b> + <V *^T (dP/dz^T post*), pre_a - pre_b>``, by its definition.

        The slopes of P are those at ``z = W * pre*``; where they vary smoothly, W learns from the way down too.
        """
        down = self.feedback_current(feedback, free.post, free.pre)
        return (self.up(free.pre) * (a.post - b.post)).sum() + (down * (a.pre - b.pre)).sum()

    def fan_out(self, pre: Sequence[int], post: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Pairs of units that the kernel joins, which has the average in it; at the border of an image there are fewer.

        Raises:
            ValueError: under a pooling whose way back depends on the image.
        """
        if not self._pooling.fixed:
            raise ValueError(
                f'where {self.pool} pooling sends a unit\'s activity depends on the image: take pool="avg"'
            )
        by = self._filter(torch.ones_like(self.weight[:1, :1], dtype=torch.double, device="cpu"))
        taps = Filter(by.kernel.ne(0).double(), by.stride, by.padding)
        below, above = (torch.ones(1, 1, *shape[1:], dtype=torch.double) for shape in (pre, post))
        up, down = post[0] * taps.down(above, below.shape)[0], pre[0] * taps.up(below)[0]
        return up.expand(*pre).contiguous(), down.expand(*post).contiguous()

    def offset(self) -> Tensor | None:
        """The bias, one a channel."""
        return None if self.bias is None else self.bias[:, None, None]

    def prepare_with_feedback(
        self, feedback: Tensor, pre: int, post: int, gains: Sequence[float]
    ) -> PreparedConnection:
        """Kernels as the loop wants them: spread by the mean, channels last."""
        there = self._filter(self.weight)
        back = there if feedback is self.weight else self._filter(feedback)
        return PreparedConv(there, back, self._pooling, pre, post, self.amplified * gains[pre], gains[post])

    @property
    def amplified(self) -> int:
        """What the way down is multiplied with, beside the adjoint: more than 1 for plain upsampling."""
        return self.pool_size**2 if self.pool == "avg-nearest" else 1

    @property
    def _pooling(self) -> Pool:
        """The pooling that is left when an average is folded into the kernel."""
        return {"max": MaxPool, "softmax": SoftmaxPool}.get(self.pool or "", NoPool)(self.pool_size)

    def _filter(self, weight: Tensor) -> Filter:
        if self.pool not in ("avg", "avg-nearest"):
            return Filter(channels_last(weight), self.stride, self.padding)
        spread = averaged(weight, self.pool_size, self.stride)
        return Filter(channels_last(spread), self.stride * self.pool_size, self.padding)

    def _slopes(self, ends: Ends) -> Tensor:
        """``dP/dz^T post`` at ``z = W * pre``."""
        if self._pooling.fixed:
            return ends.post
        z = self._filter(self.weight).up(ends.pre)
        return self._pooling.spread(ends.post, self._pooling.pool(z)[1], z.shape)

    def _pairing(self, left: Tensor, right: Tensor, step: Tensor) -> Tensor:
        return correlated(self._filter(self.weight), self.bias, left, right, step)


@dataclass(frozen=True)
class PreparedConv(PreparedConnection):
    """The two filters, and what is done between them."""

    there: Filter
    back: Filter
    pooling: Pool
    pre: int
    post: int
    gain_pre: float
    gain_post: float

    def add(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """One convolution of pre serves both directions."""
        self._seen(a).add(u, a)

    def add_up(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """A convolution and a pooling."""
        self._seen(a).add_up(u, a)

    def add_down(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """A transposed convolution, after a convolution where the pooling wants to know of it."""
        if self.pre and self.pooling.fixed:
            self.add_back(u, a[self.post])
        elif self.pre:
            self._seen(a).add_down(u, a)

    def add_back(self, u: list[Tensor], q: Tensor) -> None:
        """Add the scaled transposed convolution of ``q`` to the current into pre."""
        into = u[self.pre]
        u[self.pre] = torch.add(into, self.back.down(q, into.shape), alpha=self.gain_pre)

    def specialize(self, a: Sequence[Tensor]) -> PreparedConnection:
        """With the convolution done, where the pooling needs it on both ways."""
        return self if self.pooling.fixed else self._seen(a)

    def _seen(self, a: Sequence[Tensor]) -> "PreparedConvAtPre":
        z = self.there.up(a[self.pre])
        return PreparedConvAtPre(self, *self.pooling.pool(z), z.shape)


class PreparedConvAtPre(PreparedConnection):
    """A wire whose pre has been convolved and pooled.

    Args:
        wire: the wire.
        pooled: ``P(z)`` at ``z = W * pre``.
        trace: what the pooling's adjoint wants to know of ``z``.
        shape: of ``z``.
    """

    def __init__(self, wire: PreparedConv, pooled: Tensor, trace: Tensor, shape: torch.Size) -> None:
        self.pre, self.post = wire.pre, wire.post
        self.prepare, self.pooled, self.trace, self.shape = wire, pooled, trace, shape

    def add_up(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """The pooled image."""
        u[self.post] = torch.add(u[self.post], self.pooled, alpha=self.prepare.gain_post)

    def add_down(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """A transposed convolution."""
        if self.pre:
            self.prepare.add_back(u, self.prepare.pooling.spread(a[self.post], self.trace, self.shape))

    def specialize(self, a: Sequence[Tensor]) -> PreparedConnection:
        """The same for another pre."""
        return self.prepare.specialize(a)
