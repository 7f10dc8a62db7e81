"""Which devices a command accepts: the CPU, and GPUs by number."""

import re

import torch

__all__ = ["as_device"]


def as_device(name: str) -> str:
    """The name itself, of a device that is there.

    Raises:
        ValueError: if it is neither the CPU nor a CUDA device, or that GPU is not there.

    >>> as_device("cpu")
    'cpu'
    """
    kind = re.fullmatch(r"cpu|cuda(?::(\d{1,4}))?", name)
    if kind is None:
        raise ValueError(f"`device` must be cpu, cuda or cuda:N, got {name!r}")
    found = torch.cuda.device_count() if name != "cpu" else 1
    if int(kind[1] or 0) >= found:
        raise ValueError(
            f"`device` {name!r} is not there: PyTorch finds {found or 'no'} CUDA device{'s' * (found > 1)}"
        )
    return name
