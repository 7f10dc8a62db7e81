r"""Backpropagation Through Time: the gradient that EP is held against.

The free phase is unrolled and differentiated by autograd. Truncated to the last K steps it is what EP with K nudged steps
estimates: the first T - K steps then count as constant (Ernoult et al. 2019, section 2.3).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from eqprop._core.checks import positive_int
from eqprop._core.state import map_tensors
from eqprop.estimators.base import FreePhaseCallback, check_grad_enabled
from eqprop.models.model import Model
from eqprop.solvers.settle import Settle, Solution, as_settle, settle

__all__ = ["BPTT", "SurrogateBPTT"]


@dataclass(frozen=True)
class BPTT:
    """Gradient by Backpropagation Through Time.

    Memory grows with the number of unrolled steps. A model whose steps have no gradient, as one of spikes, is differentiated
    through its `twin`, free phase and all; `SurrogateBPTT` goes through the spikes.

    Args:
        free_steps: T, the length of the free phase: steps or `Settle`. A tolerance applies to the steps before the
            unrolled ones, and so does an acceleration; the schedule to these too: what is unrolled then are sweeps.
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
        check_steps(self.free_steps, self.unrolled_steps)

    def __call__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        on_free_phase: FreePhaseCallback | None = None,
        generator: Generator | None = None,
    ) -> Iterator[Tensor]:
        """One loss: see `Estimator`."""
        check_grad_enabled(self)
        return unrolled(self, model.rate_model(), x, y, on_free_phase)


@dataclass(frozen=True)
class SurrogateBPTT:
    """Gradient by Backpropagation Through Time through the spikes themselves, whose threshold is given a slope.

    Forward a spike is a step function; backward its derivative is that of an arctangent (Fang et al. 2021),
    ``1 / (1 + (pi v)^2)`` at ``v`` above threshold, and that of a potential at its bound likewise
    (`eqprop.spiking.surrogates`). Of a model without spikes it is `BPTT`.

    Memory grows with the number of unrolled ticks.

    Args:
        free_steps: T, the length of the free phase in ticks: a number or `Settle`. The loss is the cost of the last potential,
            or of the mean over the last ones that a `Settle` averages.
        unrolled_steps: K, the number of last ticks that are differentiated; all of them if left out.

    Raises:
        ValueError, RuntimeError, FloatingPointError: as `BPTT`.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 8, 3], dynamics=ep.Spiking())
    >>> for loss in SurrogateBPTT(20)(model, torch.rand(2, 4), torch.tensor([0, 1])):
    ...     loss.backward()
    """

    free_steps: int | Settle
    unrolled_steps: int | None = None

    def __post_init__(self) -> None:
        check_steps(self.free_steps, self.unrolled_steps)

    def __call__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        on_free_phase: FreePhaseCallback | None = None,
        generator: Generator | None = None,
    ) -> Iterator[Tensor]:
        """One loss: see `Estimator`."""
        check_grad_enabled(self)
        return unrolled(self, model, x, y, on_free_phase)


def check_steps(free_steps: int | Settle, unrolled_steps: int | None) -> None:
    """Raise ValueError if more steps are unrolled than taken."""
    steps = as_settle("free_steps", free_steps).steps
    if unrolled_steps is not None and positive_int("unrolled_steps", unrolled_steps) > steps:
        raise ValueError(f"`unrolled_steps` must be at most the {steps} free steps, got {unrolled_steps}")
    if unrolled_steps in (None, steps) and isinstance(free_steps, Settle) and free_steps.accelerate is not None:
        raise ValueError(
            "`free_steps` are accelerated, but what is unrolled are plain steps, here all of them: leave `accelerate` out, or give "
            f"fewer `unrolled_steps` than {steps}"
        )


def unrolled(
    estimator: BPTT | SurrogateBPTT, model: Model, x: Tensor, y: Tensor, on_free_phase: FreePhaseCallback | None
) -> Iterator[Tensor]:
    """The loss of a free phase whose last steps autograd walks back."""
    check_grad_enabled(estimator)  # again: it is here that gradients must be on
    free = as_settle("free_steps", estimator.free_steps)
    last_steps = estimator.unrolled_steps or free.steps
    drive, state, target = model.prepare_batch(x, y)
    before = 0
    if last_steps < free.steps:
        with torch.no_grad():
            first = settle(model.network, model.dynamics, drive, state, free.shortened(last_steps))
        state, before = first.state, first.steps
    last = settle(model.network, model.dynamics, drive, state, free.plain_steps(last_steps))
    if on_free_phase is not None:
        on_free_phase(replace(detached(last), steps=before + last.steps))
    yield model.cost.value(last.output, target).mean()


def detached(solution: Solution) -> Solution:
    """The same solution without its graph."""
    state, activity = (map_tensors(Tensor.detach, part) for part in (solution.state, solution.activity))
    return replace(solution, state=state, activity=activity, output=solution.output.detach())
