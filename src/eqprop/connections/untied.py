r"""Untied weights: feedback of its own, at an initial angle to the forward weights (vector-field dynamics).

Without symmetry there is no Phi. The update of Ernoult et al. (2020), section 4, pairs the current of each weight at the
free state ``s*`` with the displacement that the nudge causes (their C-VF rule, summed over the nudged phase):

    gradient  =  d/dtheta  <u(s*), a - b> / norm,        u = W_f pre (+ b) into post, and W_b^T post into pre.

Pre-activations ``u`` are paired, not ``rho(u)``, which would count ``rho'`` twice; and ``u`` is taken at the free state: at
one of the nudged states, the centred estimate would lose an order of beta.
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eqprop._core.checks import angle_in_degrees
from eqprop.activations import Activation
from eqprop.connections.base import Connection, Ends, LinearConnection, PreparedConnection

__all__ = ["Untied"]


class Untied(Connection):
    """A dense connection or a convolution with feedback weights of its own.

    The feedback weights start as the forward ones, each entry's sign flipped with probability ``(1 - cos angle) / 2``, so
    that the expected angle between the two is ``angle`` (Ernoult et al. 2020, appendix).

    Args:
        forward: the connection upwards, of which a copy is taken; its bias is the only one.
        angle: initial angle between forward and feedback weights, in degrees, from 0 to 180.

    Attributes:
        upward: the forward connection.
        feedback: of the forward weights' shape; used transposed, downwards.

    Raises:
        ValueError: if the angle is not within 0 and 180 degrees, or ``forward`` is neither a `Dense` nor a `Conv2d`.

    >>> from eqprop import Dense
    >>> Untied(Dense(3, 2)).feedback.shape
    torch.Size([2, 3])
    """

    linear = True

    def __init__(self, forward: LinearConnection, angle: float = 0.0) -> None:
        super().__init__()
        angle_in_degrees("angle", angle)
        if not isinstance(forward, LinearConnection):
            raise ValueError(f"`forward` must be a Dense or a Conv2d, got {forward!r}")
        self.upward = copy.deepcopy(forward)
        self.feedback = nn.Parameter(turned(self.upward.weight.detach(), angle))

    def phi(self, pre: Tensor, post: Tensor) -> Tensor:
        """Raises ValueError: without symmetric weights there is no primitive function."""
        raise ValueError("untied weights have no primitive function Phi: ask for `currents`, or tie the weights")

    def up(self, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """``W_f pre + b``: ``(B, n_post)``."""
        return self.upward.up(pre)

    def down(self, post: Tensor, pre: Tensor | None = None) -> Tensor:
        """``W_b^T post``: in the shape of ``pre``, which must be given where it is an image."""
        return self.upward.feedback_current(self.feedback, post, pre)

    def both(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """``(W_f pre + b, W_b^T post)``."""
        return self.up(pre), self.down(post, pre)

    def contrast(self, free: Ends, a: Ends, b: Ends) -> Tensor:
        """``<W_f pre* + b, post_a - post_b> + <W_b^T post*, pre_a - pre_b>``."""
        return self.upward.contrast_with_feedback(self.feedback, free, a, b)

    def fan_out(self, pre: Sequence[int], post: Sequence[int]) -> tuple[Tensor, Tensor]:
        """As the forward connection."""
        return self.upward.fan_out(pre, post)

    def offset(self) -> Tensor | None:
        """The bias."""
        return self.upward.offset()

    def check_activation(self, post: Activation) -> None:
        """As the forward connection."""
        self.upward.check_activation(post)

    def prepare(self, pre: int, post: int, gains: Sequence[float]) -> PreparedConnection:
        """The ways up and down by weights of their own."""
        return self.upward.prepare_with_feedback(self.feedback, pre, post, gains)


def turned(weight: Tensor, angle: float) -> Tensor:
    """A copy with random sign flips whose expected angle to ``weight`` is ``angle`` degrees."""
    flip = torch.rand_like(weight) < (1 - math.cos(math.radians(angle))) / 2
    return torch.where(flip, -weight, weight)
