r"""EP's increments: the contribution of each nudged step to EP's gradient estimate.

    Delta_s(t)      =  (s^beta_{t+1} - s^beta_t) / (beta dt),
    Delta_theta(t)  =  (dPhi/dtheta(s^beta_{t+1}) - dPhi/dtheta(s^beta_t)) / beta.

For untied weights the pairing of `Network.contrast` replaces the difference of Phi. Summed over t, ``Delta_theta`` telescopes to
minus EP's gradient estimate. Centred increments are the mean of those at ``beta`` and at ``-beta``.

In continual EP theta changes by ``rate Delta_theta(t)`` after step t, and the next step uses the new theta (Ernoult et al. 2020).
As the rate goes to 0, the increments converge to those above.
"""

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from eqprop._core.checks import non_negative
from eqprop._core.precision import full_precision
from eqprop._core.state import State, Units
from eqprop.estimators.continual import check_finite
from eqprop.estimators.rates import as_rates, rates_by_parameter
from eqprop.models.model import Model
from eqprop.network import Contrast
from eqprop.solvers.phase import Phase
from eqprop.solvers.settle import Settle, Solution, settle
from eqprop.theorem.gradients import trainable_parameters

__all__ = [
    "NudgedPhase",
    "continual_increments",
    "contrast_gradient",
    "nudged_phases",
    "parameter_increments",
    "state_increments",
]

NudgedPhase = tuple[float, tuple[State, ...]]
"""A nudging strength, and the states 0 .. K of its phase."""


@torch.no_grad()
def nudged_phases(
    model: Model, phase: Phase, target: Tensor, free: Solution, steps: int, betas: Sequence[float]
) -> list[NudgedPhase]:
    """Run a nudged phase of ``steps`` steps from the free state for each nudging strength; ``phase`` is the free one."""

    def run(beta: float) -> tuple[State, ...]:
        force = model.cost.nudging_force(target, beta)
        return settle(phase.nudged(force), free.state, Settle(steps), trajectory=True).trajectory or ()

    return [(beta, run(beta)) for beta in betas]


@torch.no_grad()
def state_increments(phases: Sequence[NudgedPhase], units: Callable[[State], Units], dt: float) -> list[Tensor]:
    """Return ``Delta_s`` of each population, ``(K, B, *shape)``; ``units`` is that of the dynamics."""
    by_phase = []
    for beta, states in phases:
        paths = (torch.stack(path) for path in zip(*map(units, states), strict=True))
        by_phase.append([(path[1:] - path[:-1]) / (beta * dt) for path in paths])
    return [torch.stack(of_population).mean(0) for of_population in zip(*by_phase, strict=True)]


def parameter_increments(model: Model, x: Tensor, free: Solution, phases: Sequence[NudgedPhase]) -> dict[str, Tensor]:
    """Return ``Delta_theta`` by name, ``(K, *shape)``. It is 0 for a readout, whose gradient is taken at the free state."""
    parameters, network = trainable_parameters(model), model.network
    with torch.no_grad():
        encoded = model.dynamics.encode(network, x)
        paths = [(beta, [model.dynamics.activity(network, s) for s in states]) for beta, states in phases]
    steps = len(paths[0][1]) - 1
    increments = _allocate(parameters, steps)
    for t in range(steps):
        contrasts = [Contrast(free.activity, path[t], path[t + 1], len(paths) * beta) for beta, path in paths]
        _store(increments, t, contrast_gradient(model, encoded, contrasts))
    return increments


def continual_increments(
    model: Model,
    x: Tensor,
    target: Tensor,
    free: Solution,
    steps: int,
    betas: Sequence[float],
    rates: float | Sequence[float],
) -> tuple[list[NudgedPhase], dict[str, Tensor]]:
    """Return the nudged phases of continual EP, and ``Delta_theta`` by name.

    A copy of the model learns: after each step its weights move along the increment, ``theta += rate Delta_theta(t)``, with one
    theta for all strengths (Ernoult et al. 2020, section 3). The currents of untied weights are those at the old state.

    Raises:
        ValueError: if the number of rates is not 1 or the number of connections.
        FloatingPointError: if a state is not finite.
    """
    private = copy.deepcopy(model)
    parameters = trainable_parameters(private)
    rate = rates_by_parameter(private, as_rates(rates, non_negative), "gdu")
    increments, paths = _allocate(parameters, steps), [[free.state] for _ in betas]
    for t in range(steps):
        with torch.no_grad():
            encoded = private.dynamics.encode(private.network, x)
            contrasts = []
            for beta, path in zip(betas, paths, strict=True):
                path.append(_nudged_step(private, x, target, beta, path[-1]))
                before, after = (private.dynamics.activity(private.network, state) for state in path[-2:])
                contrasts.append(Contrast(before, before, after, len(paths) * beta))
        for path in paths:
            check_finite([model.dynamics.units(path[-1])], t + 1)
        _store(increments, t, contrast_gradient(private, encoded, contrasts))
        with torch.no_grad():
            for name, p in parameters.items():
                p.add_(increments[name][t], alpha=rate[p])
    return [(beta, tuple(path)) for beta, path in zip(betas, paths, strict=True)], increments


def _nudged_step(model: Model, x: Tensor, target: Tensor, beta: float, state: State) -> State:
    """Run one nudged step; the drive is prepared anew because the weights have changed."""
    with full_precision(x):
        drive = model.dynamics.prepare(model.network, x)
        return model.dynamics.step(model.network, state, drive, model.cost.nudging_force(target, beta))


def contrast_gradient(model: Model, encoded: Tensor, contrasts: Sequence[Contrast]) -> tuple[Tensor, ...]:
    """Return the gradient of the sum of contrasts with respect to every trainable parameter.

    Args:
        model: the model.
        encoded: the input as `Dynamics.encode` returns it.
        contrasts: one for each nudging strength; include the number of strengths in ``norm`` to get their mean.
    """
    parameters = list(trainable_parameters(model).values())
    with torch.enable_grad(), full_precision(encoded):
        surrogate = torch.stack([model.network.contrast(encoded, *contrast) for contrast in contrasts]).sum()
        if not surrogate.requires_grad:
            return tuple(torch.zeros_like(p) for p in parameters)
        return torch.autograd.grad(surrogate, parameters, allow_unused=True, materialize_grads=True)


def _allocate(parameters: Mapping[str, nn.Parameter], steps: int) -> dict[str, Tensor]:
    return {name: p.new_empty(steps, *p.shape) for name, p in parameters.items()}


def _store(increments: Mapping[str, Tensor], t: int, grads: Sequence[Tensor]) -> None:
    """Write the increments of step t: minus the gradients."""
    for into, grad in zip(increments.values(), grads, strict=True):
        torch.neg(grad, out=into[t])
