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

import torch
from torch import Tensor, nn

from eqprop._core.checks import ArgumentError, describe_value, non_negative
from eqprop.connections.base import Connection, Ends, LinearConnection
from eqprop.connections.untied import SeparateFeedback, Untied

__all__ = ["Mismatched", "forward_and_feedback"]


class Mismatched(SeparateFeedback):
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

    deviation: Tensor

    def __init__(self, written: LinearConnection | Untied, std: float) -> None:
        super().__init__()
        if not isinstance(written, LinearConnection | Untied):
            raise ArgumentError(
                "written", f"`written` must be a Dense, a Conv2d or an Untied connection, got {describe_value(written)}"
            )
        written.forward_connection.check_separate_feedback()
        if (
            type(written).prepare is Connection.prepare
        ):  # what replaces that of `Untied` where its currents are overridden
            raise ArgumentError(
                "written", f"`written` is a {type(written).__name__} with currents of its own: wrap an `Untied`"
            )
        self.written = written
        self.std = non_negative("std", std)
        self.register_buffer("deviation", torch.randn_like(written.feedback_weight().detach()))

    def extra_repr(self) -> str:
        """Return the standard deviation for ``repr``."""
        return f"std={self.std}"

    @property
    def forward_connection(self) -> LinearConnection:
        """The stored connection of the upward current."""
        return self.written.forward_connection

    def feedback_weight(self) -> Tensor:
        """Return ``V``, the deviating feedback weights."""
        return self.written.feedback_weight() * (1 + self.std * self.deviation)

    def contrast(self, free: Ends, a: Ends, b: Ends) -> Tensor:
        """Return the contrast of the stored weights, which do not know the deviation."""
        return self.written.contrast(free, a, b)


def forward_and_feedback(connection: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Return the effective forward and feedback weights, or None if they are the same."""
    if not isinstance(connection, SeparateFeedback):
        return None
    return connection.forward_connection.weight, connection.feedback_weight()
