r"""Wind-up: coders that owe more than one spike can settle.

A jump of a value s by d puts ``d / lambda`` into the residual phi of a sigma-delta coder at once. From then on it spikes at every
tick, or at none, and phi comes down by ``1 - s``, or goes up by s, a tick, until ``|phi| <= 1/2``. Meanwhile the decoded value
goes to 1, or to 0, and off s by just that much: by more than lambda if

    phi > 1/2  and  1 - s > lambda,        or        phi < -1/2  and  s > lambda.

Such a coder is *late*. The others that are wound up do no harm: a pixel that is white owes for ever the spikes that were missing
at the start, a unit that fell silent those that it sent too many, and both are decoded right.

A large lambda, one that decays, and more ticks keep coders from being late. `Bernoulli` owes nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from eqprop.spiking.dynamics import Spiking, SpikingState
from eqprop.spiking.step_sizes import step_size_at

__all__ = ["Saturation", "late", "saturation", "shares"]


class Saturation(NamedTuple):
    """Shares of coders with ``|phi| > 1/2``.

    Attributes:
        each: of every population that spikes; the input's first, if that comes in spikes.
        total: of all coders together.
    """

    each: tuple[float, ...]
    total: float


def saturation(state: SpikingState) -> Saturation:
    """How many coders are wound up, as shares of them.

    Args:
        state: of a spiking model, as in `Solution.state`.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 3], dynamics=ep.Spiking(lam=0.05))
    >>> wound_up(ep.relax(model, torch.full((1, 4), 0.9), 10).state).each[0]
    1.0
    """
    each, units = shares(state).tolist(), [q.numel() for q in state.spike]
    return Saturation(tuple(each), sum(share * n for share, n in zip(each, units, strict=True)) / sum(units))


def shares(state: SpikingState) -> Tensor:
    """The share of each population that is wound up, ``(populations,)``, on the device of the state."""
    debts = owed(state)
    if not debts:
        return torch.zeros(len(state.spike))
    return torch.stack([phi.abs().gt(0.5).double().mean() for phi in debts])


def late(dynamics: Spiking, state: SpikingState, x: Tensor) -> tuple[float, ...]:
    """Of every population that spikes the share of coders that are late: wound up, and decoded more than lambda off.

    It is a share of those with something to send, ``s > 0`` or ``phi > 1/2``: most pixels are black, and none of them can be late.

    Args:
        dynamics: of the state.
        state: in which the coders are.
        x: the input as it is sent, within [0, 1], ``(B, *shape)``.
    """
    debts, lam = owed(state), step_size_at(dynamics.lam, state.tick + 1)
    if not debts:
        return (0.0,) * len(state.spike)
    values = (x, *state.potential)[-len(debts) :]
    return tuple(late_among(phi, s, lam) for phi, s in zip(debts, values, strict=True))


def late_among(phi: Tensor, s: Tensor, lam: float) -> float:
    """The share in one population."""
    marks = (phi > 0.5) & (s < 1 - lam) | (phi < -0.5) & (s > lam)
    sending = ((s > 0) | (phi > 0.5)).sum()
    return (marks.sum() / sending.clamp(min=1)).item()


def owed(state: SpikingState) -> Sequence[Tensor]:
    """The residuals of all coders; nothing if what they remember is something else."""
    memory = state.coder
    residuals = all(isinstance(phi, Tensor) for phi in memory) and [phi.shape for phi in memory] == shapes(state)
    return memory if residuals else ()


def shapes(state: SpikingState) -> list[tuple[int, ...]]:
    """Of the spike trains."""
    return [q.shape for q in state.spike]
