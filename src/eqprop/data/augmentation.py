r"""Transformations of samples: normalization with given constants, and random shifts and mirroring of images.

**Augmentation.** An image of H x W pixels is padded by `pad` pixels on each side. A window of H x W pixels is cut out at a
uniformly random position and mirrored left to right with probability 1/2 (K. He et al., "Deep Residual Learning for Image
Recognition", 2016, section 4.2). All of it is one table of source indices::

    out[b, c, i, j] = padded[b, c, i + row[b], j' + column[b]],    j' = W - 1 - j if mirror[b] else j

Random numbers are drawn on the CPU, so they are the same on any device. The images stay on their device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError, finite, instance, non_negative_int, one_of, positive

__all__ = ["Augment", "Normalize"]


@dataclass(frozen=True)
class Augment:
    """Shift and mirror images at random: pad, crop, flip.

    Args:
        pad: width of the border on each side, in pixels; 0 disables shifts.
        flip: mirror each image left to right with probability 1/2, drawn again in every epoch.
        border: content of the border: "black" pixels, or the image's "edge" pixels repeated (code of A. Laborieux et al.,
            "Scaling Equilibrium Propagation to Deep ConvNets", 2021).

    Raises:
        ValueError: if an argument is out of range.

    >>> image = torch.arange(1.0, 5.0).reshape(1, 2, 2)
    >>> Augment(pad=1)(image, torch.tensor([[0, 1, 1]]))
    tensor([[[0., 0.],
             [2., 1.]]])
    """

    pad: int = 4
    flip: bool = True
    border: Literal["black", "edge"] = "black"

    def __post_init__(self) -> None:
        non_negative_int("pad", self.pad)
        instance("flip", self.flip, bool)
        one_of("border", self.border, ("black", "edge"))

    def check(self, shape: Sequence[int]) -> None:
        """Check that samples of `shape` can be augmented.

        Raises:
            ValueError: if `shape` is not ``(H, W)`` or ``(C, H, W)``, or `pad` is not smaller than H and W.
        """
        if len(shape) not in (2, 3):
            raise ArgumentError(
                "augment",
                f"`augment` needs images, (H, W) or (C, H, W), but a sample has shape {tuple(shape)}: "
                "give images, or leave `augment` out",
            )
        if self.pad >= min(shape[-2:]):
            raise ArgumentError(
                "augment",
                f"`augment` must pad by fewer pixels than the shorter side of an image, {min(shape[-2:])}, got {self.pad}",
            )

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw the transformations of n images.

        Returns:
            ``(n, 3)`` int64 on the CPU: row and column of the window's corner in the padded image, each from 0 to 2 `pad`, and
            1 if the window is mirrored, else 0.
        """
        corner = torch.randint(2 * self.pad + 1, (n, 2), generator=generator)
        mirror = torch.randint(1 + self.flip, (n, 1), generator=generator)
        return torch.cat((corner, mirror), 1)

    def __call__(self, x: Tensor, drawn: Tensor, black: Tensor | float = 0.0) -> Tensor:
        """Transform images.

        Args:
            x: ``(B, H, W)`` or ``(B, C, H, W)``; not modified.
            drawn: ``(B, 3)``, as returned by `draw`, on the device of `x`.
            black: value of a black pixel: a number, or ``(C, 1, 1)`` with the dtype of `x`.

        Returns:
            Images with the shape, dtype and device of `x`.
        """
        height, width = x.shape[-2:]
        row, column, mirror = drawn.unsqueeze(2).unbind(1)
        i = torch.arange(height, device=x.device) + row - self.pad
        j = torch.arange(width, device=x.device)
        j = torch.where(mirror == 1, width - 1 - j, j) + column - self.pad
        # (B, H) rows and (B, W) columns in the unpadded image; clamping repeats the edge pixels in the border
        r, c = i.clamp(0, height - 1), j.clamp(0, width - 1)
        moved = _gather_pixels(x, r.unsqueeze(2) * width + c.unsqueeze(1))
        if self.border == "edge":
            return moved
        outside = (i != r).unsqueeze(2) | (j != c).unsqueeze(1)
        return torch.where(outside.unsqueeze(1) if x.ndim == 4 else outside, black, moved)


def _gather_pixels(x: Tensor, index: Tensor) -> Tensor:
    """Gather the pixels of each image by their row-major `index` ``(B, H, W)``, the same for every channel."""
    pixels = x.reshape(len(x), -1, index[0].numel())
    return pixels.gather(2, index.flatten(1).unsqueeze(1).expand_as(pixels)).reshape(x.shape)


LARGEST = 1e4
"""Largest size of a normalized pixel; the inverse is the smallest difference between white and black."""


@dataclass(frozen=True)
class Normalize:
    """Normalize samples to ``(x - mean) / std``.

    The constants are given, not measured, so they are the same for the training and the test set.

    Args:
        mean: numbers to subtract: one per channel, or one for all values.
        std: divisors above 0: one per channel, or one for all values.

    Raises:
        ValueError: if a number is not finite or a divisor not above 0, `mean` and `std` have different numbers of channels, or
            the normalized pixels are out of proportion (see `LARGEST`) or lose their differences in single precision.

    >>> Normalize((0.5,), (0.25,))(torch.tensor([[0.0, 0.5, 1.0]]))
    tensor([[-2.,  0.,  2.]])
    """

    mean: Sequence[float]
    std: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(finite("mean", value) for value in _check_sequence("mean", self.mean)))
        object.__setattr__(self, "std", tuple(positive("std", value) for value in _check_sequence("std", self.std)))
        if len({len(self.mean), len(self.std)} - {1}) > 1:
            raise ValueError(
                "`mean` and `std` must have one number per channel, or one for all, "
                f"got {len(self.mean)} and {len(self.std)} numbers"
            )
        self._check_range()

    def _check_range(self) -> None:
        """Check that the 256 values of a pixel stay distinct and of moderate size, in single precision."""
        pixels = (torch.arange(256, dtype=torch.float32) / 255).reshape(-1, 1, 1, 1).expand(-1, self.channels, 1, 1)
        found = self(pixels)
        distinct, moderate = (found.diff(dim=0) > 0).all(), (found.abs() <= LARGEST).all()
        if not (distinct and moderate and self.span * LARGEST >= 1):
            numbers = ":".join(",".join(f"{value:g}" for value in part) for part in (self.mean, self.std))
            raise ArgumentError(
                "normalize",
                f"`normalize` must leave pixels distinct and within {LARGEST:g} of 0 in single precision, got {numbers}: "
                "give the mean and the standard deviation of the pixels, as 0.13:0.31",
            )

    @property
    def span(self) -> float:
        """The smallest difference between normalized white and black pixels of a channel."""
        return 1 / max(self.std)

    def __call__(self, x: Tensor) -> Tensor:
        """Normalize samples ``(n, C, H, W)``, or samples of any shape if there is one number for all. `x` is not modified.

        Raises:
            ValueError: if the channels of `x` do not match, or `x` does not hold floats.
        """
        if not x.is_floating_point():
            raise ArgumentError("x", f"`x` must hold floats, pixels from 0 to 1, got {x.dtype}")
        if self.channels > 1 and (x.ndim != 4 or x.shape[1] != self.channels):
            shape = "x".join(map(str, x.shape[1:]))
            raise ArgumentError(
                "normalize",
                f"`normalize` has numbers for {self.channels} channels, but a sample is {shape}: give one for all",
            )
        mean, std = (
            x.new_tensor(value) if self.channels == 1 else x.new_tensor(value).reshape(-1, 1, 1)
            for value in (self.mean, self.std)
        )
        return torch.sub(x, mean).div_(std)

    @property
    def channels(self) -> int:
        """Number of channels with their own constants; 1 if one number is for all."""
        return max(len(self.mean), len(self.std))

    @property
    def black(self) -> tuple[float, ...]:
        """Normalized value of 0 in single precision: one number per channel, or one for all.

        >>> Normalize((0.5,), (0.25,)).black
        (-2.0,)
        """
        return tuple(self(torch.zeros(1, self.channels, 1, 1, dtype=torch.float32)).flatten().tolist())


def _check_sequence(name: str, values: object) -> Sequence[object]:
    """Return `values` if it is a non-empty sequence."""
    if not isinstance(values, Sequence) or isinstance(values, str) or not len(values):
        raise ArgumentError(
            name, f"`{name}` must be a sequence of one number per channel, or of one for all, as (0.5,), got {values!r}"
        )
    return values
