r"""EP step by step: what each step of a nudged phase adds to EP's estimate.

    Delta_s(t)      =  (s^beta_{t+1} - s^beta_t) / (beta dt),
    Delta_theta(t)  =  (dPhi/dtheta(s^beta_{t+1}) - dPhi/dtheta(s^beta_t)) / beta,

and for untied weights the pairing of `Network.contrast` in the place of the difference of Phi. Summed over t the latter telescope
to minus EP's estimate of the gradient. Centred increments are the mean of those at ``beta`` and at ``-beta``.

In continual EP theta moves on by ``rate Delta_theta(t)`` after step t, and the step after it is taken with the new one (Ernoult et
al. 2020); as the rate goes to 0 its increments become those above.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from eqprop._core.checks import non_negative
from eqprop._core.precision import full_precision
from eqprop._core.state import State, Units
from eqprop.estimators.continual import check_finite
from eqprop.estimators.rates import as_rates, rates_by_parameter
from eqprop.models.model import Model
from eqprop.network import Activities
from eqprop.solvers.phase import Phase
from eqprop.solvers.settle import Settle, Solution, settle
from eqprop.theorem.gradients import trainable

__all__ = ["Move", "Nudged", "gradient", "moving", "nudged", "of_parameters", "of_states"]

Nudged = tuple[float, tuple[State, ...]]
"""A nudging strength, and the states 0 .. K of its phase."""


@torch.no_grad()
def nudged(
    model: Model, free_phase: Phase, target: Tensor, free: Solution, steps: int, betas: Sequence[float]
) -> list[Nudged]:
    """A nudged phase of ``steps`` steps for each strength, from the free state."""

    def phase(beta: float) -> tuple[State, ...]:
        force = model.cost.nudging_force(target, beta)
        found = settle(free_phase.nudged(force), free.state, Settle(steps), trajectory=True)
        return found.trajectory or ()

    return [(beta, phase(beta)) for beta in betas]


@torch.no_grad()
def of_states(phases: Sequence[Nudged], units: Callable[[State], Units], dt: float) -> list[Tensor]:
    """``Delta_s`` of each population, from the units of the states: ``(K, B, *shape)``."""
    found = []
    for beta, states in phases:
        paths = (torch.stack(path) for path in zip(*map(units, states), strict=True))
        found.append([(path[1:] - path[:-1]) / (beta * dt) for path in paths])
    return [torch.stack(of_phases).mean(0) for of_phases in zip(*found, strict=True)]


def of_parameters(model: Model, x: Tensor, free: Solution, phases: Sequence[Nudged]) -> dict[str, Tensor]:
    """``Delta_theta`` by name: ``(K, *shape)``. What a readout learns is its plain gradient at the free state: here 0."""
    parameters, network = trainable(model), model.network
    with torch.no_grad():
        given = model.dynamics.encode(network, x)
        paths = [(beta, [model.dynamics.activity(network, s) for s in states]) for beta, states in phases]
    found = room(parameters, len(paths[0][1]) - 1)
    for t in range(len(paths[0][1]) - 1):
        moves = [Move(beta, free.activity, path[t], path[t + 1]) for beta, path in paths]
        enter(found, t, gradient(model, given, moves))
    return found


def moving(
    model: Model,
    x: Tensor,
    target: Tensor,
    free: Solution,
    steps: int,
    betas: Sequence[float],
    rates: float | Sequence[float],
) -> tuple[list[Nudged], dict[str, Tensor]]:
    """Both sides of continual EP: the nudged phases, and ``Delta_theta`` by name, while a copy of the model learns.

    After each step the copy's weights move along the increment that the step caused, ``theta += rate Delta_theta(t)``, one theta
    for all strengths (Ernoult et al. 2020, section 3); the pairing of untied weights takes their currents at the old state. The
    model itself stays as it is.

    Raises:
        ValueError: if the number of rates is not that of the connections.
        FloatingPointError: if a state is not finite.
    """
    private = copy.deepcopy(model)
    parameters = trainable(private)
    rate = rates_by_parameter(private, as_rates(rates, non_negative), "gdu")
    found, paths = room(parameters, steps), [[free.state] for _ in betas]
    for t in range(steps):
        with torch.no_grad():
            given = private.dynamics.encode(private.network, x)
            moves = [learn_from(private, x, target, beta, path) for beta, path in zip(betas, paths, strict=True)]
        for path in paths:
            check_finite([model.dynamics.units(path[-1])], t + 1)
        enter(found, t, gradient(private, given, moves))
        with torch.no_grad():
            for name, p in parameters.items():
                p.add_(found[name][t], alpha=rate[p])
    return [(beta, tuple(path)) for beta, path in zip(betas, paths, strict=True)], found


def learn_from(model: Model, x: Tensor, target: Tensor, beta: float, path: list[State]) -> "Move":
    """Take one more nudged step, with the weights as they are now, and say what moved."""
    dynamics, network = model.dynamics, model.network
    with full_precision(x):
        drive = dynamics.prepare(network, x)
        path.append(dynamics.step(network, path[-1], drive, model.cost.nudging_force(target, beta)))
    before, after = (dynamics.activity(network, state) for state in path[-2:])
    return Move(beta, before, before, after)


class Move(NamedTuple):
    """What changed under a nudge: its strength, the state where untied weights have their currents, and two states."""

    beta: float
    free: Activities
    a: Activities
    b: Activities


def gradient(model: Model, given: Tensor, moves: Sequence[Move]) -> tuple[Tensor, ...]:
    """The gradient of the mean over strengths of the contrast between two states, for every trainable parameter."""
    parameters = list(trainable(model).values())
    with torch.enable_grad(), full_precision(given):
        terms = [model.network.contrast(given, m.free, m.a, m.b, len(moves) * m.beta) for m in moves]
        surrogate = torch.stack(terms).sum()
        if not surrogate.requires_grad:
            return tuple(torch.zeros_like(p) for p in parameters)
        return torch.autograd.grad(surrogate, parameters, allow_unused=True, materialize_grads=True)


def room(parameters: Mapping[str, nn.Parameter], steps: int) -> dict[str, Tensor]:
    """Where the increments of each parameter go."""
    return {name: p.new_empty(steps, *p.shape) for name, p in parameters.items()}


def enter(found: Mapping[str, Tensor], t: int, grads: Sequence[Tensor]) -> None:
    """Put the increments of step t, minus the gradients, in their place."""
    for into, grad in zip(found.values(), grads, strict=True):
        torch.neg(grad, out=into[t])
