r"""Backpropagation Through Time: the gradient that EP is held against.

The free phase is unrolled and differentiated by autograd. Truncated to the last K steps it is what EP with K nudged steps
estimates: the first T - K steps then count as constant (Ernoult et al. 2019, section 2.3).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from eqprop.checks import positive_int
from eqprop.estimators.base import Watch, check_grad
from eqprop.model import Model
from eqprop.settle import Settle, Solution, as_settle, settle

__all__ = ["BPTT"]


@dataclass(frozen=True)
class BPTT:
    """Gradient by Backpropagation Through Time.

    Memory grows with the number of unrolled steps.

    Args:
        free_steps: T, the length of the free phase: steps or `Settle`. A tolerance applies to the steps before the
            unrolled ones, the schedule to these too: what is unrolled then are sweeps.
        unrolled_steps: K, the number of last steps that are differentiated; all of them if left out.

    Raises:
        ValueError: if a number of steps is not a positive whole number or more steps are unrolled than taken; on a call,
            if the batch does not fit the model.
        RuntimeError: on a call under ``no_grad``.
        FloatingPointError: on a call, if the input, a weight or a state is not finite.

    >>> import torch, eqprop as ep
    >>> for loss in BPTT(20, 10)(ep.mlp([4, 8, 3]), torch.rand(2, 4), torch.tensor([0, 1])):
    ...     loss.backward()
    """

    free_steps: int | Settle
    unrolled_steps: int | None = None

    def __post_init__(self) -> None:
        steps = as_settle("free_steps", self.free_steps).steps
        if self.unrolled_steps is not None and positive_int("unrolled_steps", self.unrolled_steps) > steps:
            raise ValueError(f"`unrolled_steps` must be at most the {steps} free steps, got {self.unrolled_steps}")

    def __call__(
        self, model: Model, x: Tensor, y: Tensor, *, watch: Watch | None = None, generator: Generator | None = None
    ) -> Iterator[Tensor]:
        """One loss: see `Estimator`."""
        check_grad(self)
        return self._losses(model, x, y, watch)

    def _losses(self, model: Model, x: Tensor, y: Tensor, watch: Watch | None) -> Iterator[Tensor]:
        check_grad(self)  # again: it is here that gradients must be on
        free = as_settle("free_steps", self.free_steps)
        unrolled = self.unrolled_steps or free.steps
        drive, state, target = model.pose(x, y)
        before = 0
        if unrolled < free.steps:
            with torch.no_grad():
                first = settle(model.network, model.dynamics, drive, state, free.fewer(unrolled))
            state, before = first.state, first.steps
        last = settle(model.network, model.dynamics, drive, state, free.exactly(unrolled))
        if watch is not None:
            watch(replace(detached(last), steps=before + last.steps))
        yield model.cost.value(last.state[-1], target).mean()


def detached(solution: Solution) -> Solution:
    """The same solution without its graph."""
    state, activity = (tuple(s.detach() for s in tensors) for tensors in (solution.state, solution.activity))
    return replace(solution, state=state, activity=activity)
