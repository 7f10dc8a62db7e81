r"""Saturated coders: those with a residual of more than one spike.

A jump of a value s by d adds ``d / lambda`` to the residual phi of a sigma-delta coder in one tick. The coder then spikes at every
tick (or at none), and phi decreases by ``1 - s`` (increases by s) per tick until ``|phi| <= 1/2``. Meanwhile the decoded value
tends to 1 (or 0). Its error exceeds lambda if

    phi > 1/2  and  1 - s > lambda,        or        phi < -1/2  and  s > lambda.

Such a coder is *lagging*. Other saturated coders are harmless: a white pixel keeps the residual of the spikes missing at the start,
and a unit that fell silent the residual of its excess spikes, but both are decoded correctly.

A larger lambda, one that decays, or more ticks reduce lagging. `Bernoulli` coders have no residual.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from eqprop.spiking.dynamics import Spiking, SpikingState
from eqprop.spiking.step_sizes import step_size_at

__all__ = ["Saturation", "lagging", "saturated_shares", "saturation"]


class Saturation(NamedTuple):
    """Shares of coders with ``|phi| > 1/2``.

    Attributes:
        each: of every spiking population; the input's first, if it spikes.
        total: of all coders.
    """

    each: tuple[float, ...]
    total: float


def saturation(state: SpikingState) -> Saturation:
    """Return the shares of saturated coders.

    Args:
        state: of a spiking model, as in `Solution.state`.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 3], dynamics=ep.Spiking(lam=0.05))
    >>> saturation(ep.relax(model, torch.full((1, 4), 0.9), 10).state).each[0]
    1.0
    """
    each, units = saturated_shares(state).tolist(), [q.numel() for q in state.spike]
    return Saturation(tuple(each), sum(share * n for share, n in zip(each, units, strict=True)) / sum(units))


def saturated_shares(state: SpikingState) -> Tensor:
    """Return the share of saturated coders of each population, ``(populations,)``, on the device of the state."""
    if not (phis := _residuals(state)):
        return torch.zeros(len(state.spike))
    return torch.stack([phi.abs().gt(0.5).double().mean() for phi in phis])


def lagging(dynamics: Spiking, state: SpikingState, x: Tensor) -> tuple[float, ...]:
    """Return the share of lagging coders of each spiking population: saturated, with a decoding error of more than lambda.

    Only coders with a value or a residual to send count, ``s > 0`` or ``phi > 1/2``: most pixels are black and can never lag.

    Args:
        dynamics: of the state.
        state: of a spiking model.
        x: encoded input, in [0, 1], ``(B, *shape)``.
    """
    phis, lam = _residuals(state), step_size_at(dynamics.lam, state.tick + 1)
    if not phis:
        return (0.0,) * len(state.spike)
    values = (x, *state.potential)[-len(phis) :]
    return tuple(_lagging_share(phi, s, lam) for phi, s in zip(phis, values, strict=True))


def _lagging_share(phi: Tensor, s: Tensor, lam: float) -> float:
    lags = (phi > 0.5) & (s < 1 - lam) | (phi < -0.5) & (s > lam)
    sending = ((s > 0) | (phi > 0.5)).sum()
    return (lags.sum() / sending.clamp(min=1)).item()


def _residuals(state: SpikingState) -> Sequence[Tensor]:
    """Return the residuals of all coders; nothing if their memory has another form."""
    memory = state.coder
    is_residual = all(isinstance(phi, Tensor) for phi in memory) and [phi.shape for phi in memory] == [
        q.shape for q in state.spike
    ]
    return memory if is_residual else ()
