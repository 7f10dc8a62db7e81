r"""Replicas: several networks of the same graph side by side, each with weights of its own, settled as one.

A batch of the joint network holds one batch of B samples for each of its N replicas, one after the other: sample b of replica r is
in place ``r B + b``. No term of Phi joins two of them,

    Phi(x, s)  =  sum over r of Phi_r(x_r, s_r),

so that the states of each replica, and the gradient in its weights, are those that it has alone; only that a mean over the joint
batch is over N B samples. The many small steps of a small network cost more than their arithmetic: N replicas share that.

The parameters are the replicas' own and not copies: ``.backward()`` through the joint network leaves each gradient where the
replica's optimizer looks for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from eqprop.connections.base import Connection, Ends, PreparedConnection
from eqprop.connections.dense import Dense
from eqprop.connections.untied import Untied

__all__ = ["BatchedConnection", "is_dense"]


class BatchedConnection(Connection):
    """Dense connections of the same sizes, tied or untied, of which each has its own part of the batch.

    Args:
        connections: one a replica; held, not copied.

    Attributes:
        each: these.

    Raises:
        ValueError: if there is none, one is neither a `Dense` nor an `Untied` one of these, or they differ in kind or sizes.

    >>> import torch
    >>> both = Replicas([Dense(3, 2), Dense(3, 2)])
    >>> both.up(torch.ones(8, 3)).shape
    torch.Size([8, 2])
    """

    linear = True

    def __init__(self, connections: Sequence[Connection]) -> None:
        super().__init__()
        kinds = {(type(c), is_dense(c), *((name, p.shape) for name, p in c.named_parameters())) for c in connections}
        if len(kinds) != 1 or not all(is_dense(c) for c in connections):
            raise ValueError(
                f"`connections` must be dense ones, all of one kind and the same sizes, got {connections!r}"
            )
        self.each = nn.ModuleList(connections)
        self.multiple = len(connections)

    def phi(self, pre: Tensor, post: Tensor) -> Tensor:
        """Of each replica's samples by its own weights: ``(N B,)``."""
        return self._joined("phi", pre, post)

    def up(self, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """``(N B, n_post)``."""
        return self._joined("up", pre)

    def down(self, post: Tensor, pre: Tensor | None = None) -> Tensor:
        """In the shape of ``pre`` if that is given, else ``(N B, n_pre)``."""
        return self._joined("down", post) if pre is None else self._joined("down", post, pre)

    def both(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """``(up, down)``."""
        return self.up(pre), self.down(post, pre)

    def _joined(self, current: str, *ends: Tensor) -> Tensor:
        parts = zip(*(end.chunk(self.multiple) for end in ends), strict=True)
        return torch.cat([getattr(c, current)(*part) for c, part in zip(self.each, parts, strict=True)])

    def contrast(self, free: Ends, a: Ends, b: Ends) -> Tensor:
        """The sum of each replica's own, as `Dense` and `Untied` have it, the products of all replicas in one call."""
        forward, feedback = zip(*(ways(c) for c in self.each), strict=True)
        biases = [c.offset() for c in self.each]  # type: ignore[operator]
        step = self._parts(a.post - b.post)
        if feedback[0] is not forward[0]:
            back = pairings(self._parts(free.post), self._parts(a.pre - b.pre), None, *feedback)
            return back + pairings(step, self._parts(free.pre), step, *forward, *biases)
        if a.pre is b.pre:  # a static input
            return pairings(step, self._parts(a.pre), step, *forward, *biases)
        left = torch.cat([step, self._parts(b.post)], 1)
        right = torch.cat([self._parts(a.pre), self._parts(a.pre - b.pre)], 1)
        return pairings(left, right, step, *forward, *biases)

    def _parts(self, s: Tensor) -> Tensor:
        """Of each replica, its samples as vectors: ``(N, B, n)``."""
        return s.reshape(self.multiple, -1, s[0].numel())

    def offsets(self, batch: int) -> Tensor | None:
        """Each replica's bias, for all of its samples: ``(batch, n_post)``."""
        biases = [c.offset() for c in self.each]  # type: ignore[operator]
        return None if biases[0] is None else torch.stack(biases).repeat_interleave(batch // self.multiple, 0)

    def prepare(self, pre: int, post: int, gains: Sequence[float]) -> "PreparedBatched":
        """The products of all replicas in one call."""
        forward, feedback = zip(*(ways(c) for c in self.each), strict=True)
        up = torch.stack(forward)
        down = up if feedback[0] is forward[0] else torch.stack(feedback)
        return PreparedBatched(up.transpose(1, 2), down, pre, post, gains[pre], gains[post])


def is_dense(connection: nn.Module) -> bool:
    """Whether it is a dense connection, tied or untied, and no subclass, which may do anything."""
    return type(connection) is Dense or (type(connection) is Untied and type(connection.upward) is Dense)


def ways(connection: nn.Module) -> tuple[Tensor, Tensor]:
    """Its weights upwards and downwards."""
    if isinstance(connection, Untied):
        return connection.upward.weight, connection.feedback
    assert isinstance(connection, Dense)
    return connection.weight, connection.weight


class _Pairings(torch.autograd.Function):
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
        wanted = [g if p is not None and p.requires_grad else None for p, g in zip(parameters, found, strict=True)]
        pull = torch.bmm(left, torch.stack(parameters[:n])).reshape(right.shape) if ctx.needs_input_grad[1] else None
        return None, pull, None, *wanted


def pairings(left: Tensor, right: Tensor, step: Tensor | None, *parameters: Tensor | None) -> Tensor:
    """The sum over replicas of `eqprop.connections.dense.pairing`.

    Args:
        left: of each replica, ``(N, B, n_post)``.
        right: of each replica, ``(N, B, n_pre)``.
        step: whose sum over samples is the gradient of the biases, ``(N, B, n_post)``; None where there are none.
        parameters: N weights, then, with a ``step``, N biases, which may be None.
    """
    return _Pairings.apply(left, right, step, *parameters)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class PreparedBatched(PreparedConnection):
    """Right factors of the products of N parts of a batch: up ``(N, n_pre, n_post)``, down ``(N, n_post, n_pre)``."""

    up: Tensor
    down: Tensor
    pre: int
    post: int
    gain_pre: float
    gain_post: float

    def add_up(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Products, addition and gain in one call."""
        u[self.post] = added(u[self.post], a[self.pre], self.up, self.gain_post)

    def add_down(self, u: list[Tensor], a: Sequence[Tensor]) -> None:
        """Likewise."""
        if self.pre:
            u[self.pre] = added(u[self.pre], a[self.post], self.down, self.gain_pre)

    def repeat(self, n: int) -> "PreparedBatched":
        """The replicas follow each other ``n`` times, and so must their weights."""
        return replace(self, up=self.up.repeat(n, 1, 1), down=self.down.repeat(n, 1, 1))


def added(u: Tensor, a: Tensor, weights: Tensor, gain: float) -> Tensor:
    """``u + gain a W``, each part of the batch by its own ``W``."""
    n, of_a, of_u = weights.shape
    return torch.baddbmm(u.reshape(n, -1, of_u), a.reshape(n, -1, of_a), weights, alpha=gain).reshape(u.shape)
