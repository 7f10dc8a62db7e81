r"""Implicit differentiation at the steady state (recurrent backpropagation, Almeida 1987, Pineda 1987).

At a steady state ``s* = F(s*, theta)`` the gradient of ``L = C(s*)`` is ``lambda^T dF/dtheta``, where ``lambda`` solves the adjoint
fixed-point equation

    lambda  =  (dF/ds)^T lambda + dC/ds.

It is iterated from ``dC/ds``: k iterations equal BPTT over k + 1 steps at the steady state, with the memory of one step. F is one
step of the schedule, synchronous or a sweep. Both have the same steady states and the same gradient there, and the iteration
converges where F does.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from eqprop._core.precision import full_precision
from eqprop._core.state import Units
from eqprop.estimators.base import EstimatorBase, PhaseCallbacks, as_loss
from eqprop.models.model import Model
from eqprop.solvers.settle import Settle, as_settle, finite, residual, settle

__all__ = ["ImplicitDiff"]


@dataclass(frozen=True)
class ImplicitDiff(EstimatorBase):
    """Gradient by implicit differentiation of the steady state.

    A spiking model is differentiated through its `Model.rate_model`, free phase included.

    Args:
        free_steps: length of the free phase: steps or `Settle`.
        adjoint_steps: iterations of the adjoint: steps or `Settle`, whose tolerance then applies to ``lambda`` and whose
            schedule defines the F that is differentiated. Accelerated, the iteration is GMRES, since the adjoint is linear. As
            the free steps if left out.

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
        _ = self.phases  # raises if a number of steps is not valid

    @property
    def phases(self) -> dict[str, Settle]:
        """The free phase and the adjoint."""
        adjoint = self.free_steps if self.adjoint_steps is None else self.adjoint_steps
        return {
            "free_steps": as_settle("free_steps", self.free_steps),
            "adjoint_steps": as_settle("adjoint_steps", adjoint),
        }

    @property
    def uses_rate_model(self) -> bool:
        """True."""
        return True

    def rule_name(self, tied: bool) -> str:
        """Return "ImplicitDiff"."""
        return "ImplicitDiff"

    def _losses(
        self, model: Model, x: Tensor, y: Tensor, callbacks: PhaseCallbacks, generator: Generator | None
    ) -> Iterator[Tensor]:
        free_steps, adjoint_steps = self.phases.values()
        model = model.rate_model()
        phase, start, target = model.prepare_batch(x, y)
        with torch.no_grad():
            free = settle(phase, start, free_steps)
        if callbacks.free is not None:
            callbacks.free(free)
        state = tuple(s.detach().requires_grad_() for s in free.state)
        with full_precision(x):
            after = adjoint_steps.schedule.transform(phase)(state)
            (slope,) = torch.autograd.grad(model.cost.value(state[-1], target).sum(), state[-1])
            adjoint = _solve_adjoint(adjoint_steps, state, after, slope)
            surrogate = torch.stack([(a * s).sum() for a, s in zip(adjoint, after, strict=True)]).sum() / x.shape[0]
        yield as_loss(model.cost.value(free.output, target).mean(), surrogate)


def _solve_adjoint(steps: Settle, state: Units, after: Units, slope: Tensor) -> Units:
    """Iterate the adjoint, where ``after = F(state)`` and ``slope = dC/ds`` at the output."""
    source = (*(torch.zeros_like(s) for s in state[:-1]), slope)
    before, adjoint = source, source

    def step(adjoint: Units) -> Units:
        back = pull_back(state, after, adjoint)
        return tuple(b + c for b, c in zip(back, source, strict=True))

    for before, adjoint in steps.iterate(step, source):  # noqa: B007 - the last pair counts
        pass
    if not finite(residual(before, adjoint)):
        raise FloatingPointError("the adjoint is not finite: the free state is unstable; lower the weights")
    return adjoint


def pull_back(state: Units, after: Units, adjoint: Units) -> Units:
    """Return ``(dF/ds)^T adjoint`` for ``after = F(state)``; zero from populations that do not depend on a parameter or state."""
    pairs = [(s, a) for s, a in zip(after, adjoint, strict=True) if s.requires_grad]
    if not pairs:
        return tuple(torch.zeros_like(s) for s in state)
    outputs, weights = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, state, weights, retain_graph=True, materialize_grads=True, allow_unused=True)
