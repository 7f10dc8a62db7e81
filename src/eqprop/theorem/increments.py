r"""EP step by step: what each step of a nudged phase adds to EP's estimate.

    Delta_s(t)      =  (s^beta_{t+1} - s^beta_t) / (beta dt),
    Delta_theta(t)  =  (dPhi/dtheta(s^beta_{t+1}) - dPhi/dtheta(s^beta_t)) / beta,

and for untied weights the pairing of `Network.contrast` in the place of the difference of Phi. Summed over t the latter telescope
to minus EP's estimate of the gradient. Centred increments are the mean of those at ``beta`` and at ``-beta``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from eqprop.dynamics import Drive, State
from eqprop.model import Model
from eqprop.network import Activities
from eqprop.precision import full_precision
from eqprop.settle import Settle, Solution, settle
from eqprop.theorem.gradients import trainable

__all__ = ["Nudged", "nudged", "of_parameters", "of_states"]

Nudged = tuple[float, tuple[State, ...]]
"""A nudging strength, and the states 0 .. K of its phase."""


@torch.no_grad()
def nudged(
    model: Model, drive: Drive, target: Tensor, free: Solution, steps: int, betas: Sequence[float]
) -> list[Nudged]:
    """A nudged phase of ``steps`` steps for each strength, from the free state."""

    def phase(beta: float) -> tuple[State, ...]:
        def force(out: Tensor) -> Tensor:
            return beta * model.cost.force(out, target)

        found = settle(model.network, model.dynamics, drive, free.state, Settle(steps), force=force, trajectory=True)
        return found.trajectory or ()

    return [(beta, phase(beta)) for beta in betas]


@torch.no_grad()
def of_states(phases: Sequence[Nudged], dt: float) -> list[Tensor]:
    """``Delta_s`` of each population: ``(K, B, *shape)``."""
    found = []
    for beta, states in phases:
        paths = (torch.stack(path) for path in zip(*states, strict=True))
        found.append([(path[1:] - path[:-1]) / (beta * dt) for path in paths])
    return [torch.stack(of_phases).mean(0) for of_phases in zip(*found, strict=True)]


def of_parameters(model: Model, x: Tensor, free: Solution, phases: Sequence[Nudged]) -> dict[str, Tensor]:
    """``Delta_theta`` by name: ``(K, *shape)``. What a readout learns is its plain gradient at the free state: here 0."""
    parameters, network = trainable(model), model.network
    with torch.no_grad():
        given = model.dynamics.encode(network, x)
        paths = [(beta, [model.dynamics.activity(network, s) for s in states]) for beta, states in phases]
    steps = len(paths[0][1]) - 1
    found = {name: p.new_empty(steps, *p.shape) for name, p in parameters.items()}
    for t in range(steps):
        pairs = [(beta, path[t], path[t + 1]) for beta, path in paths]
        grads = gradient(model, given, free.activity, pairs)
        for into, grad in zip(found.values(), grads, strict=True):
            torch.neg(grad, out=into[t])
    return found


def gradient(
    model: Model, given: Tensor, free: Activities, pairs: Sequence[tuple[float, Activities, Activities]]
) -> tuple[Tensor, ...]:
    """The gradient of the mean over strengths of the contrast between two states, for every trainable parameter."""
    parameters = list(trainable(model).values())
    with torch.enable_grad(), full_precision(given):
        terms = [model.network.contrast(given, free, a, b, len(pairs) * beta) for beta, a, b in pairs]
        surrogate = torch.stack(terms).sum()
        if not surrogate.requires_grad:
            return tuple(torch.zeros_like(p) for p in parameters)
        return torch.autograd.grad(surrogate, parameters, allow_unused=True, materialize_grads=True)
