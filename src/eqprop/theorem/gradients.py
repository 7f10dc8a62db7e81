r"""BPTT step by step: what backpropagation through time finds at each of the last steps of a free phase.

With ``s_{j} = F(x, s_{j-1}, theta_j)``, a copy of theta for each step, and ``L = C(s_T)`` summed over samples,

    nabla_s(0)      =  dC/ds_T,
    nabla_s(t + 1)  =  (dF/ds at s_{T-t-1})^T nabla_s(t),
    nabla_theta(t)  =  (dF/dtheta at s_{T-t-1})^T nabla_s(t).

Each step is differentiated on its own from the state that it started in, so memory does not grow with the steps, and what
depends on the input alone is computed once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eqprop._core.precision import full_precision
from eqprop._core.state import State
from eqprop.estimators.implicit import pull_back
from eqprop.models.model import Model

__all__ = ["Gradient", "by_step", "trainable"]


@dataclass(frozen=True, eq=False)
class Gradient:
    """What BPTT finds at one step.

    Attributes:
        state: ``dL/ds_{T-t}``, each sample's own loss, ``(B, *shape)`` a population.
        parameters: gradient of the batch-mean loss for the step's own copy, by name.
    """

    state: State
    parameters: dict[str, Tensor]


def trainable(model: Model) -> dict[str, nn.Parameter]:
    """The parameters that want a gradient, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def by_step(model: Model, x: Tensor, target: Tensor, trajectory: tuple[State, ...]) -> Iterator[Gradient]:
    """The gradients of the last steps, from the last one backwards.

    Args:
        model: the model.
        x: input, ``(B, *shape)``.
        target: as `Model.pose` encodes it.
        trajectory: the last states of a free phase, ``s_{T-K} .. s_T``; gives K gradients.
    """
    parameters = trainable(model)
    with torch.enable_grad():
        drive = model.dynamics.prepare(model.network, x)
    slopes, readout = of_cost(model, target, trajectory[-1], parameters)
    for before in reversed(trajectory[:-1]):
        with torch.enable_grad(), full_precision(x):
            state = tuple(s.detach().requires_grad_() for s in before)
            moved = model.dynamics.step(model.network, state, drive)
            back = pull_back((*state, *parameters.values()), moved, slopes)
        found = zip(parameters, back[len(state) :], strict=True)
        yield Gradient(slopes, {name: grad / len(x) + readout.pop(name, 0.0) for name, grad in found})
        slopes = back[: len(state)]


def of_cost(
    model: Model, target: Tensor, state: State, parameters: dict[str, nn.Parameter]
) -> tuple[State, dict[str, Tensor]]:
    """``dC/ds_T``, and the gradient of the mean cost for parameters of its own, which belongs to the last step."""
    with torch.enable_grad(), full_precision(target):
        out = state[-1].detach().requires_grad_()
        cost = model.cost.value(out, target)
        slope, *own = torch.autograd.grad(
            cost.sum(), (out, *parameters.values()), allow_unused=True, materialize_grads=False
        )
    found = zip(parameters, own, strict=True)
    zeros = tuple(torch.zeros_like(s) for s in state[:-1])
    return (*zeros, slope), {name: grad / len(target) for name, grad in found if grad is not None}
