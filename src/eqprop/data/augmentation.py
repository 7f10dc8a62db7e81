r"""Augmentation: images that are moved by a few pixels and mirrored, anew in every epoch.

An image of H x W pixels gets a border of `pad` pixels; H x W of the (H + 2 pad) x (W + 2 pad) are cut out at a place that is drawn
uniformly, and the cut is mirrored left to right with probability 1/2 (K. He et al., "Deep Residual Learning for Image Recognition",
2016, section 4.2). All of it is one table of where each pixel comes from::

    out[b, c, i, j] = padded[b, c, i + row[b], j' + column[b]],    j' = W - 1 - j if mirror[b] else j

Numbers are drawn on the CPU, so that they are the same on any device; the images never leave theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from eqprop._core.checks import instance, non_negative_int, one_of

__all__ = ["Augment"]


@dataclass(frozen=True)
class Augment:
    """Pad, crop at random, mirror at random.

    Args:
        pad: pixels of the border on each side; 0 moves nothing.
        flip: whether half of the images, drawn anew every epoch, are mirrored left to right.
        border: what the border holds: "black" pixels, or those of the image's "edge" again (A. Laborieux et al., "Scaling
            Equilibrium Propagation to Deep ConvNets", 2021, their code).

    Raises:
        ValueError: if an argument is not what it must be.

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
        """See that samples of a shape can be augmented.

        Raises:
            ValueError: if they are not images ``(H, W)`` or ``(C, H, W)``, or ones that could be moved out of sight.
        """
        if len(shape) not in (2, 3):
            raise ValueError(
                f"`augment` moves images, (H, W) or (C, H, W), but a sample has shape {tuple(shape)}: "
                "give images, or leave `augment` out"
            )
        if self.pad >= min(shape[-2:]):
            raise ValueError(
                f"`augment` must pad by fewer pixels than an image has on a side, {min(shape[-2:])}, got {self.pad}"
            )

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """How n images are moved.

        Returns:
            ``(n, 3)`` int64 on the CPU: row and column of the cut's corner in the padded image, both from 0 to 2 pad, and 1
            where the cut is mirrored.
        """
        corner = torch.randint(2 * self.pad + 1, (n, 2), generator=generator)
        mirror = torch.randint(1 + self.flip, (n, 1), generator=generator)
        return torch.cat((corner, mirror), 1)

    def __call__(self, x: Tensor, drawn: Tensor, black: Tensor | float = 0.0) -> Tensor:
        """Move images as drawn.

        Args:
            x: ``(B, H, W)`` or ``(B, C, H, W)``; it is left as it is.
            drawn: ``(B, 3)``, as of `draw`, on the images' device.
            black: what the border holds where it is black: a number, or ``(C, 1, 1)`` of the images' precision.

        Returns:
            Images of the same shape, precision and device.
        """
        height, width = x.shape[-2:]
        row, column, mirror = drawn.unsqueeze(2).unbind(1)
        i = torch.arange(height, device=x.device) + row - self.pad
        j = torch.arange(width, device=x.device)
        j = torch.where(mirror == 1, width - 1 - j, j) + column - self.pad
        r, c = i.clamp(0, height - 1), j.clamp(0, width - 1)
        moved = taken(x, r.unsqueeze(2) * width + c.unsqueeze(1))
        if self.border == "edge":
            return moved
        outside = (i != r).unsqueeze(2) | (j != c).unsqueeze(1)
        return torch.where(outside.unsqueeze(1) if x.ndim == 4 else outside, black, moved)


def taken(x: Tensor, index: Tensor) -> Tensor:
    """For each image, the pixels that `index` ``(B, H, W)`` counts row by row, the same of every channel."""
    pixels = x.reshape(len(x), -1, index[0].numel())
    return pixels.gather(2, index.flatten(1).unsqueeze(1).expand_as(pixels)).reshape(x.shape)
