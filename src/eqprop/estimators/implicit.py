r"""Implicit differentiation at the steady state (recurrent backpropagation, Almeida 1987, Pineda 1987).

At a steady state ``s* = F(s*, theta)`` the gradient of ``L = C(s*)`` is ``lambda^T dF/dtheta`` where ``lambda`` solves the adjoint
fixed point

    lambda  =  (dF/ds)^T lambda + dC/ds,

here by iteration from ``dC/ds``: k iterations are BPTT over k + 1 steps at the steady state, at the memory of one. F is a step of
the schedule, synchronous or a sweep: both have the same steady states and there the same gradient, and the iteration converges
where F does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Generator, Tensor

from eqprop._core.precision import full_precision
from eqprop._core.state import State
from eqprop.estimators.base import FreePhaseCallback, as_loss, check_grad_enabled
from eqprop.models.model import Model
from eqprop.solvers.anderson import iterate
from eqprop.solvers.settle import Settle, as_settle, finite, residual, settle

__all__ = ["ImplicitDiff"]


@dataclass(frozen=True)
class ImplicitDiff:
    """Gradient by implicit differentiation of the steady state.

    A model whose steps have no gradient, as one of spikes, is differentiated through its `twin`, free phase and all.

    Args:
        free_steps: length of the free phase: steps or `Settle`.
        adjoint_steps: iterations of the adjoint: steps or `Settle` (its tolerance is then on ``lambda``, its schedule that of the
            F which is differentiated: a sweep, if asynchronous; accelerated, as the adjoint is linear, it is GMRES); as the free
            steps if left out.

    Raises:
        ValueError: if a number of steps is not a positive whole number; on a call, if the batch does not fit the model.
        RuntimeError: on a call under ``no_grad``.
        FloatingPointError: on a call, if the input, a weight, a state or the adjoint is not finite.

    >>> import torch, eqprop as ep
    >>> for loss in ImplicitDiff(20)(ep.mlp([4, 8, 3]), torch.rand(2, 4), torch.tensor([0, 1])):
    ...     loss.backward()
    """

    free_steps: int | Settle
    adjoint_steps: int | Settle | None = None

    def __post_init__(self) -> None:
        as_settle("free_steps", self.free_steps)
        if self.adjoint_steps is not None:
            as_settle("adjoint_steps", self.adjoint_steps)

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
        return self._losses(model, x, y, on_free_phase)

    def _losses(self, model: Model, x: Tensor, y: Tensor, on_free_phase: FreePhaseCallback | None) -> Iterator[Tensor]:
        check_grad_enabled(self)  # again: it is here that gradients must be on
        model = model.rate_model()
        network, dynamics = model.network, model.dynamics
        drive, start, target = model.prepare_batch(x, y)
        with torch.no_grad():
            free = settle(network, dynamics, drive, start, as_settle("free_steps", self.free_steps))
        if on_free_phase is not None:
            on_free_phase(free)
        state = tuple(s.detach().requires_grad_() for s in free.state)
        with full_precision(x):
            moved = next(self._back.schedule.states(network, dynamics, drive, state))
            (slope,) = torch.autograd.grad(model.cost.value(state[-1], target).sum(), state[-1])
            adjoint = self._adjoint(state, moved, slope)
            surrogate = torch.stack([(a * s).sum() for a, s in zip(adjoint, moved, strict=True)]).sum() / x.shape[0]
        yield as_loss(model.cost.value(free.output, target).mean(), surrogate)

    @property
    def _back(self) -> Settle:
        return as_settle("adjoint_steps", self.free_steps if self.adjoint_steps is None else self.adjoint_steps)

    def _adjoint(self, state: State, moved: State, slope: Tensor) -> State:
        steps = self._back
        source = (*(torch.zeros_like(s) for s in state[:-1]), slope)
        before, adjoint = source, source

        def step(adjoint: State) -> State:
            back = pull_back(state, moved, adjoint)
            return tuple(b + c for b, c in zip(back, source, strict=True))

        for taken, (before, adjoint) in enumerate(
            islice(iterate(steps.accelerate, step, source), steps.steps), start=1
        ):
            if steps.should_stop(taken, before, adjoint):
                break
        if not finite(residual(before, adjoint)):
            raise FloatingPointError("the adjoint is not finite: the free state is unstable; lower the weights")
        return adjoint


def pull_back(state: State, moved: State, adjoint: State) -> State:
    """``(dF/ds)^T adjoint``; a population that nothing differentiable moves sends nothing back."""
    pairs = [(s, a) for s, a in zip(moved, adjoint, strict=True) if s.requires_grad]
    if not pairs:
        return tuple(torch.zeros_like(s) for s in state)
    outputs, weights = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, state, weights, retain_graph=True, materialize_grads=True, allow_unused=True)
