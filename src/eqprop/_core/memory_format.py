"""Images lie channels last in memory: convolutions and, many times over, poolings are faster so."""

import torch
from torch import Tensor

__all__ = ["channels_last"]


def channels_last(t: Tensor) -> Tensor:
    """The same values; if they are images or kernels, ``(B, C, H, W)``, the channels of a pixel side by side in memory."""
    return t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t
