r"""Connections: the terms of the primitive function Phi.

A connection between the activities ``pre`` and ``post`` of two populations contributes ``phi(pre, post)``, one scalar a
sample, to ``Phi``. The currents that it sends are the partial derivatives of that scalar,

    up = dphi/dpost   (into post)          down = dphi/dpre   (into pre),

so that one set of weights serves both directions, the second by its adjoint. For a dense layer
``phi = <post, W pre + b>``, hence ``up = W pre + b`` and ``down = W^T post``.

Its contrast is the sum over samples of ``phi(a) - phi(b)`` between two states; its gradient is the connection's part of
the EP estimate. For a dense layer that is the difference of two outer products,

    post_a^T pre_a - post_b^T pre_b  =  (post_a - post_b)^T pre_a + post_b^T (pre_a - pre_b),

taken in the form on the right: EP divides it by a small beta, and a product of differences does not lose the digits
that a difference of products does.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from eqprop.checks import positive_int

__all__ = ["Connection", "Dense", "DenseWire", "Ends", "Wire", "pairing"]


class Ends(NamedTuple):
    """Activities at the two ends of a connection, ``(B, *shape)`` each."""

    pre: Tensor
    post: Tensor


class Wire(ABC):
    """A connection made ready for settling: weights in the layout and the scale that the loop wants.

    Made anew whenever the weights may have changed; differentiable with respect to them.
    """

    @abstractmethod
    def add(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Add this connection's scaled currents for the activities ``a`` to the list ``u``, both by population."""


class Connection(nn.Module, ABC):
    """A term ``phi(pre, post)`` of Phi. A user's own needs only `phi`; currents are then taken by autograd.

    >>> import torch
    >>> class Hadamard(Connection):
    ...     def phi(self, pre, post):
    ...         return (pre * post).sum(1)
    >>> up, down = Hadamard().both(torch.ones(1, 2), torch.zeros(1, 2))
    >>> up, down
    (tensor([[1., 1.]]), tensor([[0., 0.]]))
    """

    linear: ClassVar[bool] = False
    """True promises that `phi` is linear in ``post``: then `up` does not depend on it, and the current of a static
    input is computed once a batch."""

    @abstractmethod
    def phi(self, pre: Tensor, post: Tensor) -> Tensor:
        """The term of Phi: ``(B, *pre_shape), (B, *post_shape) -> (B,)``, each sample on its own."""

    def up(self, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """Current into post, ``dphi/dpost``: ``(B, *post_shape)``. ``post`` is needed only if phi is not linear in it."""
        if post is None:
            raise ValueError(f"{type(self).__name__} supplies only `phi`: call `up(pre, post)` or `both(pre, post)`")
        return self.both(pre, post)[0]

    def down(self, post: Tensor, pre: Tensor | None = None) -> Tensor:
        """Current into pre, ``dphi/dpre``: ``(B, *pre_shape)``. ``pre`` is needed only if phi is not linear in it."""
        if pre is None:
            raise ValueError(f"{type(self).__name__} supplies only `phi`: call `down(post, pre)` or `both(pre, post)`")
        return self.both(pre, post)[1]

    def both(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """``(up, down)``, sharing their work; differentiable where gradients are enabled."""
        differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in (pre, post, *self.parameters()))
        with torch.enable_grad():
            # Two aliases, because the ends of a self-connection are one tensor.
            ends = [
                s.view_as(s) if differentiable and s.requires_grad else s.detach().requires_grad_() for s in (pre, post)
            ]
            phi = self.phi(*ends)
            if phi.shape != pre.shape[:1]:
                raise ValueError(
                    f"`phi` of {type(self).__name__} must give one scalar a sample, {tuple(pre.shape[:1])}, got {tuple(phi.shape)}"
                )
            down, up = torch.autograd.grad(
                phi.sum(), ends, create_graph=differentiable, allow_unused=True, materialize_grads=True
            )
        return up, down

    def contrast(self, free: Ends, a: Ends, b: Ends) -> Tensor:
        """A scalar with the gradient of ``sum over samples of phi(a) - phi(b)``; its value has no meaning.

        The gradient is that in the parameters and in ``pre`` if this is the same tensor, a static input, in every state.

        Args:
            free: ends in the free state, for connections that have no phi.
            a: ends in the first state.
            b: ends in the second state.
        """
        return (self.phi(*a) - self.phi(*b)).sum()

    def offset(self) -> Tensor | None:
        """The part of the current into post that depends on no activity and that `wire` therefore leaves out."""
        return None

    def wire(self, pre: int, post: int, gains: Sequence[float]) -> Wire:
        """This connection, ready to carry currents between the populations ``pre`` and ``post`` in a settling loop.

        Args:
            pre: number of the lower population; the input, 0, receives no current.
            post: number of the upper population.
            gains: by population, what its currents are multiplied with.
        """
        return _AnyWire(self, pre, post, gains[pre], gains[post])


@dataclass(frozen=True)
class _AnyWire(Wire):
    connection: Connection
    pre: int
    post: int
    gain_pre: float
    gain_post: float

    def add(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        up, down = self.connection.both(a[self.pre], a[self.post])
        u[self.post] = torch.add(u[self.post], up, alpha=self.gain_post)
        if self.pre:
            u[self.pre] = torch.add(u[self.pre], down, alpha=self.gain_pre)


class Dense(Connection):
    """All-to-all weights: ``phi = <post, W pre + b>``, with PyTorch's default initialisation of `torch.nn.Linear`.

    Args:
        n_pre: units of the lower population.
        n_post: units of the upper population.
        bias: whether post has a bias.

    Attributes:
        weight: ``(n_post, n_pre)``.
        bias: ``(n_post,)`` or None.

    Raises:
        ValueError: if a size is not a positive whole number.

    >>> Dense(3, 2).weight.shape
    torch.Size([2, 3])
    """

    linear = True

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
        return F.linear(pre, self.weight, self.bias)

    def down(self, post: Tensor, pre: Tensor | None = None) -> Tensor:
        """``W^T post``: ``(B, n_pre)``."""
        return post @ self.weight

    def both(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """``(W pre + b, W^T post)``."""
        return self.up(pre), self.down(post)

    def contrast(self, free: Ends, a: Ends, b: Ends) -> Tensor:
        """``<W, post_a^T pre_a - post_b^T pre_b> + <b, sum(post_a - post_b)>``: the gradient is the bracket itself."""
        step = a.post - b.post
        if a.pre is b.pre:  # a static input
            return pairing(self.weight, self.bias, step, a.pre, step)
        return pairing(self.weight, self.bias, *factors(a, b), step)

    def offset(self) -> Tensor | None:
        """The bias."""
        return self.bias

    def wire(self, pre: int, post: int, gains: Sequence[float]) -> Wire:
        """Both products, each with its addition and its gain in one call."""
        return DenseWire(self.weight.t(), self.weight, pre, post, gains[pre], gains[post])


def factors(a: Ends, b: Ends) -> tuple[Tensor, Tensor]:
    """``left`` and ``right``, so that ``left^T right = post_a^T pre_a - post_b^T pre_b``: a product of differences."""
    return torch.cat([a.post - b.post, b.post]), torch.cat([a.pre, a.pre - b.pre])


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
class DenseWire(Wire):
    """Right factors of the products upwards, ``(n_pre, n_post)``, and downwards, ``(n_post, n_pre)``."""

    up: Tensor
    down: Tensor
    pre: int
    post: int
    gain_pre: float
    gain_post: float

    def add(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """One product, addition and gain in each direction."""
        u[self.post] = torch.addmm(u[self.post], a[self.pre], self.up, alpha=self.gain_post)
        if self.pre:
            u[self.pre] = torch.addmm(u[self.pre], a[self.post], self.down, alpha=self.gain_pre)

    def moved(self, free: Ends, a: Ends, b: Ends, sizes: Sequence[float]) -> "DenseWire":
        """The wire after its weights went down the gradient of `Dense.contrast`, by ``sizes[0]``; the old one stays."""
        left, right = factors(a, b)
        weight = torch.addmm(self.down, left.t(), right, alpha=-sizes[0])
        return DenseWire(weight.t(), weight, self.pre, self.post, self.gain_pre, self.gain_post)
