r"""Coders: how a value in [0, 1] becomes one bit a tick, such that a leaky decoder finds the value again.

The decoder is ``z_t = (1 - lambda) z_{t-1} + lambda q_t``. *Sigma-delta* (O'Connor, Gavves & Welling 2019) sends what the decoder
does not know yet, its exact inverse, and keeps the error of rounding for the next tick:

    a    =  (s_t - (1 - lambda) s_{t-1}) / lambda            predictive code
    phi <-  phi + a,      q = [phi > 1/2],      phi <- phi - q

As long as ``|phi| <= 1/2``, the decoded value differs from the sent one by at most lambda, once ``(1 - lambda)^n`` has vanished.
A jump of s by d puts ``d / lambda`` into phi at once, which drains by at most one a tick: the coder is *wound up* meanwhile, and
the bound does not hold (`eqprop.spiking.wound_up`).

*Bernoulli*: ``q = 1`` with probability s, without memory. Its decoded value errs by ``sqrt(s (1 - s) lambda / (2 - lambda))``, of
order sqrt(lambda) in the place of lambda.

The coder at tick t takes the lambda with which the decoder will read its spike, that of tick t + 1.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from eqprop._core.state import State
from eqprop.spiking.surrogates import above, differentiable

__all__ = ["Bernoulli", "Coder", "SigmaDelta"]


class Coder(ABC):
    """From values to spikes, all populations of a network at once; every method is pure."""

    @abstractmethod
    def begin(self, values: Sequence[Tensor]) -> State:
        """What it remembers before the first tick, for values of these shapes, ``(B, *shape)`` each."""

    @abstractmethod
    def encode(
        self, now: Sequence[Tensor], before: Sequence[Tensor], memory: State, lam: float, tick: int
    ) -> tuple[list[Tensor], State]:
        """Spikes, 0 or 1, and the new memory.

        Args:
            now: the values to be sent, within [0, 1].
            before: those of the last tick.
            memory: of the last tick.
            lam: with which the decoder will read the spikes.
            tick: counted from 1.
        """


@dataclass(frozen=True)
class SigmaDelta(Coder):
    """First-order sigma-delta modulation of the predictive code; its memory is phi, one tensor a population.

    >>> import torch
    >>> coder, x = SigmaDelta(), torch.tensor([[0.3]])
    >>> memory, sent = coder.begin([x]), []
    >>> for tick in range(1, 11):
    ...     (spike,), memory = coder.encode([x], [x], memory, 0.2, tick)
    ...     sent.append(int(spike))
    >>> sent
    [0, 1, 0, 0, 0, 1, 0, 0, 1, 0]
    """

    def begin(self, values: Sequence[Tensor]) -> State:
        """Nothing owed."""
        return tuple(torch.zeros_like(v) for v in values)

    def encode(
        self, now: Sequence[Tensor], before: Sequence[Tensor], memory: State, lam: float, tick: int
    ) -> tuple[list[Tensor], State]:
        """See the module."""
        pairs = [fire(owed(*each, lam)) for each in zip(now, before, memory, strict=True)]
        return [q for q, _ in pairs], tuple(phi for _, phi in pairs)


def owed(now: Tensor, before: Tensor, phi: Tensor, lam: float) -> Tensor:
    """``phi + a``; the caller's own."""
    return torch.add(phi, now, alpha=1 / lam).sub_(before, alpha=1 / lam - 1)


def fire(phi: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes of what is above 1/2, and what is left of it, which may overwrite it."""
    if differentiable(phi):
        q = above(phi - 0.5)
        return q, phi - q
    q = phi.gt(0.5).to(phi.dtype)
    return q, phi.sub_(q)


class Draws(NamedTuple):
    """The source of chance of a batch: the same numbers again for whoever goes on from the same state.

    Attributes:
        seed: of everything that is drawn.
        lanes: which of the batch's streams each sample has, ``(B,)``; samples that were repeated share theirs.
        width: number of streams.
    """

    seed: int
    lanes: Tensor
    width: int


@dataclass(frozen=True)
class Bernoulli(Coder):
    """A spike with the probability that the value is; its memory is the source of chance.

    The numbers come from the CPU, wherever the states are, and are a function of the tick and of a seed that is drawn from torch's
    default generator once a batch: a phase that starts from the same state sees the same ones, and so do both phases of a centred
    estimate, sample by sample.
    """

    def begin(self, values: Sequence[Tensor]) -> State:
        """Draws the seed."""
        first = values[0]
        lanes = torch.arange(first.shape[0], device=first.device)
        return Draws(int(torch.randint(2**62, ())), lanes, first.shape[0])

    def encode(
        self, now: Sequence[Tensor], before: Sequence[Tensor], memory: State, lam: float, tick: int
    ) -> tuple[list[Tensor], State]:
        """See the module."""
        assert isinstance(memory, Draws)
        generator = torch.Generator().manual_seed((memory.seed + tick * 0x9E3779B97F4A7C15) % 2**63)
        return [chance(s, memory, generator) for s in now], memory


def chance(s: Tensor, draws: Draws, generator: torch.Generator) -> Tensor:
    """1 with probability ``s``, else 0."""
    uniform = torch.rand(draws.width, *s.shape[1:], generator=generator, dtype=s.dtype).to(s.device)
    uniform = uniform if draws.width == s.shape[0] else uniform[draws.lanes]
    return above(s - uniform)
