"""The memory format of images: channels last, in which convolutions and especially poolings are faster."""

import torch
from torch import Tensor

__all__ = ["channels_last"]


def channels_last(t: Tensor) -> Tensor:
    """Return a 4-D tensor ``(B, C, H, W)`` in the channels-last format; return any other tensor unchanged."""
    return t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t
