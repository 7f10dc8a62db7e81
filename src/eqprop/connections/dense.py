r"""Dense connections: all-to-all weights between two populations.

``phi = <post, W pre + b>``, hence ``up = W pre + b`` and ``down = W^T post``. Where the lower population is an image, ``pre``
is the vector of its units, channel by channel, row by row. The contrast of two states is the difference of two outer products,

    post_a^T pre_a - post_b^T pre_b  =  (post_a - post_b)^T pre_a + post_b^T (pre_a - pre_b),

taken in the form on the right: EP divides it by a small beta, and a product of differences does not lose the digits
that a difference of products does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from eqprop._core.checks import positive_int
from eqprop.connections.base import Ends, LinearConnection, PreparedConnection

__all__ = ["Dense", "PreparedDense"]

NARROW, TALL = 16, 32
"""Of fewer units and more samples than these, BLAS computes currents faster as their transpose: ten classes up to twice as fast."""


class Dense(LinearConnection):
    """All-to-all weights: ``phi = <post, W pre + b>``, with PyTorch's default initialization of `torch.nn.Linear`.

    Args:
        n_pre: units of the lower population, which may be an image.
        n_post: units of the upper population, a vector.
        bias: whether post has a bias.

    Attributes:
        weight: ``(n_post, n_pre)``.
        bias: ``(n_post,)`` or None.

    Raises:
        ValueError: if a size is not a positive whole number.

    >>> Dense(3, 2).weight.shape
    torch.Size([2, 3])
    """

    def __init__(self, n_pre: int, n_post: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(positive_int("n_post", n_post), positive_int("n_pre", n_pre)))
        self.bias = nn.Parameter(torch.empty(n_post)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W and b from U(-1/sqrt(n_pre), 1/sqrt(n_pre)), as `torch.nn.Linear` does."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight.shape[1])
            nn.init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        """Sizes, as `print(model)` shows them."""
        n_post, n_pre = self.weight.shape
        return f"{n_pre}, {n_post}, bias={self.bias is not None}"

    def phi(self, pre: Tensor, post: Tensor) -> Tensor:
        """``<post, W pre + b>``: ``(B,)``."""
        return (self.up(pre) * post).sum(1)

    def up(self, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """``W pre + b``: ``(B, n_post)``."""
        return F.linear(rows(pre), self.weight, self.bias)

    def fan_out(self, pre: Sequence[int], post: Sequence[int]) -> tuple[Tensor, Tensor]:
        """All of the other population."""
        n_post, n_pre = self.weight.shape
        return torch.full(tuple(pre), n_post, dtype=torch.double), torch.full(tuple(post), n_pre, dtype=torch.double)

    def contrast(self, free: Ends, a: Ends, b: Ends) -> Tensor:
        """``<W, post_a^T pre_a - post_b^T pre_b> + <b, sum(post_a - post_b)>``: the gradient is the bracket itself."""
        step = a.post - b.post
        if a.pre is b.pre:  # a static input
            return pairing(self.weight, self.bias, step, rows(a.pre), step)
        return pairing(self.weight, self.bias, *factors(a, b), step)

    def offset(self) -> Tensor | None:
        """The bias."""
        return self.bias

    def feedback_current(self, feedback: Tensor, post: Tensor, pre: Tensor | None) -> Tensor:
        """``V^T post``: in the shape of ``pre`` if that is given, else ``(B, n_pre)``."""
        down = post @ feedback
        return down if pre is None else down.view_as(pre)

    def contrast_with_feedback(self, feedback: Tensor, free: Ends, a: Ends, b: Ends) -> Tensor:
        """``<W pre* + b, post_a - post_b> + <V^T post*, pre_a - pre_b>``."""
        step = a.post - b.post
        forward = pairing(self.weight, self.bias, step, rows(free.pre), step)
        return forward + pairing(feedback, None, free.post, rows(a.pre - b.pre), step)

    def prepare_with_feedback(self, feedback: Tensor, pre: int, post: int, gains: Sequence[float]) -> "PreparedDense":
        """Both products, each with its addition and its gain in one call."""
        kind = PreparedDense if feedback is self.weight else PreparedUntiedDense
        return kind(self.weight.t(), feedback, pre, post, gains[pre], gains[post])


def rows(s: Tensor) -> Tensor:
    """Every sample as a vector: ``(B, n)``."""
    return s if s.dim() == 2 else s.flatten(1)


def factors(a: Ends, b: Ends) -> tuple[Tensor, Tensor]:
    """``left`` and ``right``, so that ``left^T right = post_a^T pre_a - post_b^T pre_b``: a product of differences."""
    return torch.cat([a.post - b.post, b.post]), rows(torch.cat([a.pre, a.pre - b.pre]))


class _Pairing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor | None, left: Tensor, right: Tensor, step: Tensor) -> Tensor:
        ctx.save_for_backward(weight, left, right, step)
        return weight.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        weight, left, right, step = ctx.saved_tensors
        of_weight, of_bias, _, of_right, _ = ctx.needs_input_grad
        left = left * slopes[0]
        return (
            left.t() @ right if of_weight else None,
            step.sum(0) * slopes[0] if of_bias else None,
            None,
            left @ weight if of_right else None,
            None,
        )


def pairing(weight: Tensor, bias: Tensor | None, left: Tensor, right: Tensor, step: Tensor) -> Tensor:
    """A scalar with the gradient, in ``weight``, ``bias`` and ``right``, of ``<weight, left^T right> + <bias, sum step>``.

    Its value is 0: the true one would cost passes over matrices of the weights' size, and nobody reads it. The gradient
    takes the one product that it must.
    """
    return _Pairing.apply(weight, bias, left, right, step)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class PreparedDense(PreparedConnection):
    """Right factors of the products upwards, ``(n_pre, n_post)``, and downwards, ``(n_post, n_pre)``."""

    up: Tensor
    down: Tensor
    pre: int
    post: int
    gain_pre: float
    gain_post: float

    def add_up(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Product, addition and gain in one call; a tall and narrow result as its transpose."""
        into, pre = u[self.post], rows(a[self.pre])
        if into.shape[1] < NARROW and into.shape[0] >= TALL:
            u[self.post] = torch.addmm(into.t(), self.up.t(), pre.t(), alpha=self.gain_post).t()
        else:
            u[self.post] = torch.addmm(into, pre, self.up, alpha=self.gain_post)

    def add_down(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Product, addition and gain in one call, where pre is a vector."""
        if not self.pre:
            return
        into = u[self.pre]
        if into.dim() == 2:
            u[self.pre] = torch.addmm(into, a[self.post], self.down, alpha=self.gain_pre)
        else:
            u[self.pre] = torch.add(into, (a[self.post] @ self.down).view(into.shape), alpha=self.gain_pre)

    def updated(self, free: Ends, a: Ends, b: Ends, sizes: Sequence[float]) -> "PreparedDense":
        """The wire after its weights went down the gradient of `Dense.contrast`, by ``sizes[0]``; the old one stays."""
        left, right = factors(a, b)
        weight = torch.addmm(self.down, left.t(), right, alpha=-sizes[0])
        return PreparedDense(weight.t(), weight, self.pre, self.post, self.gain_pre, self.gain_post)


@dataclass(frozen=True)
class PreparedUntiedDense(PreparedDense):
    """A wire whose two factors are weights of their own."""

    def updated(self, free: Ends, a: Ends, b: Ends, sizes: Sequence[float]) -> "PreparedUntiedDense":
        """The wire after both went down the gradient of `Dense.contrast_back`, by ``sizes``; the old one stays."""
        forward = torch.addmm(self.up.t(), (a.post - b.post).t(), free.pre, alpha=-sizes[0])
        feedback = torch.addmm(self.down, free.post.t(), a.pre - b.pre, alpha=-sizes[1])
        return PreparedUntiedDense(forward.t(), feedback, self.pre, self.post, self.gain_pre, self.gain_post)
