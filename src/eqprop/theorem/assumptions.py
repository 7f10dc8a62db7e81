r"""The theorem's assumptions, measured for a model, a batch and a beta.

1. *Gradient dynamics*. EP multiplies by the Jacobian ``J = dF/ds``, BPTT by its transpose, so ``J D`` must be symmetric (see
   `Duality`). This fails for untied weights, a wrong derivative, units held at a bound by a clamp, or a missing ``rho'``. Measured
   at the free state along one random direction ``v`` of equal length in every population: ``|J D v - D J^T v|`` relative to the
   larger of the two vectors, in the population with the largest value. The same is measured for the parameters, and for a contrast
   of a user's connection against the difference of its phi.
2. *Steady state*: ``s_{T-K} = … = s_T``. Motion that remains without a nudge adds to the increments and is divided by beta.
   Measured for each population: norm of the motion over the last K free steps, relative to the nudged motion or itself, whichever
   is larger. Synchronous updates of a layered network are two independent interleaved sweeps. If these settle in different states,
   the network alternates between the two forever.
3. *Nudge*: the force must enter through ``D``. Outside the activation it does not, unless ``rho' = 1`` at the output.
4. *Precision*: each step rounds a state of size ``|s|`` by ``eps |s|``, and EP divides the error by ``beta dt``. Estimated for each
   population, relative to the increments.
5. *Slow weights* (continual EP only): the weights must hardly change during the phase (Ernoult et al. 2020, theorem 1). Measured
   for each population: distance of its increments to those with fixed weights, relative to the larger norm of the two.
6. *Small response*: the nudged state must be a small displacement of the free one, which it is not if the phase alternates,
   diverges, or jumps to another steady state, as at a kink of rho. Measured as the distance of the nudged from the free state,
   relative to the largest one of a linear response with the same first and last step (`eqprop.estimators.response`). Not measured
   where weights, noise or spikes move, or 2 is broken already; listed only where it is broken.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eqprop._core.customized import is_customized
from eqprop._core.precision import full_precision
from eqprop._core.state import State
from eqprop.connections.base import Connection
from eqprop.connections.untied import SeparateFeedback
from eqprop.dynamics.base import Drive, Duality
from eqprop.estimators.response import NUDGED_MOVES, ResponseMeans
from eqprop.models.model import Model
from eqprop.network import Contrast

__all__ = [
    "Assumption",
    "check_assumptions",
    "check_response",
    "check_slow_weights",
    "noise_share",
    "rate_model_assumption",
]

MAX_SHARE = 0.01
"""Largest share of the increments that may come from free motion or from rounding."""

SEED = 0
"""Seed of the random direction that tests the Jacobian's symmetry."""

ALTERNATES = ": the network alternates between two states"


@dataclass(frozen=True)
class Assumption:
    """One assumption of the theorem.

    Attributes:
        name: short name.
        holds: whether it holds within its threshold.
        detail: the measured value, in a sentence.
    """

    name: str
    holds: bool
    detail: str


def check_assumptions(
    model: Model,
    x: Tensor,
    drive: Drive,
    dt: float,
    states: Sequence[State],
    increments: Sequence[Tensor],
    gradients: Sequence[Tensor],
    beta: float,
) -> list[Assumption]:
    """Measure assumptions 1 to 4.

    Args:
        model: the model.
        x: input, ``(B, *shape)``.
        drive: of ``x``.
        dt: duration of a step.
        states: the last K + 1 states of the free phase.
        increments: EP's, ``(K, B, *shape)`` for each population.
        gradients: BPTT's, same shapes.
        beta: nudging strength.
    """
    unit, eps = abs(beta) * dt, torch.finfo(increments[0].dtype).eps
    with torch.no_grad(), full_precision(drive.input):
        duality = model.dynamics.duality(model.network, states[-1], drive)
    free_motion = [torch.stack(path).diff(dim=0) / unit for path in zip(*states, strict=True)]
    # Populations without a gradient are left out: all of their motion is rounding.
    rounding = [
        eps / 2 * s.expand_as(d) / unit * bool(g.any())
        for s, d, g in zip(states[-1], increments, gradients, strict=True)
    ]
    least = eps**0.5 * max(d.norm().item() for d in increments)  # increments below it are too small to compare with
    asymmetry = max(
        _state_asymmetry(model, drive, duality, states[-1]),
        _parameter_asymmetry(model, x, duality, states[-1]),
        _contrast_asymmetry(model, x, states[-1]),
    )
    steady = _check_shares(
        "steady state",
        "the motion of population {} is present without a nudge",
        [noise_share(n, d, least) for n, d in zip(free_motion, increments, strict=True)],
    )
    if not steady.holds and _alternates(states):
        steady = replace(steady, detail=steady.detail + ALTERNATES)
    return [
        Assumption(
            "gradient dynamics",
            asymmetry <= eps**0.5,
            f"asymmetry of the step's Jacobian {asymmetry:.1e}, of at most 2",
        ),
        steady,
        _check_nudge(duality),
        _check_shares(
            "precision",
            "the increments of population {} may be rounding errors",
            [noise_share(n, d) for n, d in zip(rounding, increments, strict=True)],
        ),
    ]


def rate_model_assumption(rate_model: Model) -> Assumption:
    """Return the assumption that fails for every model whose steps are not differentiable."""
    return Assumption(
        "differentiable steps",
        False,
        f"spikes have no gradient: BPTT differentiates the rate model instead, {rate_model.dynamics!r}",
    )


def check_response(paths: Sequence[Sequence[State]]) -> list[Assumption]:
    """Compare the nudged phases with a linear response, on average over the batch; return what is broken, if anything.

    Args:
        paths: units of the K + 1 states of each nudged phase.
    """
    for response in map(_response_of, paths):
        if NUDGED_MOVES in (problems := response.problems()):
            return [Assumption(RESPONSE, False, "the nudged phase alternates or diverges: " + _last_step(response))]
        if problems:
            ratio = response.distance / response.longest()
            detail = f"the nudged phase jumped {ratio:.2g} times as far as a linear response can go"
            return [Assumption(RESPONSE, False, detail)]
    return []


RESPONSE = "small response"
"""Name of the assumption on the nudged phases; it is listed where it is broken."""


def _last_step(response: ResponseMeans) -> str:
    return f"its last step is {response.residual:.1e}, its distance from the free state {response.distance:.1e}"


def _response_of(path: Sequence[State]) -> ResponseMeans:
    first, last = ([b - a for a, b in zip(*pair, strict=True)] for pair in (path[:2], path[-2:]))
    change = [b - a for a, b in zip(path[0], path[-1], strict=True)]
    residual, distance = (torch.stack([c.flatten(1).abs().amax(1) for c in parts]).amax(0) for parts in (last, change))
    nudge = torch.stack([c.flatten(1).square().sum(1) for c in first]).sum(0).sqrt()
    units = sum(c[0].numel() for c in change)
    r, d, e = (value.double().mean().item() for value in (residual, distance, nudge))
    return ResponseMeans(0.0, r, d, e, len(path) - 1, units, torch.finfo(nudge.dtype).eps)


def check_slow_weights(continual: Sequence[Tensor], fixed: Sequence[Tensor]) -> Assumption:
    """Compare the state increments of continual EP with those at fixed weights, ``(K, B, *shape)`` for each population."""
    return _check_shares(
        "slow weights",
        "the increments of population {} come from weight updates during the phase",
        [_relative_distance(c, f) for c, f in zip(continual, fixed, strict=True)],
    )


def noise_share(noise: Tensor, signal: Tensor, least: float = 0.0) -> float:
    """Return the norm of the noise over the largest of both norms and ``least``; 0 if the noise vanishes."""
    n, s = noise.norm().item(), signal.norm().item()
    return n / max(n, s, least) if n else 0.0


def _check_shares(name: str, text: str, shares: Sequence[float]) -> Assumption:
    """Require every population's share to be small; the detail names the population with the largest."""
    worst = max(range(len(shares)), key=shares.__getitem__)
    return Assumption(name, shares[worst] <= MAX_SHARE, f"{100 * shares[worst]:.3g} % of " + text.format(worst + 1))


def _check_nudge(duality: Duality) -> Assumption:
    holds = duality.through
    return Assumption(
        "nudge", holds, "the nudge is a force on the energy" if holds else "the nudge skips rho' of the output"
    )


def _alternates(states: Sequence[State]) -> bool:
    """Whether the last state is much closer to the one two steps earlier than to the one before it."""
    if len(states) < 3:
        return False
    now, before, earlier = (torch.cat([s.flatten() for s in state]) for state in (states[-1], states[-2], states[-3]))
    return (now - earlier).norm().item() < 0.1 * (now - before).norm().item()


def _state_asymmetry(model: Model, drive: Drive, duality: Duality, state: State) -> float:
    """Return ``|J D v - D J^T v| / max(|J D v|, |D J^T v|)`` for a random ``v``, largest over populations: from 0 to 2."""
    v = _random_directions(state)
    back = _jacobian_products(model, drive, state, v)[0]
    forth = _jacobian_products(model, drive, state, [d * v_n for d, v_n in zip(duality.slopes, v, strict=True)])[1]
    return max(_relative_distance(left, d * right) for left, d, right in zip(forth, duality.slopes, back, strict=True))


def _parameter_asymmetry(model: Model, x: Tensor, duality: Duality, state: State) -> float:
    """Compare BPTT's ``(dF/dtheta)^T v`` with EP's ``dt d/dtheta <u, da>``, where ``da`` is the activity change along ``D v``."""
    network, dynamics = model.network, model.dynamics
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not parameters:
        return 0.0
    v = _random_directions(state)
    along = tuple(d * v_n for d, v_n in zip(duality.slopes, v, strict=True))
    with torch.enable_grad(), full_precision(x):
        leaf = tuple(s.detach().requires_grad_() for s in state)
        a = dynamics.activity(network, leaf)
        # Forward-mode product by double backward: the first gradient is linear in `dual`.
        dual = tuple(torch.zeros_like(s).requires_grad_() for s in a)
        linear = torch.autograd.grad(a, leaf, dual, create_graph=True)
        da = torch.autograd.grad(linear, dual, along)
        after = dynamics.step(network, state, dynamics.prepare(network, x))
        u = network.prepare(dynamics.encode(network, x)).currents(a)
        of_step = torch.stack([(s * v_n).sum() for s, v_n in zip(after, v, strict=True)]).sum()
        of_phi = torch.stack([(c * m).sum() for c, m in zip(u, da, strict=True)]).sum()
        left = torch.autograd.grad(of_step, parameters, allow_unused=True, materialize_grads=True)
        right = torch.autograd.grad(of_phi, parameters, allow_unused=True, materialize_grads=True)
    return max(_relative_distance(p, duality.dt * q) for p, q in zip(left, right, strict=True))


def _contrast_asymmetry(model: Model, x: Tensor, state: State) -> float:
    """Compare the contrasts of a user's connections with the difference of phi between the free state and one near it."""
    network, dynamics, worst = model.network, model.dynamics, 0.0
    with torch.enable_grad(), full_precision(x):
        s = dynamics.activity(network, state)
        near = tuple(a + v for a, v in zip(s, _random_directions(s), strict=True))
        contrast = Contrast(s, s, near, 1.0)
        for pre, post, connection in network.edges():
            parameters = [p for p in connection.parameters() if p.requires_grad]
            if not parameters or isinstance(connection, SeparateFeedback) or not is_customized(connection, Connection):
                continue
            free, a, b = contrast.ends(dynamics.encode(network, x), pre, post)
            pair = connection.contrast(free, a, b), Connection.contrast(connection, free, a, b)
            left, right = (
                torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True) for value in pair
            )
            worst = max(worst, *(_relative_distance(p, q) for p, q in zip(left, right, strict=True)))
    return worst


def _random_directions(state: State) -> list[Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    directions = [torch.randn(s.shape, generator=generator).to(s) for s in state]
    return [d / d.norm() for d in directions]


def _relative_distance(a: Tensor, b: Tensor) -> float:
    """Return ``|a - b|`` relative to the larger norm; 0 if both vanish."""
    norm = max(a.norm().item(), b.norm().item())
    return (a - b).norm().item() / norm if norm else 0.0


def _jacobian_products(
    model: Model, drive: Drive, state: State, v: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return ``(J^T v, J v)``; ``J v`` is the derivative along ``v`` of ``J^T w``, which is linear in ``w``."""
    with torch.enable_grad(), full_precision(drive.input):
        leaf = tuple(s.detach().requires_grad_() for s in state)
        dual = tuple(torch.zeros_like(s).requires_grad_() for s in state)
        after = model.dynamics.step(model.network, leaf, drive)
        pairs = [(s, w, v_n) for s, w, v_n in zip(after, dual, v, strict=True) if s.requires_grad]
        zeros = [torch.zeros_like(s) for s in state]
        if not pairs:
            return zeros, zeros
        outputs, weights, along = zip(*pairs, strict=True)
        kwargs = {"allow_unused": True, "materialize_grads": True}
        back = torch.autograd.grad(outputs, leaf, along, retain_graph=True, **kwargs)
        linear = torch.autograd.grad(outputs, leaf, weights, create_graph=True, **kwargs)
        wanted = [(g, v_n) for g, v_n in zip(linear, v, strict=True) if g.requires_grad]
        if not wanted:
            return list(back), zeros
        forth = torch.autograd.grad([g for g, _ in wanted], dual, [v_n for _, v_n in wanted], **kwargs)
        return list(back), list(forth)
