r"""Step sizes by tick, of potentials (eps) and decoders (lambda).

    constant       c
    decaying       c / t^k                        k in (1/2, 1] satisfies the conditions of Robbins and Monro (1951)
    OSA            George & Powell (2006): per unit, from the noise and the drift of its input

The tick t is counted from 1 over all phases of a sample. A constant size leaves a floor of noise, and 1/t forgets the initial state
too slowly (O'Connor, Gavves & Welling 2019).
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError, positive, positive_fraction

__all__ = ["OSA", "Decay", "StepSize", "check_step_size", "step_size_at"]

TINY = 1e-15
"""Keeps the quotient of two vanishing variances finite."""


@dataclass(frozen=True)
class Decay:
    """``start / t^power`` at tick t.

    Args:
        start: size at the first tick, in (0, 1].
        power: above 0; 0.75 works well with many ticks.

    Raises:
        ValueError: if an argument is out of its range.

    >>> Decay(1.0, 0.75).at(16)
    0.125
    """

    start: float = 1.0
    power: float = 0.75

    def __post_init__(self) -> None:
        positive_fraction("start", self.start)
        positive("power", self.power)

    def at(self, tick: int) -> float:
        """Return the size at a tick, counted from 1."""
        return self.start / tick**self.power


class OSAStatistics(NamedTuple):
    """Running statistics of `OSA` for each unit of a population.

    Attributes:
        nu: weight of the newest error, the same for all units.
        mean: of the signal, with OSA's step sizes.
        bias: running mean of the errors.
        variance: running mean of their squares.
        spread: variance of the mean, relative to that of the signal.
    """

    nu: float
    mean: Tensor
    bias: Tensor
    variance: Tensor
    spread: Tensor


@dataclass(frozen=True)
class OSA:
    """Optimal stepsizes (George & Powell 2006, as O'Connor et al. 2019 use them), unit by unit.

    Args:
        target: limit of the weight of the newest error, in (0, 1].

    Raises:
        ValueError: if it is out of its range.

    >>> OSA(0.0346)
    OSA(target=0.0346)
    """

    target: float = 0.0346

    def __post_init__(self) -> None:
        positive_fraction("target", self.target)

    def init(self, like: Tensor) -> OSAStatistics:
        """Return the statistics before the first tick."""
        zero = torch.zeros_like(like)
        return OSAStatistics(1.0, zero, zero, zero, zero)

    def update(self, signal: Tensor, stats: OSAStatistics, tick: int) -> tuple[Tensor, OSAStatistics]:
        """Return the step size of each unit for the signal at this tick, and the new statistics."""
        error = signal - stats.mean
        nu = stats.nu / (1 + stats.nu - self.target)
        bias = (1 - nu) * stats.bias + nu * error
        variance = (1 - nu) * stats.variance + nu * error.square()
        noise = (variance - bias.square()) / (1 + stats.spread)
        size = torch.ones_like(error) if tick == 1 else 1 - (noise + TINY) / (variance + TINY)
        spread = (1 - size).square() * stats.spread + size.square()
        return size, OSAStatistics(nu, stats.mean + size * error, bias, variance, spread)


StepSize: TypeAlias = float | Decay | OSA
"""A constant, or a rule that gives the size at each tick."""


def check_step_size(name: str, value: object, *kinds: type) -> None:
    """Check that a step size is a number in (0, 1] or of one of the given classes.

    Raises:
        ArgumentError: if it is not.
    """
    if isinstance(value, kinds):
        return
    if isinstance(value, Decay | OSA):
        allowed = ", ".join(["a number in (0, 1]", *(f"`{kind.__name__}`" for kind in kinds)])
        raise ArgumentError(
            name, f"`{name}` must be one of {allowed}, got {value!r}: coder and decoder must have the same lambda"
        )
    positive_fraction(name, value)


def step_size_at(value: float | Decay, tick: int) -> float:
    """Return the size at a tick, the same for all units."""
    return value.at(tick) if isinstance(value, Decay) else value
