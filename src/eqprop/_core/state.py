"""States: what a dynamics carries from one step to the next."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["State", "Units", "iter_tensors", "map_tensors", "mean_distance", "repeat"]

Units: TypeAlias = tuple[Tensor, ...]
"""One tensor ``(B, *shape)`` for each relaxing population, input-first."""

State: TypeAlias = tuple[Any, ...]
"""`Units` for most dynamics. Others carry more: tensors whose first axis is the batch, named or plain tuples of them, and values
that hold for all samples, such as a count of steps. Only the dynamics that made a state knows its parts, hence `Any`."""


def map_tensors(change: Callable[[Tensor], Tensor], state: State) -> State:
    """Return the state with every tensor changed and everything else kept.

    >>> map_tensors(torch.neg, (torch.ones(1), (torch.ones(1), 3)))
    (tensor([-1.]), (tensor([-1.]), 3))
    """
    parts = [
        change(part) if isinstance(part, Tensor) else map_tensors(change, part) if isinstance(part, tuple) else part
        for part in state
    ]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


def iter_tensors(state: State) -> Iterator[Tensor]:
    """Yield every tensor, in order."""
    for part in state:
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, tuple):
            yield from iter_tensors(part)


def repeat(state: State, n: int) -> State:
    """Return the state of the batch repeated ``n`` times, for phases that run as one batch."""
    return map_tensors(lambda t: torch.cat([t] * n), state)


def mean_distance(a: Units, b: Units) -> float:
    """Return ``mean |a - b|`` over all units of all populations and samples.

    >>> mean_distance((torch.zeros(1, 3), torch.zeros(1, 1)), (torch.ones(1, 3), torch.zeros(1, 1)))
    0.75
    """
    return torch.cat([(u - v).abs().flatten() for u, v in zip(a, b, strict=True)]).mean().item()
