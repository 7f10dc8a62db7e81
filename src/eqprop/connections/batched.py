r"""Batched connections: several networks with the same graph and different weights, settled as one network.

A batch of the batched network contains B samples for each of its N replicas: sample b of replica r has the index ``r B + b``. No
term of Phi joins two replicas,

    Phi(x, s)  =  sum over r of Phi_r(x_r, s_r),

so that each replica has the same states and the same gradient as alone, except that a mean over the batch is over N B samples. In
small networks the overhead of a step exceeds its arithmetic; N replicas share the overhead.

The parameters are those of the replicas and not copies: ``.backward()`` writes the gradients where the optimizer of each replica
reads them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from eqprop._core.checks import ArgumentError
from eqprop.connections.base import Connection, Ends, PreparedConnection
from eqprop.connections.dense import Dense
from eqprop.connections.untied import Untied

__all__ = ["BatchedConnection", "is_dense"]


class BatchedConnection(Connection):
    """Dense connections of equal sizes, tied or untied, each applied to its own part of the batch.

    Args:
        connections: one per replica; they are not copied.

    Attributes:
        replicas: the connections.

    Raises:
        ArgumentError: if there is none, if one is neither a `Dense` nor an untied `Dense`, or if they differ in type or size.

    >>> import torch
    >>> connection = BatchedConnection([Dense(3, 2), Dense(3, 2)])
    >>> connection.up(torch.ones(8, 3)).shape
    torch.Size([8, 2])
    """

    linear = True

    def __init__(self, connections: Sequence[Connection]) -> None:
        super().__init__()
        kinds = {(type(c), is_dense(c), *((name, p.shape) for name, p in c.named_parameters())) for c in connections}
        if len(kinds) != 1 or not all(is_dense(c) for c in connections):
            raise ArgumentError(
                "connections",
                f"`connections` must be dense, all of one type and of the same sizes, got {connections!r}",
            )
        self.replicas = nn.ModuleList(connections)
        self.batch_multiple = len(connections)

    def phi(self, pre: Tensor, post: Tensor) -> Tensor:
        """Return the term of Phi of every sample: ``(N B,)``."""
        return self._concatenate("phi", pre, post)

    def up(self, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """Return the current into post: ``(N B, n_post)``."""
        return self._concatenate("up", pre)

    def down(self, post: Tensor, pre: Tensor | None = None) -> Tensor:
        """Return the current into pre, in the shape of ``pre`` if that is given, else ``(N B, n_pre)``."""
        return self._concatenate("down", post) if pre is None else self._concatenate("down", post, pre)

    def both(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(up, down)``."""
        return self.up(pre), self.down(post, pre)

    def _concatenate(self, method: str, *ends: Tensor) -> Tensor:
        """Call a method of every replica with its part of the batch, and concatenate the results."""
        parts = zip(*(end.chunk(self.batch_multiple) for end in ends), strict=True)
        return torch.cat([getattr(c, method)(*part) for c, part in zip(self.replicas, parts, strict=True)])

    def contrast(self, free: Ends, a: Ends, b: Ends) -> Tensor:
        """Return the sum of the contrasts of the replicas, with one batched product for all of them."""
        forward, feedback, biases = self._replica_parameters()
        step = self._split(a.post - b.post)
        if feedback[0] is not forward[0]:
            back = _pairings(self._split(free.post), self._split(a.pre - b.pre), None, *feedback)
            return back + _pairings(step, self._split(free.pre), step, *forward, *biases)
        if a.pre is b.pre:  # a static input
            return _pairings(step, self._split(a.pre), step, *forward, *biases)
        # The product of differences of `eqprop.connections.dense`, one per replica.
        left = torch.cat([step, self._split(b.post)], 1)
        right = torch.cat([self._split(a.pre), self._split(a.pre - b.pre)], 1)
        return _pairings(left, right, step, *forward, *biases)

    def _split(self, s: Tensor) -> Tensor:
        """Return the flattened samples by replica: ``(N, B, n)``."""
        return s.reshape(self.batch_multiple, -1, s[0].numel())

    def _replica_parameters(self) -> tuple[list[Tensor], list[Tensor], list[Tensor | None]]:
        """Return forward weights, feedback weights (the same tensors if tied) and biases of the replicas."""
        replicas: list[Dense | Untied] = list(self.replicas)  # type: ignore[arg-type]
        forward: list[Tensor] = [c.forward_connection.weight for c in replicas]
        return forward, [c.feedback_weight() for c in replicas], [c.offset() for c in replicas]

    def batch_offset(self, batch: int) -> Tensor | None:
        """Return the bias of the replica of each sample: ``(batch, n_post)``."""
        biases = [bias for bias in self._replica_parameters()[2] if bias is not None]
        return torch.stack(biases).repeat_interleave(batch // self.batch_multiple, 0) if biases else None

    def prepare(self, pre: int, post: int, gains: Sequence[float]) -> "PreparedBatched":
        """Prepare batched products, one per direction for all replicas."""
        forward, feedback, _ = self._replica_parameters()
        up = torch.stack(forward)
        down = up if feedback[0] is forward[0] else torch.stack(feedback)
        return PreparedBatched(pre, post, gains[pre], gains[post], up.transpose(1, 2), down)


def is_dense(connection: nn.Module) -> bool:
    """Return whether a connection is a tied or untied `Dense`. Subclasses do not count: they may override anything."""
    return type(connection) is Dense or (type(connection) is Untied and type(connection.upward) is Dense)


class _Pairings(torch.autograd.Function):
    """Has the value 0 and the gradient of `_pairings`."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, step: Tensor | None, *parameters: Tensor | None) -> Tensor:
        ctx.save_for_backward(left, right, step, *parameters)
        return left.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        left, right, step, *parameters = ctx.saved_tensors
        left, n = left * slopes[0], len(left)
        found = [*torch.bmm(left.mT, right)]
        if step is not None:
            found += [*(step.sum(1) * slopes[0])]
        gradients = [g if p is not None and p.requires_grad else None for p, g in zip(parameters, found, strict=True)]
        of_right = (
            torch.bmm(left, torch.stack(parameters[:n])).reshape(right.shape) if ctx.needs_input_grad[1] else None
        )
        return None, of_right, None, *gradients


def _pairings(left: Tensor, right: Tensor, step: Tensor | None, *parameters: Tensor | None) -> Tensor:
    """Return a scalar with the gradient of ``sum over r of <W_r, left_r^T right_r> + <b_r, sum step_r>``.

    Args:
        left: ``(N, B, n_post)``.
        right: ``(N, B, n_pre)``.
        step: ``(N, B, n_post)``, whose sum over samples is the gradient of the biases; None without biases.
        parameters: N weights and, with a ``step``, N biases, which may be None.
    """
    return _Pairings.apply(left, right, step, *parameters)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class PreparedBatched(PreparedConnection):
    """A batched connection prepared for settling.

    Attributes:
        up: right factors of the upward products, ``(N, n_pre, n_post)``.
        down: right factors of the downward products, ``(N, n_post, n_pre)``.
    """

    up: Tensor
    down: Tensor

    def add_up(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Add the current into post."""
        u[self.post] = _batched_addmm(u[self.post], a[self.pre], self.up, self.gain_post)

    def add_down(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Add the current into pre."""
        if self.pre:
            u[self.pre] = _batched_addmm(u[self.pre], a[self.post], self.down, self.gain_pre)

    def repeat(self, n: int) -> "PreparedBatched":
        """Return the connection for the repeated batch, in which all replicas occur ``n`` times in sequence."""
        return replace(self, up=self.up.repeat(n, 1, 1), down=self.down.repeat(n, 1, 1))


def _batched_addmm(u: Tensor, a: Tensor, weights: Tensor, gain: float) -> Tensor:
    """Return ``u + gain a W`` with the weights of each sample's replica."""
    n, n_in, n_out = weights.shape
    return torch.baddbmm(u.reshape(n, -1, n_out), a.reshape(n, -1, n_in), weights, alpha=gain).reshape(u.shape)
