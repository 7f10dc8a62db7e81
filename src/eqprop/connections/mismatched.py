r"""Mismatch: feedback that deviates from the weight that is written, as two devices on one chip deviate.

Hardware that stores one number and reads it twice, upwards and downwards, reads two. Each synapse's feedback has a relative
deviation of its own, drawn once and there for good,

    up = W pre + b          down = V^T post,        V = W_b (1 + std xi),     xi ~ N(0, 1) for each synapse,

where ``W_b`` is ``W`` itself for tied weights, and the written feedback weights for untied ones. The rule does not know of it:
weights move as they would without (the tied rule; for untied weights the pairing of each), since what a synapse measures are
activities. The currents then are no gradient of a Phi, and the phases settle where ``V`` has its say.

At small ``std`` the angle between ``W`` and ``V`` is ``arctan std``: 5.7 degrees at 0.1, 45 at 1. Feedback of the wrong
sign has one synapse in 2300 at 0.3, and one in six at 1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eqprop._core.checks import non_negative
from eqprop.activations import Activation
from eqprop.connections.base import Connection, Ends, LinearConnection, PreparedConnection
from eqprop.connections.untied import Untied

__all__ = ["Mismatched", "both_ways"]


class Mismatched(Connection):
    """A connection, tied or untied, whose feedback deviates from what is written by a fixed factor a synapse.

    Args:
        written: the connection as the rule knows it; its weights are this one's.
        std: standard deviation of the relative deviations, at least 0; at 0 the currents are those of ``written``, to the bit.

    Attributes:
        written: the connection.
        std: as given.
        deviation: ``xi``, of the weights' shape, drawn from torch's default generator; a buffer, saved with the weights.

    Raises:
        ValueError: if ``written`` is neither a `Dense` nor a `Conv2d` nor an `Untied`, or ``std`` is negative or not finite.

    >>> from eqprop import Dense
    >>> Mismatched(Dense(3, 2), std=0.1).deviation.shape
    torch.Size([2, 3])
    """

    linear = True
    deviation: Tensor

    def __init__(self, written: LinearConnection | Untied, std: float) -> None:
        super().__init__()
        if not isinstance(written, LinearConnection | Untied):
            raise ValueError(f"`written` must be a Dense, a Conv2d or an Untied connection, got {written!r}")
        self.written = written
        self.std = non_negative("std", std)
        self.register_buffer("deviation", torch.randn_like(feedback_of(written).detach()))

    def extra_repr(self) -> str:
        """The deviation, as `print(model)` shows it."""
        return f"std={self.std}"

    def feedback(self) -> Tensor:
        """``V``, the feedback weights that act."""
        return feedback_of(self.written) * (1 + self.std * self.deviation)

    def phi(self, pre: Tensor, post: Tensor) -> Tensor:
        """Raises ValueError: without symmetric weights there is no primitive function."""
        raise ValueError(
            "mismatched weights have no primitive function Phi: ask for `currents`, or leave out the mismatch"
        )

    def up(self, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """``W pre + b``: ``(B, n_post)``."""
        return self.written.up(pre)

    def down(self, post: Tensor, pre: Tensor | None = None) -> Tensor:
        """``V^T post``: in the shape of ``pre``, which must be given where it is an image."""
        return forward_of(self.written).feedback_current(self.feedback(), post, pre)

    def both(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """``(W pre + b, V^T post)``."""
        return self.up(pre), self.down(post, pre)

    def contrast(self, free: Ends, a: Ends, b: Ends) -> Tensor:
        """That of the written connection, at the activities that the deviating one gave."""
        return self.written.contrast(free, a, b)

    def fan_out(self, pre: Sequence[int], post: Sequence[int]) -> tuple[Tensor, Tensor]:
        """As the written connection."""
        return self.written.fan_out(pre, post)

    def offset(self) -> Tensor | None:
        """The bias."""
        return self.written.offset()

    def check_activation(self, post: Activation) -> None:
        """As the written connection."""
        self.written.check_activation(post)

    def prepare(self, pre: int, post: int, gains: Sequence[float]) -> PreparedConnection:
        """The ways up by ``W`` and down by ``V``, which is computed once a phase."""
        return forward_of(self.written).prepare_with_feedback(self.feedback(), pre, post, gains)


def forward_of(written: LinearConnection | Untied) -> LinearConnection:
    """The connection upwards."""
    return written.upward if isinstance(written, Untied) else written


def feedback_of(written: LinearConnection | Untied) -> Tensor:
    """Weights downwards, as written."""
    return written.feedback if isinstance(written, Untied) else written.weight


def both_ways(connection: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Forward and feedback weights as they act, where the two differ."""
    if isinstance(connection, Mismatched):
        return forward_of(connection.written).weight, connection.feedback()
    return (connection.upward.weight, connection.feedback) if isinstance(connection, Untied) else None
