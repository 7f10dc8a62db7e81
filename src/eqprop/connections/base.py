r"""Connections: the terms of the primitive function Phi.

A connection between the activities ``pre`` and ``post`` of two populations contributes ``phi(pre, post)``, one scalar per sample,
to ``Phi``. Its currents are the partial derivatives of that scalar,

    up = dphi/dpost   (into post)          down = dphi/dpre   (into pre),

so that one set of weights serves both directions, the second one by its adjoint. Its contrast is ``phi(a) - phi(b)`` summed over
the samples, for two states ``a`` and ``b``; the gradient of the contrast is the connection's part of the EP estimate.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Tensor, nn

from eqprop._core.checks import ArgumentError
from eqprop._core.derived import replace_stale
from eqprop.activations import Activation

__all__ = ["Connection", "Ends", "LinearConnection", "PreparedConnection"]


class Ends(NamedTuple):
    """Activities at the two ends of a connection, each ``(B, *shape)``."""

    pre: Tensor
    post: Tensor


@dataclass(frozen=True)
class PreparedConnection(ABC):
    """A connection with its weights in the layout and scale that the settling loop needs; returned by `Connection.prepare`.

    Valid as long as the weights do not change, and differentiable with respect to them. Its methods replace entries of a list
    ``u`` of currents and read a list ``a`` of activities; both are indexed by population.

    Attributes:
        pre: number of the lower population; no current flows into it if it is the input, 0.
        post: number of the upper population.
        gain_pre: factor of the current into pre.
        gain_post: factor of the current into post.
    """

    pre: int
    post: int
    gain_pre: float
    gain_post: float

    @abstractmethod
    def add_up(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Add the scaled current into post to ``u[post]``."""

    @abstractmethod
    def add_down(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Add the scaled current into pre to ``u[pre]``, unless pre is the input."""

    def add(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Add both currents. Override this if the two directions share work."""
        self.add_up(u, a)
        self.add_down(u, a)

    def specialize(self, a: Sequence[Tensor]) -> "PreparedConnection":
        """Return a copy specialized for the current activity of pre; valid while that is unchanged."""
        return self

    def repeat(self, n: int) -> "PreparedConnection":
        """Return the prepared connection for the batch repeated ``n`` times: ``self`` unless samples are treated differently."""
        return self


class Connection(nn.Module, ABC):
    """Base class of connections. A subclass needs only `phi`; autograd then computes the currents.

    A subclass of `Dense` or `Conv2d` may override any method alone. What these classes derive from it by hand is then replaced by
    autograd of `phi`, and `Network` checks that the currents are still those of `phi`.

    >>> import torch
    >>> class Hadamard(Connection):
    ...     def phi(self, pre, post):
    ...         return (pre * post).sum(1)
    >>> up, down = Hadamard().both(torch.ones(1, 2), torch.zeros(1, 2))
    >>> up, down
    (tensor([[1., 1.]]), tensor([[0., 0.]]))
    """

    linear: ClassVar[bool] = False
    """Whether `phi` is linear in ``post``. Then `up` does not depend on ``post``, and the current of a static input is computed
    once per batch. A subclass that overrides `phi` states it anew."""

    batch_multiple: int = 1
    """The batch size must be a multiple of this; more than 1 only for connections that treat samples by their position."""

    feedback_gain: int = 1
    """Factor between `down` and ``dphi/dpre``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        replace_stale(cls, {"linear": "phi"})

    @abstractmethod
    def phi(self, pre: Tensor, post: Tensor) -> Tensor:
        """Return the term of Phi, ``(B,)``, for ``(B, *pre_shape)`` and ``(B, *post_shape)``; samples must not interact."""

    def up(self, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """Return the current into post, ``dphi/dpost``: ``(B, *post_shape)``. ``post`` is needed unless phi is linear in it."""
        if post is None:
            raise ValueError(f"{type(self).__name__} supplies only `phi`: call `up(pre, post)` or `both(pre, post)`")
        return self._gradients(pre, post)[0]

    def down(self, post: Tensor, pre: Tensor | None = None) -> Tensor:
        """Return the current into pre, ``dphi/dpre``: ``(B, *pre_shape)``. ``pre`` is needed unless phi is linear in it."""
        if pre is None:
            raise ValueError(f"{type(self).__name__} supplies only `phi`: call `down(post, pre)` or `both(pre, post)`")
        return self._gradients(pre, post)[1]

    def both(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(up, down)``, sharing their work; differentiable where gradients are enabled."""
        kind = type(self)
        if kind.up is Connection.up and kind.down is Connection.down:
            return self._gradients(pre, post)
        return self.up(pre, post), self.down(post, pre)

    def _gradients(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(dphi/dpost, dphi/dpre)`` by autograd."""
        differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in (pre, post, *self.parameters()))
        with torch.enable_grad():
            # Two aliases, because both ends of a lateral connection are the same tensor.
            ends = [
                s.view_as(s) if differentiable and s.requires_grad else s.detach().requires_grad_() for s in (pre, post)
            ]
            phi = self.phi(*ends)
            if phi.shape != pre.shape[:1]:
                raise ValueError(
                    f"`phi` of {type(self).__name__} must return one scalar per sample, {tuple(pre.shape[:1])}, "
                    f"got {tuple(phi.shape)}"
                )
            down, up = torch.autograd.grad(
                phi.sum(), ends, create_graph=differentiable, allow_unused=True, materialize_grads=True
            )
        return up, down

    def contrast(self, free: Ends, a: Ends, b: Ends) -> Tensor:
        """Return a scalar with the gradient of ``phi(a) - phi(b)``, summed over samples; its value is arbitrary.

        The gradient is with respect to the parameters, and to ``pre`` if this is the same tensor, a static input, in all states.

        Args:
            free: ends in the free state, for connections that have no phi.
            a: ends in the first state.
            b: ends in the second state.
        """
        return (self.phi(*a) - self.phi(*b)).sum()

    def offset(self) -> Tensor | None:
        """Return the part of the current into post that does not depend on the activities, as a bias. `prepare` leaves it out."""
        return None

    def batch_offset(self, batch: int) -> Tensor | None:
        """Return `offset` in a shape that broadcasts to a batch of that size."""
        return self.offset()

    def fan_out(self, pre: Sequence[int], post: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return how many units each unit's activity reaches: upward, of shape ``pre``, and downward, of shape ``post``; float64.

        Raises:
            ValueError: if the number is unknown or depends on the state.
        """
        raise ValueError(
            f"{type(self).__name__} does not tell to how many units each unit is joined: give it a `fan_out`"
        )

    def check_activation(self, post: Activation) -> None:
        """Check the activation of the upper population; called where pre relaxes.

        Raises:
            ArgumentError: if the dynamics cannot settle with this activation.
        """

    def prepare(self, pre: int, post: int, gains: Sequence[float]) -> PreparedConnection:
        """Prepare the connection for a settling loop.

        Args:
            pre: number of the lower population; the input, 0, receives no current.
            post: number of the upper population.
            gains: factors of the currents, by population.
        """
        return _PreparedByAutograd(pre, post, gains[pre], gains[post], self)


class LinearConnection(Connection):
    """A connection that is linear in its weights and in ``post``, and that can send its downward current through other weights.

    Each method of a subclass that is marked as derived uses the subclass's own formula, never an overridable method, so that
    ``super()`` works in overrides. The methods here call each other and replace those that an override makes stale.

    Attributes:
        weight: weights of both directions, unless the feedback weights are replaced.
        bias: bias of the upper population, or None.
    """

    linear = True
    weight: nn.Parameter
    bias: nn.Parameter | None

    @property
    @final
    def forward_connection(self) -> "LinearConnection":
        """The connection of the upward current: ``self``."""
        return self

    def feedback_weight(self) -> nn.Parameter:
        """Return the weights of the downward current: ``weight``."""
        return self.weight

    def feedback_current(self, feedback: Tensor, post: Tensor, pre: Tensor | None) -> Tensor:
        """Return the current into pre through the weights ``feedback``, of the shape of ``weight``.

        Raises:
            ArgumentError: by default, and where a subclass overrides the function that the current was derived from.
        """
        raise self._unknown_feedback("feedback_current")

    def contrast_with_feedback(self, feedback: Tensor, free: Ends, a: Ends, b: Ends) -> Tensor:
        """Return the contrast if ``feedback`` are separate weights (`eqprop.connections.untied`); raises as `feedback_current`."""
        raise self._unknown_feedback("contrast_with_feedback")

    def prepare_with_feedback(
        self, feedback: Tensor, pre: int, post: int, gains: Sequence[float]
    ) -> PreparedConnection:
        """Prepare the connection with the downward current through ``feedback``; raises as `feedback_current`."""
        raise self._unknown_feedback("prepare_with_feedback")

    def check_separate_feedback(self) -> None:
        """Check that the connection can send its downward current through other weights.

        Raises:
            ArgumentError: if a subclass overrides what the methods for that were derived from, but not these methods.
        """
        for name in ("feedback_current", "contrast_with_feedback", "prepare_with_feedback"):
            if not self._knows(name):
                raise self._unknown_feedback(name)

    def _knows(self, name: str) -> bool:
        """Return whether the class has a method of that name other than the one here, which raises."""
        return getattr(type(self), name) is not getattr(LinearConnection, name)

    def _unknown_feedback(self, name: str) -> ArgumentError:
        return ArgumentError(
            "forward",
            f"{type(self).__name__} has currents of its own: separate feedback weights need `{name}`, override it too",
        )

    def phi(self, pre: Tensor, post: Tensor) -> Tensor:
        """Return ``<post, up(pre)>``: ``(B,)``."""
        return (self.up(pre, post) * post).flatten(1).sum(1)

    def down(self, post: Tensor, pre: Tensor | None = None) -> Tensor:
        """Return the current into pre. ``pre`` gives its shape and is required if it is an image."""
        if self._knows("feedback_current"):
            return self.feedback_current(self.feedback_weight(), post, pre)
        return super().down(post, pre)

    def prepare(self, pre: int, post: int, gains: Sequence[float]) -> PreparedConnection:
        """Prepare the connection with one set of weights for both directions."""
        if self._knows("prepare_with_feedback"):
            return self.prepare_with_feedback(self.feedback_weight(), pre, post, gains)
        return super().prepare(pre, post, gains)


@dataclass(frozen=True)
class _PreparedByAutograd(PreparedConnection):
    """Calls the methods of a connection, for connections without an optimized loop."""

    connection: Connection

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
