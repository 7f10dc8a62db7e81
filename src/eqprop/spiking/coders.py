r"""Coders: convert a value in [0, 1] to one bit per tick, from which a leaky decoder recovers the value.

The decoder is ``z_t = (1 - lambda) z_{t-1} + lambda q_t``. *Sigma-delta* (O'Connor, Gavves & Welling 2019) encodes the input that
the decoder needs to reproduce s exactly, and carries the rounding error phi, the residual, to the next tick:

    a    =  (s_t - (1 - lambda) s_{t-1}) / lambda            predictive code
    phi <-  phi + a,      q = [phi > 1/2],      phi <- phi - q

While ``|phi| <= 1/2``, the decoded value differs from s by at most lambda, once ``(1 - lambda)^n`` has vanished. A jump of s by
d adds ``d / lambda`` to phi in one tick, and phi decreases by at most one per tick. Until then the coder is *saturated*, and the
bound does not hold (`eqprop.spiking.saturation`).

*Bernoulli*: ``q = 1`` with probability s, without memory. The standard deviation of the decoded value is
``sqrt(s (1 - s) lambda / (2 - lambda))``, of order sqrt(lambda) instead of lambda.

At tick t the coder uses the lambda with which the decoder will read its spike, that of tick t + 1.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from warnings import warn

import torch
from torch import Tensor

from eqprop._core.state import State
from eqprop.spiking.surrogates import heaviside, records_gradient

__all__ = ["Bernoulli", "Coder", "SigmaDelta"]


class Coder(ABC):
    """Converts the values of all populations of a network to spikes; every method is pure."""

    @abstractmethod
    def init(self, values: Sequence[Tensor]) -> State:
        """Return the memory before the first tick, for values of these shapes, ``(B, *shape)`` each."""

    @abstractmethod
    def encode(
        self, now: Sequence[Tensor], before: Sequence[Tensor], memory: State, lam: float, tick: int
    ) -> tuple[list[Tensor], State]:
        """Return spikes, 0 or 1, and the new memory.

        Args:
            now: values to encode, in [0, 1], ``(B, *shape)`` for each population.
            before: values of the previous tick.
            memory: after the previous tick.
            lam: lambda with which the decoder will read the spikes.
            tick: counted from 1.
        """

    def begin(self, values: Sequence[Tensor]) -> State:
        """Return `init`: a deprecated alias."""
        warn("`Coder.begin` was renamed: call `Coder.init`", DeprecationWarning, stacklevel=2)
        return self.init(values)


@dataclass(frozen=True)
class SigmaDelta(Coder):
    """First-order sigma-delta modulation of the predictive code; the memory is phi, one tensor for each population.

    >>> import torch
    >>> coder, x = SigmaDelta(), torch.tensor([[0.3]])
    >>> memory, sent = coder.init([x]), []
    >>> for tick in range(1, 11):
    ...     (spike,), memory = coder.encode([x], [x], memory, 0.2, tick)
    ...     sent.append(int(spike))
    >>> sent
    [0, 1, 0, 0, 0, 1, 0, 0, 1, 0]
    """

    def init(self, values: Sequence[Tensor]) -> State:
        """Return residuals of zero."""
        return tuple(torch.zeros_like(v) for v in values)

    def encode(
        self, now: Sequence[Tensor], before: Sequence[Tensor], memory: State, lam: float, tick: int
    ) -> tuple[list[Tensor], State]:
        """Return spikes and residuals; see the module for the rule."""
        pairs = [_quantize(_add_code(*each, lam)) for each in zip(now, before, memory, strict=True)]
        return [q for q, _ in pairs], tuple(phi for _, phi in pairs)


def _add_code(now: Tensor, before: Tensor, phi: Tensor, lam: float) -> Tensor:
    """Return ``phi + a`` as a new tensor, which `_quantize` may overwrite."""
    return torch.add(phi, now, alpha=1 / lam).sub_(before, alpha=1 / lam - 1)


def _quantize(phi: Tensor) -> tuple[Tensor, Tensor]:
    """Return spikes where phi is above 1/2, and the new residual; overwrites phi where no gradient is recorded."""
    if records_gradient(phi):
        q = heaviside(phi - 0.5)
        return q, phi - q
    q = phi.gt(0.5).to(phi.dtype)
    return q, phi.sub_(q)


class RandomStreams(NamedTuple):
    """Random numbers of a batch, reproducible from the state of a phase.

    Attributes:
        seed: of all numbers.
        streams: stream of each sample, ``(B,)``; copies of a sample, as in centred nudging, share one.
        width: number of streams.
    """

    seed: int
    streams: Tensor
    width: int


@dataclass(frozen=True)
class Bernoulli(Coder):
    """Spikes with a probability equal to the value; the memory is the source of random numbers.

    The numbers are drawn on the CPU on every device. They depend on the tick and on a seed, which is drawn from torch's default
    generator once a batch. Phases that start from the same state therefore see the same numbers, sample by sample, and so do both
    phases of a centred estimate.
    """

    def init(self, values: Sequence[Tensor]) -> State:
        """Draw the seed."""
        first = values[0]
        streams = torch.arange(first.shape[0], device=first.device)
        return RandomStreams(int(torch.randint(2**62, ())), streams, first.shape[0])

    def encode(
        self, now: Sequence[Tensor], before: Sequence[Tensor], memory: State, lam: float, tick: int
    ) -> tuple[list[Tensor], State]:
        """Return spikes, and the memory unchanged."""
        assert isinstance(memory, RandomStreams)
        # Multiples of 2^64 / golden ratio: the seeds of successive ticks lie far apart.
        generator = torch.Generator().manual_seed((memory.seed + tick * 0x9E3779B97F4A7C15) % 2**63)
        return [_sample(s, memory, generator) for s in now], memory


def _sample(s: Tensor, random: RandomStreams, generator: torch.Generator) -> Tensor:
    """Return 1 with probability ``s``, else 0."""
    uniform = torch.rand(random.width, *s.shape[1:], generator=generator, dtype=s.dtype).to(s.device)
    uniform = uniform if random.width == s.shape[0] else uniform[random.streams]
    return heaviside(s - uniform)
