r"""Step sizes by tick: how far a potential moves (eps), how much a decoder takes of what comes in (lambda).

    constant       c
    decaying       c / t^k                        k in (1/2, 1] meets the conditions of Robbins and Monro (1951)
    OSA            George & Powell (2006): each unit weighs how noisy what it follows is against how fast it moves

The tick t is counted from 1 over a whole sample, on into the nudged phase. A constant hits a floor of noise; 1/t forgets its start
too slowly (O'Connor, Gavves & Welling 2019).
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from eqprop._core.checks import positive, positive_fraction

__all__ = ["OSA", "Decay", "StepSize", "check_step_size", "step_size_at"]

TINY = 1e-15
"""Keeps a quotient of two vanishing variances finite."""


@dataclass(frozen=True)
class Decay:
    """``start / t^power`` at tick t.

    Args:
        start: the size at the first tick, in (0, 1].
        power: above 0; 0.75 goes well with many ticks.

    Raises:
        ValueError: if one is out of its range.

    >>> Decay(1.0, 0.75).at(16)
    0.125
    """

    start: float = 1.0
    power: float = 0.75

    def __post_init__(self) -> None:
        positive_fraction("start", self.start)
        positive("power", self.power)

    def at(self, tick: int) -> float:
        """The size at a tick, counted from 1."""
        return self.start / tick**self.power


class Followed(NamedTuple):
    """What OSA keeps of each unit.

    Attributes:
        nu: the weight of the newest error, the same for all units.
        mean: of the signal, by its own step sizes.
        bias: running mean of the errors.
        variance: running mean of their squares.
        spread: how much of the signal's variance the mean has.
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
        target: what the weight of the newest error comes down to, in (0, 1].

    Raises:
        ValueError: if it is out of its range.

    >>> OSA(0.0346)
    OSA(target=0.0346)
    """

    target: float = 0.0346

    def __post_init__(self) -> None:
        positive_fraction("target", self.target)

    def begin(self, like: Tensor) -> Followed:
        """Nothing seen yet."""
        zero = torch.zeros_like(like)
        return Followed(1.0, zero, zero, zero, zero)

    def follow(self, signal: Tensor, seen: Followed, tick: int) -> tuple[Tensor, Followed]:
        """The step size of each unit for the signal at this tick, and what is kept."""
        error = signal - seen.mean
        nu = seen.nu / (1 + seen.nu - self.target)
        bias = (1 - nu) * seen.bias + nu * error
        variance = (1 - nu) * seen.variance + nu * error.square()
        noise = (variance - bias.square()) / (1 + seen.spread)
        size = torch.ones_like(error) if tick == 1 else 1 - (noise + TINY) / (variance + TINY)
        spread = (1 - size).square() * seen.spread + size.square()
        return size, Followed(nu, seen.mean + size * error, bias, variance, spread)


StepSize: TypeAlias = float | Decay | OSA
"""A constant or a rule."""


def check_step_size(name: str, value: object, *kinds: type) -> None:
    """Raise ValueError unless it is a number in (0, 1] or one of the rules."""
    if isinstance(value, kinds):
        return
    if isinstance(value, Decay | OSA):
        allowed = ", ".join(["a number in (0, 1]", *(f"`{kind.__name__}`" for kind in kinds)])
        raise ValueError(f"`{name}` must be one of {allowed}, got {value!r}: coder and decoder must share it")
    positive_fraction(name, value)


def step_size_at(value: float | Decay, tick: int) -> float:
    """The size at a tick, the same for all units."""
    return value.at(tick) if isinstance(value, Decay) else value
