r"""Untied weights: separate feedback weights at an initial angle to the forward weights (vector-field dynamics).

Without symmetric weights there is no Phi. The update of Ernoult et al. (2020), section 4 (C-VF, summed over the nudged phase),
pairs the currents at the free state ``s*`` with the displacement that the nudge causes:

    gradient  =  d/dtheta  <u(s*), a - b> / norm,        u = W_f pre (+ b) into post, and W_b^T post into pre.

It pairs pre-activations ``u``, not ``rho(u)``, which would count ``rho'`` twice. It takes ``u`` at the free state: at one of the
nudged states, the centred estimate would lose an order of beta.
"""

import copy
import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eqprop._core.checks import ArgumentError, angle_in_degrees, describe_value
from eqprop._core.derived import derived_from
from eqprop.activations import Activation
from eqprop.connections.base import Connection, Ends, LinearConnection, PreparedConnection

__all__ = ["SeparateFeedback", "Untied"]


class SeparateFeedback(Connection):
    """Base class of connections whose downward current uses other weights than the upward one, so that there is no Phi."""

    linear = True

    @property
    @abstractmethod
    def forward_connection(self) -> LinearConnection:
        """The connection of the upward current, including the bias."""

    @abstractmethod
    def feedback_weight(self) -> Tensor:
        """Return the weights of the downward current, of the shape of the forward weights."""

    def phi(self, pre: Tensor, post: Tensor) -> Tensor:
        """Raise a ValueError: without symmetric weights there is no primitive function."""
        name = type(self).__name__.lower()
        raise ValueError(f"{name} weights have no primitive function Phi: ask for `currents`, or tie the weights")

    def up(self, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """Return the current into post: ``(B, *post_shape)``."""
        return self.forward_connection.up(pre)

    def down(self, post: Tensor, pre: Tensor | None = None) -> Tensor:
        """Return the current into pre. ``pre`` gives its shape and is required if it is an image."""
        return self.forward_connection.feedback_current(self.feedback_weight(), post, pre)

    def both(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(up, down)``."""
        return self.up(pre), self.down(post, pre)

    def contrast(self, free: Ends, a: Ends, b: Ends) -> Tensor:
        """Return ``<up*, post_a - post_b> + <down*, pre_a - pre_b>``, summed over samples, with the currents at the free state."""
        up, down = self.up(free.pre, free.post), self.down(free.post, free.pre)
        return (up * (a.post - b.post)).sum() + (down * (a.pre - b.pre)).sum()

    def fan_out(self, pre: Sequence[int], post: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the fan-out of the forward connection."""
        return self.forward_connection.fan_out(pre, post)

    @derived_from("up", "down", "both")
    def offset(self) -> Tensor | None:
        """Return the bias."""
        return self.forward_connection.offset()

    def check_activation(self, post: Activation) -> None:
        """Check the activation for the forward connection."""
        self.forward_connection.check_activation(post)

    @derived_from("up", "down", "both", "offset")
    def prepare(self, pre: int, post: int, gains: Sequence[float]) -> PreparedConnection:
        """Prepare the connection; the feedback weights are computed once."""
        return self.forward_connection.prepare_with_feedback(self.feedback_weight(), pre, post, gains)


class Untied(SeparateFeedback):
    """A dense connection or a convolution with separate feedback weights.

    The feedback weights are initialized to the forward weights with the sign of each entry flipped with probability
    ``(1 - cos angle) / 2``, so that the expected angle between the two is ``angle`` (Ernoult et al. 2020, appendix).

    Args:
        forward: the forward connection; it is copied.
        angle: initial angle between forward and feedback weights, in degrees from 0 to 180.

    Attributes:
        upward: the forward connection, including the bias.
        feedback: feedback weights, of the shape of the forward weights; the downward current uses their transpose.

    Raises:
        ArgumentError: if the angle is not between 0 and 180 degrees, or ``forward`` is neither a `Dense` nor a `Conv2d`.

    >>> from eqprop import Dense
    >>> Untied(Dense(3, 2)).feedback.shape
    torch.Size([2, 3])
    """

    def __init__(self, forward: LinearConnection, angle: float = 0.0) -> None:
        super().__init__()
        angle_in_degrees("angle", angle)
        if not isinstance(forward, LinearConnection):
            raise ArgumentError("forward", f"`forward` must be a Dense or a Conv2d, got {describe_value(forward)}")
        forward.check_separate_feedback()
        self.upward = copy.deepcopy(forward)
        self.feedback = nn.Parameter(_flip_signs(self.upward.weight.detach(), angle))

    @property
    def forward_connection(self) -> LinearConnection:
        """The connection of the upward current."""
        return self.upward

    def feedback_weight(self) -> nn.Parameter:
        """Return the feedback weights, ``W_b``."""
        return self.feedback

    @derived_from("up", "down", "both")
    def contrast(self, free: Ends, a: Ends, b: Ends) -> Tensor:
        """Return a scalar with the gradient of ``<W_f pre* + b, post_a - post_b> + <W_b^T post*, pre_a - pre_b>``."""
        return self.upward.contrast_with_feedback(self.feedback_weight(), free, a, b)


def _flip_signs(weight: Tensor, angle: float) -> Tensor:
    """Return a copy with random sign flips whose expected angle to ``weight`` is ``angle`` degrees."""
    flip = torch.rand_like(weight) < (1 - math.cos(math.radians(angle))) / 2
    return torch.where(flip, -weight, weight)
