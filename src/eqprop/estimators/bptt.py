r"""Backpropagation Through Time: the gradient that EP is compared with.

The free phase is unrolled and differentiated by autograd. Truncated to the last K steps, it is what EP with K nudged steps
estimates: the first T - K steps count as constant (Ernoult et al. 2019, section 2.3).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from warnings import warn

import torch
from torch import Generator, Tensor

from eqprop._core.checks import ArgumentError, boolean, positive_int
from eqprop._core.fields import LATER
from eqprop._core.state import map_tensors
from eqprop.estimators.base import EstimatorBase, PhaseCallbacks
from eqprop.models.model import Model
from eqprop.solvers.settle import Settle, Solution, as_settle, settle

__all__ = ["BPTT", "SurrogateBPTT"]


@dataclass(frozen=True)
class BPTT(EstimatorBase):
    """Gradient by Backpropagation Through Time.

    Memory grows with the number of unrolled steps. Spikes have no gradient: a spiking model is differentiated through its
    `Model.rate_model`, free phase included, or with ``surrogate`` through the spikes themselves. Forward, a spike is then a step
    function; backward, its derivative is that of an arctangent, ``1 / (1 + (pi v)^2)`` at ``v`` above threshold (Fang et al. 2021),
    and that of a potential at its bound likewise (`eqprop.spiking.surrogates`).

    Args:
        free_steps: T, the length of the free phase: steps or `Settle`. Tolerance and acceleration apply only to the steps before
            the unrolled ones; the schedule applies to all. The loss is the cost of the last output, or of the mean over the last
            ones if a `Settle` averages.
        unrolled_steps: K, the number of last steps that are differentiated; all of them if left out.
        surrogate: differentiate a spiking model through its spikes; no effect on other models.

    Raises:
        ValueError: if a number of steps is not a positive whole number, or more steps are unrolled than taken; on a call,
            if the batch does not fit the model.
        RuntimeError: on a call under ``no_grad``.
        FloatingPointError: on a call, if the input, a weight or a state is not finite.

    >>> import torch, eqprop as ep
    >>> for loss in BPTT(20, 10)(ep.mlp([4, 8, 3]), torch.rand(2, 4), torch.tensor([0, 1])):
    ...     loss.backward()
    """

    free_steps: int | Settle
    unrolled_steps: int | None = None
    surrogate: bool = field(default=False, metadata={LATER: True})

    def __post_init__(self) -> None:
        free = as_settle("free_steps", self.free_steps)
        boolean("surrogate", self.surrogate)
        if self.unrolled_steps is not None and positive_int("unrolled_steps", self.unrolled_steps) > free.steps:
            raise ArgumentError(
                "unrolled_steps",
                f"`unrolled_steps` must be at most the {free.steps} free steps, got {self.unrolled_steps}",
            )
        if self.unrolled_steps in (None, free.steps) and free.accelerate is not None:
            raise ArgumentError(
                "free_steps",
                "`free_steps` are accelerated, but unrolled steps, here all of them, are plain: leave `accelerate` out, or give "
                f"fewer `unrolled_steps` than {free.steps}",
            )

    @property
    def phases(self) -> dict[str, Settle]:
        """The free phase."""
        return {"free_steps": as_settle("free_steps", self.free_steps)}

    @property
    def uses_rate_model(self) -> bool:
        """True without ``surrogate``."""
        return not self.surrogate

    def rule_name(self, tied: bool) -> str:
        """Return "BPTT", or "SurrogateBPTT" with ``surrogate``."""
        return "SurrogateBPTT" if self.surrogate else "BPTT"

    def batching_unsupported_reason(self) -> str | None:
        """Return a reason with ``surrogate``, tolerance or acceleration."""
        return "BPTT goes through spikes" if self.surrogate else super().batching_unsupported_reason()

    def _losses(
        self, model: Model, x: Tensor, y: Tensor, callbacks: PhaseCallbacks, generator: Generator | None
    ) -> Iterator[Tensor]:
        model = model.rate_model() if self.uses_rate_model else model
        free = self.phases["free_steps"]
        unrolled = self.unrolled_steps or free.steps
        phase, state, target = model.prepare_batch(x, y)
        before = 0
        if unrolled < free.steps:
            with torch.no_grad():
                first = settle(phase, state, free.shortened(unrolled))
            state, before = first.state, first.steps
        last = settle(phase, state, free.plain_steps(unrolled))
        if callbacks.free is not None:
            callbacks.free(replace(_detach(last), steps=before + last.steps))
        yield model.cost.value(last.output, target).mean()


def SurrogateBPTT(free_steps: int | Settle, unrolled_steps: int | None = None) -> BPTT:
    """Return ``BPTT(free_steps, unrolled_steps, surrogate=True)``; deprecated."""
    warn("`SurrogateBPTT` was renamed: use `BPTT(..., surrogate=True)`", DeprecationWarning, stacklevel=2)
    return BPTT(free_steps, unrolled_steps, surrogate=True)


def _detach(solution: Solution) -> Solution:
    state, activity = (map_tensors(Tensor.detach, part) for part in (solution.state, solution.activity))
    return replace(solution, state=state, activity=activity, output=solution.output.detach())
