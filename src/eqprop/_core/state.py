"""States: what a dynamics carries from one step to the next.

Most carry one tensor ``(B, *shape)`` a relaxing population, input-first. Some carry more, in tuples within the tuple, named ones
too; what is no tensor, such as a count of steps, holds for all samples.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["State", "Units", "iter_tensors", "map_tensors", "mean_distance", "repeat"]

State: TypeAlias = tuple[Any, ...]
"""Tensors whose first axis is the batch, and tuples of them."""

Units: TypeAlias = tuple[Tensor, ...]
"""One tensor ``(B, *shape)`` a relaxing population, input-first."""


def map_tensors(change: Callable[[Tensor], Tensor], state: State) -> State:
    """The state with every tensor changed; the rest stays.

    >>> mapped(torch.neg, (torch.ones(1), (torch.ones(1), 3)))
    (tensor([-1.]), (tensor([-1.]), 3))
    """
    parts = [
        change(part) if isinstance(part, Tensor) else map_tensors(change, part) if isinstance(part, tuple) else part
        for part in state
    ]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


def iter_tensors(state: State) -> Iterator[Tensor]:
    """Every tensor, in order."""
    for part in state:
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, tuple):
            yield from iter_tensors(part)


def repeat(state: State, n: int) -> State:
    """The state of the batch repeated ``n`` times, for phases that run side by side: all that it holds, so that nothing differs."""
    return map_tensors(lambda t: torch.cat([t] * n), state)


def mean_distance(a: Units, b: Units) -> float:
    """``mean |a - b|`` over all units of all populations and samples.

    >>> distance((torch.zeros(1, 3), torch.zeros(1, 1)), (torch.ones(1, 3), torch.zeros(1, 1)))
    0.75
    """
    return torch.cat([(u - v).abs().flatten() for u, v in zip(a, b, strict=True)]).mean().item()
