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
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eqprop.checks import angle_in_degrees, instance
from eqprop.connections import Connection, Dense, DenseWire, Ends, Wire, pairing

__all__ = ["Untied"]


class Untied(Connection):
    """A dense connection with feedback weights of its own.

    The feedback weights start as the forward ones, each entry's sign flipped with probability ``(1 - cos angle) / 2``, so
    that the expected angle between the two is ``angle`` (Ernoult et al. 2020, appendix).

    Args:
        forward: the connection upwards, of which a copy is taken; its bias is the only one.
        angle: initial angle between forward and feedback weights, in degrees, from 0 to 180.

    Attributes:
        upward: the forward connection.
        feedback: ``(n_post, n_pre)``, as the forward weights; used transposed, downwards.

    Raises:
        ValueError: if the angle is not within 0 and 180 degrees, or ``forward`` is not a `Dense`.

    >>> Untied(Dense(3, 2)).feedback.shape
    torch.Size([2, 3])
    """

    linear = True

    def __init__(self, forward: Dense, angle: float = 0.0) -> None:
        super().__init__()
        angle_in_degrees("angle", angle)
        self.upward = copy.deepcopy(instance("forward", forward, Dense))
        self.feedback = nn.Parameter(turned(self.upward.weight.detach(), angle))

    def phi(self, pre: Tensor, post: Tensor) -> Tensor:
        """Raises ValueError: without symmetric weights there is no primitive function."""
        raise ValueError("untied weights have no primitive function Phi: ask for `currents`, or tie the weights")

    def up(self, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """``W_f pre + b``: ``(B, n_post)``."""
        return self.upward.up(pre)

    def down(self, post: Tensor, pre: Tensor | None = None) -> Tensor:
        """``W_b^T post``: ``(B, n_pre)``."""
        return post @ self.feedback

    def both(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """``(W_f pre + b, W_b^T post)``."""
        return self.up(pre), self.down(post)

    def contrast(self, free: Ends, a: Ends, b: Ends) -> Tensor:
        """``<W_f pre* + b, post_a - post_b> + <W_b^T post*, pre_a - pre_b>``."""
        step = a.post - b.post
        forward = pairing(self.upward.weight, self.upward.bias, step, free.pre, step)
        return forward + pairing(self.feedback, None, free.post, a.pre - b.pre, step)

    def offset(self) -> Tensor | None:
        """The bias."""
        return self.upward.bias

    def wire(self, pre: int, post: int, gains: Sequence[float]) -> Wire:
        """The products with the two matrices."""
        return UntiedWire(self.upward.weight.t(), self.feedback, pre, post, gains[pre], gains[post])


@dataclass(frozen=True)
class UntiedWire(DenseWire):
    """A wire whose two factors are weights of their own."""

    def moved(self, free: Ends, a: Ends, b: Ends, sizes: Sequence[float]) -> "UntiedWire":
        """The wire after both went down the gradient of `Untied.contrast`, by ``sizes``; the old one stays."""
        forward = torch.addmm(self.up.t(), (a.post - b.post).t(), free.pre, alpha=-sizes[0])
        feedback = torch.addmm(self.down, free.post.t(), a.pre - b.pre, alpha=-sizes[1])
        return UntiedWire(forward.t(), feedback, self.pre, self.post, self.gain_pre, self.gain_post)


def turned(weight: Tensor, angle: float) -> Tensor:
    """A copy with random sign flips whose expected angle to ``weight`` is ``angle`` degrees."""
    flip = torch.rand_like(weight) < (1 - math.cos(math.radians(angle))) / 2
    return torch.where(flip, -weight, weight)
