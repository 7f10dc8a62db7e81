r"""BPTT's gradient at each of the last steps of a free phase.

With ``s_{j} = F(x, s_{j-1}, theta_j)``, a separate copy of theta for each step, and ``L = C(s_T)`` summed over samples,

    nabla_s(0)      =  dC/ds_T,
    nabla_s(t + 1)  =  (dF/ds at s_{T-t-1})^T nabla_s(t),
    nabla_theta(t)  =  (dF/dtheta at s_{T-t-1})^T nabla_s(t).

Each step is differentiated separately from its initial state, so memory does not grow with the number of steps. The drive of the
input is computed once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eqprop._core.precision import full_precision
from eqprop._core.state import State
from eqprop.estimators.implicit import pull_back
from eqprop.models.model import Model

__all__ = ["StepGradient", "cost_gradient", "step_gradients", "trainable_parameters"]


@dataclass(frozen=True, eq=False)
class StepGradient:
    """BPTT's gradient at one step.

    Attributes:
        state: ``dL/ds_{T-t}`` of each sample's own loss, ``(B, *shape)`` for each population.
        parameters: gradient of the batch-mean loss with respect to this step's copy of the parameters, by name.
    """

    state: State
    parameters: dict[str, Tensor]


def trainable_parameters(model: Model) -> dict[str, nn.Parameter]:
    """Return the parameters with ``requires_grad``, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def step_gradients(model: Model, x: Tensor, target: Tensor, trajectory: tuple[State, ...]) -> Iterator[StepGradient]:
    """Yield the gradients of the last steps, starting with the last one.

    Args:
        model: the model.
        x: input, ``(B, *shape)``.
        target: as encoded by `Model.prepare_batch`.
        trajectory: the last states of a free phase, ``s_{T-K} .. s_T``; gives K gradients.
    """
    parameters = trainable_parameters(model)
    with torch.enable_grad():
        drive = model.dynamics.prepare(model.network, x)
    adjoint, of_cost = cost_gradient(model, target, trajectory[-1], parameters)
    for before in reversed(trajectory[:-1]):
        with torch.enable_grad(), full_precision(x):
            state = tuple(s.detach().requires_grad_() for s in before)
            after = model.dynamics.step(model.network, state, drive)
            back = pull_back((*state, *parameters.values()), after, adjoint)
        by_name = zip(parameters, back[len(state) :], strict=True)
        # `pop`: the gradient of the cost's own parameters (a readout) belongs to the last step only
        yield StepGradient(adjoint, {name: grad / len(x) + of_cost.pop(name, 0.0) for name, grad in by_name})
        adjoint = back[: len(state)]


def cost_gradient(
    model: Model, target: Tensor, state: State, parameters: dict[str, nn.Parameter]
) -> tuple[State, dict[str, Tensor]]:
    """Return ``dC/ds_T``, and the gradient of the batch-mean cost with respect to the cost's own parameters (a readout)."""
    with torch.enable_grad(), full_precision(target):
        out = state[-1].detach().requires_grad_()
        cost = model.cost.value(out, target)
        slope, *own = torch.autograd.grad(
            cost.sum(), (out, *parameters.values()), allow_unused=True, materialize_grads=False
        )
    by_name = zip(parameters, own, strict=True)
    zeros = tuple(torch.zeros_like(s) for s in state[:-1])
    return (*zeros, slope), {name: grad / len(target) for name, grad in by_name if grad is not None}
