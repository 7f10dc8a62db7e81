r"""Connections: the terms of the primitive function Phi.

A connection between the activities ``pre`` and ``post`` of two populations contributes ``phi(pre, post)``, one scalar a
sample, to ``Phi``. The currents that it sends are the partial derivatives of that scalar,

    up = dphi/dpost   (into post)          down = dphi/dpre   (into pre),

so that one set of weights serves both directions, the second by its adjoint. Its contrast is the sum over samples of
``phi(a) - phi(b)`` between two states; its gradient is the connection's part of the EP estimate.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from eqprop.activations import Activation

__all__ = ["Connection", "Ends", "LinearConnection", "PreparedConnection"]


class Ends(NamedTuple):
    """Activities at the two ends of a connection, ``(B, *shape)`` each."""

    pre: Tensor
    post: Tensor


class PreparedConnection(ABC):
    """A connection made ready for settling: weights in the layout and the scale that the loop wants.

    Made anew whenever the weights may have changed; differentiable with respect to them.
    """

    pre: int
    post: int

    @abstractmethod
    def add_up(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Add the scaled current into post for the activities ``a`` to the list ``u``, both by population."""

    @abstractmethod
    def add_down(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Add the scaled current into pre; nothing if that is the input."""

    def add(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Add both currents; a wire whose directions share work does it here."""
        self.add_up(u, a)
        self.add_down(u, a)

    def specialize(self, a: Sequence[Tensor]) -> "PreparedConnection":
        """This wire with what pre alone decides worked out for both ways: as good as itself as long as pre stands still."""
        return self

    def repeat(self, n: int) -> "PreparedConnection":
        """This wire for the batch repeated ``n`` times: itself, unless it tells samples apart by their place."""
        return self


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

    multiple: int = 1
    """Batches must hold a multiple of so many samples; more than 1 only where samples are told apart by their place."""

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

    def offsets(self, batch: int) -> Tensor | None:
        """`offset` as it is added to a batch of so many samples: itself, where all have the same."""
        return self.offset()

    def fan_out(self, pre: Sequence[int], post: Sequence[int]) -> tuple[Tensor, Tensor]:
        """To how many units a unit's activity goes: upwards, of the shape ``pre``, and downwards, of the shape ``post``; float64.

        Raises:
            ValueError: if it is not known, or not the same in every state.
        """
        raise ValueError(
            f"{type(self).__name__} does not tell to how many units each unit is joined: give it a `fan_out`"
        )

    def check_activation(self, post: Activation) -> None:
        """Refuse an activation of the upper population with which the dynamics cannot settle; asked where pre relaxes.

        Raises:
            ValueError: if there is a reason.
        """

    def prepare(self, pre: int, post: int, gains: Sequence[float]) -> PreparedConnection:
        """This connection, ready to carry currents between the populations ``pre`` and ``post`` in a settling loop.

        Args:
            pre: number of the lower population; the input, 0, receives no current.
            post: number of the upper population.
            gains: by population, what its currents are multiplied with.
        """
        return _AnyWire(self, pre, post, gains[pre], gains[post])


class LinearConnection(Connection):
    """A connection linear in its weights and in ``post``, whose weights may be replaced by others on the way down.

    Attributes:
        weight: upwards, and downwards unless replaced.
        bias: of the upper population, or None.
    """

    linear = True
    weight: nn.Parameter
    bias: nn.Parameter | None

    @abstractmethod
    def feedback_current(self, feedback: Tensor, post: Tensor, pre: Tensor | None) -> Tensor:
        """The current into pre through weights ``feedback``, of the shape of ``weight``."""

    @abstractmethod
    def contrast_with_feedback(self, feedback: Tensor, free: Ends, a: Ends, b: Ends) -> Tensor:
        """The contrast where ``feedback`` are weights of their own: see `eqprop.connections.untied`."""

    @abstractmethod
    def prepare_with_feedback(
        self, feedback: Tensor, pre: int, post: int, gains: Sequence[float]
    ) -> PreparedConnection:
        """The wire whose way down goes through ``feedback``."""

    def down(self, post: Tensor, pre: Tensor | None = None) -> Tensor:
        """The current into pre, in its shape; where ``pre`` is an image it must be given."""
        return self.feedback_current(self.weight, post, pre)

    def both(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """``(up, down)``."""
        return self.up(pre), self.down(post, pre)

    def prepare(self, pre: int, post: int, gains: Sequence[float]) -> PreparedConnection:
        """The wire with one set of weights."""
        return self.prepare_with_feedback(self.weight, pre, post, gains)


@dataclass(frozen=True)
class _AnyWire(PreparedConnection):
    connection: Connection
    pre: int
    post: int
    gain_pre: float
    gain_post: float

    def add_up(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        u[self.post] = torch.add(u[self.post], self.connection.up(a[self.pre], a[self.post]), alpha=self.gain_post)

    def add_down(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        if self.pre:
            u[self.pre] = torch.add(u[self.pre], self.connection.down(a[self.post], a[self.pre]), alpha=self.gain_pre)

    def add(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        up, down = self.connection.both(a[self.pre], a[self.post])
        u[self.post] = torch.add(u[self.post], up, alpha=self.gain_post)
        if self.pre:
            u[self.pre] = torch.add(u[self.pre], down, alpha=self.gain_pre)
