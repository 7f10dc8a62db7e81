r"""Dense connections: all-to-all weights between two populations.

``phi = <post, W pre + b>``, hence ``up = W pre + b`` and ``down = W^T post``. If the lower population is an image, ``pre`` is its
flattened vector. The contrast of two states is the difference of two outer products,

    post_a^T pre_a - post_b^T pre_b  =  (post_a - post_b)^T pre_a + post_b^T (pre_a - pre_b),

computed in the form on the right. EP divides it by a small beta, and a product of differences keeps the digits that a difference of
products loses.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from eqprop._core.checks import boolean, positive_int
from eqprop._core.derived import derived_from
from eqprop.connections.base import Ends, LinearConnection, PreparedConnection

__all__ = ["Dense", "PreparedDense"]

_MAX_NARROW_UNITS, _MIN_TALL_SAMPLES = 16, 32
"""With fewer units and at least as many samples as these, BLAS computes the transpose of a current up to twice as fast."""


class Dense(LinearConnection):
    """All-to-all weights, ``phi = <post, W pre + b>``, initialized as `torch.nn.Linear`.

    Args:
        n_pre: number of units of the lower population, a vector or an image.
        n_post: number of units of the upper population, a vector.
        bias: whether to add a bias to post.

    Attributes:
        weight: ``(n_post, n_pre)``.
        bias: ``(n_post,)`` or None.

    Raises:
        ArgumentError: if a size is not a positive whole number.

    >>> Dense(3, 2).weight.shape
    torch.Size([2, 3])
    """

    linear = True

    def __init__(self, n_pre: int, n_post: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(positive_int("n_post", n_post), positive_int("n_pre", n_pre)))
        self.bias = nn.Parameter(torch.empty(n_post)) if boolean("bias", bias) else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw ``W`` and ``b`` from U(-1/sqrt(n_pre), 1/sqrt(n_pre)), as `torch.nn.Linear` does."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight.shape[1])
            nn.init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        """Return the sizes for ``repr``."""
        n_post, n_pre = self.weight.shape
        return f"{n_pre}, {n_post}, bias={self.bias is not None}"

    @derived_from("up")
    def phi(self, pre: Tensor, post: Tensor) -> Tensor:
        """Return ``<post, W pre + b>``: ``(B,)``."""
        return (self._up(pre) * post).sum(1)

    @derived_from("phi")
    def up(self, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """Return ``W pre + b``: ``(B, n_post)``."""
        return self._up(pre)

    @derived_from("phi", "up", "feedback_current", "feedback_weight")
    def down(self, post: Tensor, pre: Tensor | None = None) -> Tensor:
        """Return ``W^T post``, in the shape of ``pre`` if that is given, else ``(B, n_pre)``."""
        return self._down(self.weight, post, pre)

    @derived_from("phi", "up", "down", "feedback_current", "feedback_weight")
    def both(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(up, down)``."""
        return self._up(pre), self._down(self.weight, post, pre)

    @derived_from("phi", "up")
    def fan_out(self, pre: Sequence[int], post: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the size of the other population for every unit."""
        n_post, n_pre = self.weight.shape
        return torch.full(tuple(pre), n_post, dtype=torch.double), torch.full(tuple(post), n_pre, dtype=torch.double)

    @derived_from("phi", "up")
    def contrast(self, free: Ends, a: Ends, b: Ends) -> Tensor:
        """Return a scalar with the gradient of ``<W, post_a^T pre_a - post_b^T pre_b> + <b, sum(post_a - post_b)>``."""
        step = a.post - b.post
        if a.pre is b.pre:  # a static input: the second product of the module's formula is zero
            return _pairing(self.weight, self.bias, step, _as_vectors(a.pre), step)
        return _pairing(self.weight, self.bias, *_contrast_factors(a, b), step)

    @derived_from("phi", "up", "down", "both", "feedback_current")
    def offset(self) -> Tensor | None:
        """Return the bias."""
        return self.bias

    @derived_from("phi", "up")
    def feedback_current(self, feedback: Tensor, post: Tensor, pre: Tensor | None) -> Tensor:
        """Return ``V^T post`` for the feedback weights ``V``, in the shape of ``pre`` if that is given, else ``(B, n_pre)``."""
        return self._down(feedback, post, pre)

    @derived_from("phi", "up", "contrast", "feedback_current")
    def contrast_with_feedback(self, feedback: Tensor, free: Ends, a: Ends, b: Ends) -> Tensor:
        """Return a scalar with the gradient of ``<W pre* + b, post_a - post_b> + <V^T post*, pre_a - pre_b>``."""
        step = a.post - b.post
        forward = _pairing(self.weight, self.bias, step, _as_vectors(free.pre), step)
        return forward + _pairing(feedback, None, free.post, _as_vectors(a.pre - b.pre), step)

    @derived_from("phi", "up", "down", "both", "feedback_current", "feedback_weight", "offset", "prepare_with_feedback")
    def prepare(self, pre: int, post: int, gains: Sequence[float]) -> "PreparedDense":
        """Prepare two matrix products that include addition and gain."""
        return self._prepare(self.weight, pre, post, gains)

    @derived_from("phi", "up", "down", "both", "feedback_current", "offset", "prepare")
    def prepare_with_feedback(self, feedback: Tensor, pre: int, post: int, gains: Sequence[float]) -> "PreparedDense":
        """Prepare two matrix products that include addition and gain, the downward one with ``feedback``."""
        return self._prepare(feedback, pre, post, gains)

    def _up(self, pre: Tensor) -> Tensor:
        return F.linear(_as_vectors(pre), self.weight, self.bias)

    def _down(self, feedback: Tensor, post: Tensor, pre: Tensor | None) -> Tensor:
        down = post @ feedback
        return down if pre is None else down.view_as(pre)

    def _prepare(self, feedback: Tensor, pre: int, post: int, gains: Sequence[float]) -> "PreparedDense":
        kind = PreparedDense if feedback is self.weight else PreparedUntiedDense
        return kind(pre, post, gains[pre], gains[post], self.weight.t(), feedback)


def _as_vectors(s: Tensor) -> Tensor:
    return s if s.dim() == 2 else s.flatten(1)


def _contrast_factors(a: Ends, b: Ends) -> tuple[Tensor, Tensor]:
    """Return ``left`` and ``right`` with ``left^T right = post_a^T pre_a - post_b^T pre_b``, as a product of differences."""
    return torch.cat([a.post - b.post, b.post]), _as_vectors(torch.cat([a.pre, a.pre - b.pre]))


class _Pairing(torch.autograd.Function):
    """Has the value 0 and the gradient of `_pairing`."""

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


def _pairing(weight: Tensor, bias: Tensor | None, left: Tensor, right: Tensor, step: Tensor) -> Tensor:
    """Return a scalar with the gradient, in ``weight``, ``bias`` and ``right``, of ``<weight, left^T right> + <bias, sum step>``.

    Its value is 0. The true value is not used, and computing it would take passes over matrices of the size of the weights.
    """
    return _Pairing.apply(weight, bias, left, right, step)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class PreparedDense(PreparedConnection):
    """A dense connection prepared for settling.

    Attributes:
        up: right factor of the upward product, ``(n_pre, n_post)``.
        down: right factor of the downward product, ``(n_post, n_pre)``.
    """

    up: Tensor
    down: Tensor

    def add_up(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Add the current into post; ``addmm`` fuses product, addition and gain."""
        into, pre = u[self.post], _as_vectors(a[self.pre])
        if into.shape[1] < _MAX_NARROW_UNITS and into.shape[0] >= _MIN_TALL_SAMPLES:
            u[self.post] = torch.addmm(into.t(), self.up.t(), pre.t(), alpha=self.gain_post).t()
        else:
            u[self.post] = torch.addmm(into, pre, self.up, alpha=self.gain_post)

    def add_down(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Add the current into pre."""
        if not self.pre:
            return
        into = u[self.pre]
        if into.dim() == 2:  # pre is a vector; an image needs a reshape between product and addition
            u[self.pre] = torch.addmm(into, a[self.post], self.down, alpha=self.gain_pre)
        else:
            u[self.pre] = torch.add(into, (a[self.post] @ self.down).view(into.shape), alpha=self.gain_pre)

    def updated(self, free: Ends, a: Ends, b: Ends, sizes: Sequence[float]) -> "PreparedDense":
        """Return a copy whose weights took a step of size ``sizes[0]`` down the gradient of `Dense.contrast`."""
        left, right = _contrast_factors(a, b)
        weight = torch.addmm(self.down, left.t(), right, alpha=-sizes[0])
        return replace(self, up=weight.t(), down=weight)


@dataclass(frozen=True)
class PreparedUntiedDense(PreparedDense):
    """A prepared dense connection with separate feedback weights."""

    def updated(self, free: Ends, a: Ends, b: Ends, sizes: Sequence[float]) -> "PreparedUntiedDense":
        """Return a copy whose forward and feedback weights took steps down the gradient of `Dense.contrast_with_feedback`."""
        forward = torch.addmm(self.up.t(), (a.post - b.post).t(), free.pre, alpha=-sizes[0])
        feedback = torch.addmm(self.down, free.post.t(), a.pre - b.pre, alpha=-sizes[1])
        return replace(self, up=forward.t(), down=feedback)
