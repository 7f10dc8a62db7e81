r"""The laws that the methods of a connection obey, checked for a user's class.

    up  =  dphi/dpost          down  =  c dphi/dpre          prepare + offset  =  (up, down)

with ``c = feedback_gain``, 1 for almost all connections, and no sample may influence another. A class that overrides one of these
methods and not the others would settle to one function and learn another without an error. The check evaluates all of them at one
random pair of activities in [0, 1] with the connection's own weights.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from eqprop._core.customized import tensors_agree
from eqprop.connections.base import Connection
from eqprop.connections.untied import SeparateFeedback

__all__ = ["broken_law"]

SEED = 0
"""Seed of the activities."""


def broken_law(connection: Connection, shapes: Sequence[tuple[int, ...]], like: Tensor) -> str | None:
    """Return a sentence about the first law that the connection breaks, or None.

    Args:
        connection: the connection.
        shapes: of the lower and the upper population, without the batch dimension.
        like: tensor of the dtype and device to use.
    """
    batch, generator = 2 * connection.batch_multiple, torch.Generator().manual_seed(SEED)
    pre, post, other = (torch.rand(batch, *shape, generator=generator).to(like) for shape in (*shapes, shapes[1]))
    with torch.no_grad():
        up, down = connection.up(pre, post), connection.down(post, pre)
        for name, got, expected in _pairs(connection, pre, post, other, up, down):
            if not tensors_agree(got, expected):
                return name
    return None


def _pairs(
    connection: Connection, pre: Tensor, post: Tensor, other: Tensor, up: Tensor, down: Tensor
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield a sentence for the case that two tensors differ, and the two."""
    if not isinstance(connection, SeparateFeedback):
        phi_up, phi_down = connection._gradients(pre, post)
        yield "its `up` is not the derivative of `phi` in post: override both, or only `phi`", up, phi_up
        gain = connection.feedback_gain
        yield "its `down` is not the derivative of `phi` in pre: override both, or only `phi`", down, gain * phi_down
        if connection.batch_multiple == 1:
            alone = connection.phi(pre[:1], post[:1])
            yield (
                "its `phi` mixes samples: a sample's value must not depend on the others",
                connection.phi(pre, post)[:1],
                alone,
            )
    if connection.linear:
        yield "its `up` depends on post: set `linear = False`", connection.up(pre, other), up
    yield "its `both` differs from `up`: override both, or only `phi`", connection.both(pre, post)[0], up
    yield "its `both` differs from `down`: override both, or only `phi`", connection.both(pre, post)[1], down
    for name, got in _prepared_currents(connection, pre, post):
        yield f"its `prepare` and `offset` do not add up to `up` ({name}): override them together", got[1], up
        yield f"its `prepare` does not give `down` ({name}): override them together", got[0], down


def _prepared_currents(connection: Connection, pre: Tensor, post: Tensor) -> Iterator[tuple[str, list[Tensor]]]:
    """Yield the currents ``[down, up]`` of the prepared connection, by each way to add them."""
    prepared, offset = connection.prepare(1, 2, (0.0, 1.0, 1.0)), connection.batch_offset(len(pre))
    a = (pre, pre, post)  # the entry of the input is not used

    def currents() -> list[Tensor]:
        zero = torch.zeros_like(post)
        return [pre, torch.zeros_like(pre), zero if offset is None else zero + offset]

    for name, one in (("add", prepared), ("specialize", prepared.specialize(a))):
        u = currents()
        one.add(u, a)
        yield name, u[1:]
    u = currents()
    prepared.add_up(u, a)
    prepared.add_down(u, a)
    yield "add_up, add_down", u[1:]
