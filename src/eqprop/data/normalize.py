"""Normalized samples: ``(x - mean) / std``; the constants are given, not measured, so that every part of a set has the same."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eqprop._core.checks import finite, positive

__all__ = ["Normalize"]


@dataclass(frozen=True)
class Normalize:
    """``(x - mean) / std``, for each channel of an image or for all values alike.

    Args:
        mean: what is taken off: one number a channel, or one for all.
        std: what is divided by, above 0: one number a channel, or one for all.

    Raises:
        ValueError: if a number is not finite or a ``std`` not above 0, or the two name different numbers of channels.

    >>> Normalize((0.5,), (0.25,))(torch.tensor([[0.0, 0.5, 1.0]]))
    tensor([[-2.,  0.,  2.]])
    """

    mean: Sequence[float]
    std: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(finite("mean", value) for value in listed("mean", self.mean)))
        object.__setattr__(self, "std", tuple(positive("std", value) for value in listed("std", self.std)))
        if len({len(self.mean), len(self.std)} - {1}) > 1:
            raise ValueError(
                f"`mean` and `std` must be as many, or one for all, got {len(self.mean)} and {len(self.std)} numbers"
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Samples ``(n, C, H, W)``, or of any shape where there is one number for all, in their precision; `x` is left as it is.

        Raises:
            ValueError: if there is one number a channel, and `x` has other channels or none, or it holds no floats.
        """
        if not x.is_floating_point():
            raise ValueError(f"`x` must hold floats, got {x.dtype}: pixels from 0 to 1")
        if self.channels > 1 and (x.ndim != 4 or x.shape[1] != self.channels):
            shape = "x".join(map(str, x.shape[1:]))
            raise ValueError(
                f"`normalize` has numbers for {self.channels} channels, but a sample is {shape}: give one for all"
            )
        mean, std = (x.new_tensor(value) if self.channels == 1 else column(value, x) for value in (self.mean, self.std))
        return torch.sub(x, mean).div_(std)

    @property
    def channels(self) -> int:
        """How many channels have a number of their own; 1 if all have the same."""
        return max(len(self.mean), len(self.std))

    @property
    def black(self) -> tuple[float, ...]:
        """What a value of 0 becomes, in single precision to the bit: one number a channel, or one for all.

        >>> Normalize((0.5,), (0.25,)).black
        (-2.0,)
        """
        return tuple(self(torch.zeros(1, self.channels, 1, 1, dtype=torch.float32)).flatten().tolist())


def column(values: Sequence[float], x: Tensor) -> Tensor:
    """One number a channel, ``(C, 1, 1)``, beside images."""
    return x.new_tensor(values).reshape(-1, 1, 1)


def listed(name: str, values: object) -> Sequence[object]:
    """Some numbers, at least one."""
    if not isinstance(values, Sequence) or isinstance(values, str) or not len(values):
        raise ValueError(f"`{name}` must be a number a channel, or one for all, as (0.5,), got {values!r}")
    return values
