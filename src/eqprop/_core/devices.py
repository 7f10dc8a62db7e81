"""Whether PyTorch can compute on a device."""

import torch

from eqprop._core.checks import ArgumentError

__all__ = ["available_device"]


def available_device(device: torch.device | str) -> torch.device:
    """Return the device.

    Raises:
        ArgumentError: if there is no device of that name, or PyTorch cannot compute on it on this machine.

    >>> available_device("cpu")
    device(type='cpu')
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        expected = "the name of a device, such as 'cpu' or 'cuda'"
        raise ArgumentError("device", f"`device` must be {expected}, got {device!r}") from None
    if found.type == "cpu":
        return found
    if found.type == "meta":
        raise ArgumentError("device", "`device` is 'meta', which holds no numbers: use 'cpu'")
    try:
        torch.zeros(1, device=found)
    except (
        RuntimeError,
        AssertionError,
        NotImplementedError,
        ImportError,
    ):  # which of them depends on how torch was built
        message = f"`device` must be a device of this machine, got {str(found)!r}: PyTorch does not find it; use 'cpu'"
        raise ArgumentError("device", message) from None
    return found
