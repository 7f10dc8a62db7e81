r"""Device mismatch: feedback weights that deviate from the stored weights, as two devices on one chip deviate.

Analog hardware that uses one stored weight in both directions does so with two devices that differ slightly. Here the feedback of
each synapse has a relative deviation that is drawn once and then fixed,

    up = W pre + b          down = V^T post,        V = W_b (1 + std xi),     xi ~ N(0, 1) for each synapse,

where ``W_b`` is ``W`` for tied weights and the stored feedback weights for untied ones. The learning rule ignores the deviation:
a synapse measures activities, and the stored weights are updated from them as without mismatch. The currents are not the gradient
of a Phi, and the steady state depends on ``V``.

The angle between ``W`` and ``V`` is ``arctan std``: 5.7 degrees at 0.1, 45 at 1. The feedback has the wrong sign in one synapse
of 2300 at 0.3 and in one of six at 1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eqprop._core.checks import ArgumentError, non_negative
from eqprop.activations import Activation
from eqprop.connections.base import Connection, Ends, LinearConnection, PreparedConnection
from eqprop.connections.untied import Untied, feedback_weight, forward_connection

__all__ = ["Mismatched", "forward_and_feedback"]


class Mismatched(Connection):
    """A tied or untied connection whose feedback weights deviate from the stored ones by a fixed factor per synapse.

    Args:
        written: the connection with the stored weights; it is not copied.
        std: standard deviation of the relative deviations, at least 0. At 0 the currents equal those of ``written`` exactly.

    Attributes:
        written: the connection with the stored weights.
        std: standard deviation of the relative deviations.
        deviation: ``xi``, of the shape of the weights, drawn from torch's default generator; a buffer, saved with the weights.

    Raises:
        ArgumentError: if ``written`` is neither a `Dense` nor a `Conv2d` nor an `Untied`, or ``std`` is negative or not finite.

    >>> from eqprop import Dense
    >>> Mismatched(Dense(3, 2), std=0.1).deviation.shape
    torch.Size([2, 3])
    """

    linear = True
    deviation: Tensor

    def __init__(self, written: LinearConnection | Untied, std: float) -> None:
        super().__init__()
        if not isinstance(written, LinearConnection | Untied):
            raise ArgumentError(
                "written", f"`written` must be a Dense, a Conv2d or an Untied connection, got {written!r}"
            )
        self.written = written
        self.std = non_negative("std", std)
        self.register_buffer("deviation", torch.randn_like(feedback_weight(written).detach()))

    def extra_repr(self) -> str:
        """Return the standard deviation for ``repr``."""
        return f"std={self.std}"

    def feedback(self) -> Tensor:
        """Return ``V``, the deviating feedback weights."""
        return feedback_weight(self.written) * (1 + self.std * self.deviation)

    def phi(self, pre: Tensor, post: Tensor) -> Tensor:
        """Raise a ValueError: without symmetric weights there is no primitive function."""
        raise ValueError(
            "mismatched weights have no primitive function Phi: ask for `currents`, or leave out the mismatch"
        )

    def up(self, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """Return ``W pre + b``: ``(B, *post_shape)``."""
        return self.written.up(pre)

    def down(self, post: Tensor, pre: Tensor | None = None) -> Tensor:
        """Return ``V^T post``. ``pre`` gives its shape and is required if it is an image."""
        return forward_connection(self.written).feedback_current(self.feedback(), post, pre)

    def both(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(W pre + b, V^T post)``."""
        return self.up(pre), self.down(post, pre)

    def contrast(self, free: Ends, a: Ends, b: Ends) -> Tensor:
        """Return the contrast of the stored weights, which do not know the deviation."""
        return self.written.contrast(free, a, b)

    def fan_out(self, pre: Sequence[int], post: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the fan-out of the stored connection."""
        return self.written.fan_out(pre, post)

    def offset(self) -> Tensor | None:
        """Return the bias."""
        return self.written.offset()

    def check_activation(self, post: Activation) -> None:
        """Check the activation for the stored connection."""
        self.written.check_activation(post)

    def prepare(self, pre: int, post: int, gains: Sequence[float]) -> PreparedConnection:
        """Prepare the connection with ``W`` upward and ``V`` downward; ``V`` is computed once."""
        return forward_connection(self.written).prepare_with_feedback(self.feedback(), pre, post, gains)


def forward_and_feedback(connection: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Return the effective forward and feedback weights, or None if they are the same."""
    if isinstance(connection, Mismatched):
        return forward_connection(connection.written).weight, connection.feedback()
    return (connection.upward.weight, connection.feedback) if isinstance(connection, Untied) else None
