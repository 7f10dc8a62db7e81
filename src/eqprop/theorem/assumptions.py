r"""What the theorem assumes, and whether it holds for a model, a batch and a beta: measured, not believed.

1. *Gradient dynamics*: EP multiplies by the Jacobian ``J = dF/ds`` where BPTT multiplies by its transpose, so ``J D`` must be
   symmetric (`Duality`). It is not for untied weights, a wrong derivative, units held at a bound by a clamp, or where a ``rho'``
   is left out. Measured at the free state, along one random direction ``v`` of equal length in every population:
   ``|J D v - D J^T v|`` relative to the larger of the two, in the population where that is most; and the same of what a step
   takes from and gives to each parameter.
2. *Steady state*: ``s_{T-K} = … = s_T``. What still moves without a nudge is in the increments too, divided by beta. Measured for
   each population: the norm of the motion over the last K free steps, relative to that of the nudged motion or itself. Synchronous
   updates of a chain are two interleaved sweeps that do not see each other; where these settle in different states, the network
   for ever alternates between two.
3. *Nudge*: the force must enter through ``D``; outside of the activation it does not, unless ``rho' = 1`` at the output.
4. *Precision*: a state of size ``|s|`` is rounded by ``eps |s|`` every step, which EP divides by ``beta dt``. Estimated for each
   population, relative to the increments.
5. *Slow weights*, of continual EP: the weights must hardly move while the phase lasts (Ernoult et al. 2020, theorem 1). Measured
   for each population: how far its increments are from those with the weights at rest, relative to the larger of the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eqprop._core.precision import full_precision
from eqprop._core.state import State
from eqprop.dynamics.base import Drive, Duality
from eqprop.models.model import Model

__all__ = ["Assumption", "check", "of_twin", "share", "slow"]

STILL = 0.01
"""Largest share of the increments that may come from the free motion, or from rounding."""

SEED = 0
"""Of the direction that the Jacobian is tested on."""


@dataclass(frozen=True)
class Assumption:
    """One assumption of the theorem.

    Attributes:
        name: which.
        holds: whether it does.
        detail: what was measured, in a sentence.
    """

    name: str
    holds: bool
    detail: str


def check(
    model: Model,
    x: Tensor,
    drive: Drive,
    dt: float,
    states: Sequence[State],
    increments: Sequence[Tensor],
    gradients: Sequence[Tensor],
    beta: float,
) -> list[Assumption]:
    """All four.

    Args:
        model: the model.
        x: its input.
        drive: of the batch.
        dt: duration of a step.
        states: the last K + 1 states of the free phase.
        increments: EP's, ``(K, B, *shape)`` a population.
        gradients: BPTT's, likewise.
        beta: nudging strength.
    """
    unit, eps = abs(beta) * dt, torch.finfo(increments[0].dtype).eps
    with torch.no_grad(), full_precision(drive.input):
        duality = model.dynamics.duality(model.network, states[-1], drive)
    moved = [torch.stack(path).diff(dim=0) / unit for path in zip(*states, strict=True)]
    rounded = [
        eps / 2 * s.expand_as(d) / unit * bool(g.any())
        for s, d, g in zip(states[-1], increments, gradients, strict=True)
    ]
    least = eps**0.5 * max(d.norm().item() for d in increments)  # below it there is nothing to be compared with
    steady = small(
        "steady state", "the motion of population {} is there without a nudge", shares(moved, increments, least)
    )
    return [
        symmetry(max(asymmetry(model, drive, duality, states[-1]), mispairing(model, x, duality, states[-1])), eps),
        replace(steady, detail=steady.detail + ALTERNATES) if not steady.holds and alternates(states) else steady,
        through(duality),
        small("precision", "the increments of population {} may be round-off", shares(rounded, increments, 0.0)),
    ]


ALTERNATES = ": the network alternates between two states"


def alternates(states: Sequence[State]) -> bool:
    """Whether the last state is far closer to the one before the last than to the last but one."""
    if len(states) < 3:
        return False
    now, before, earlier = (flat(state) for state in (states[-1], states[-2], states[-3]))
    return (now - earlier).norm().item() < 0.1 * (now - before).norm().item()


def of_twin(twin: Model) -> Assumption:
    """What is said of a model whose own steps have no gradient."""
    return Assumption(
        "steps with a gradient",
        False,
        f"these have none: BPTT goes back through the twin of the model, {twin.dynamics!r}",
    )


def slow(moving: Sequence[Tensor], at_rest: Sequence[Tensor]) -> Assumption:
    """Whether the increments are hardly others than they are with the weights at rest."""
    found = [apart(m, r) for m, r in zip(moving, at_rest, strict=True)]
    return small("slow weights", "the increments of population {} come of weights that move", found)


def share(noise: Tensor, signal: Tensor, least: float = 0.0) -> float:
    """Norm of the noise over the largest of both norms and ``least``; 0 if the noise vanishes."""
    n, s = noise.norm().item(), signal.norm().item()
    return n / max(n, s, least) if n else 0.0


def shares(noise: Sequence[Tensor], increments: Sequence[Tensor], least: float) -> list[float]:
    """The share of each population."""
    return [share(n, d, least) for n, d in zip(noise, increments, strict=True)]


def small(name: str, text: str, found: Sequence[float]) -> Assumption:
    """Whether every share is small; the detail tells of the largest."""
    worst = max(range(len(found)), key=found.__getitem__)
    return Assumption(name, found[worst] <= STILL, f"{100 * found[worst]:.3g} % of " + text.format(worst + 1))


def symmetry(found: float, eps: float) -> Assumption:
    """Whether the Jacobian's asymmetry is no more than round-off."""
    return Assumption(
        "gradient dynamics", found <= eps**0.5, f"asymmetry of the step's Jacobian {found:.1e}, of at most 2"
    )


def through(duality: Duality) -> Assumption:
    """Whether the nudge enters through the slopes."""
    holds = duality.through
    return Assumption(
        "nudge", holds, "the nudge is a force on the energy" if holds else "the nudge skips rho' of the output"
    )


def asymmetry(model: Model, drive: Drive, duality: Duality, state: State) -> float:
    """``|J D v - D J^T v| / max(|J D v|, |D J^T v|)`` for a random ``v``, the largest of the populations: from 0 to 2."""
    v = directions(state)
    back = products(model, drive, state, v)[0]
    forth = products(model, drive, state, [d * v_n for d, v_n in zip(duality.slopes, v, strict=True)])[1]
    return max(apart(left, d * right) for left, d, right in zip(forth, duality.slopes, back, strict=True))


def mispairing(model: Model, x: Tensor, duality: Duality, state: State) -> float:
    """The same for parameters: BPTT's ``(dF/dtheta)^T v`` against ``dt d/dtheta <u, da>``, ``da`` the activities' move along
    ``D v``."""
    network, dynamics = model.network, model.dynamics
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not parameters:
        return 0.0
    v = directions(state)
    along = tuple(d * v_n for d, v_n in zip(duality.slopes, v, strict=True))
    with torch.enable_grad(), full_precision(x):
        leaf = tuple(s.detach().requires_grad_() for s in state)
        a = dynamics.activity(network, leaf)
        dual = tuple(torch.zeros_like(s).requires_grad_() for s in a)
        linear = torch.autograd.grad(a, leaf, dual, create_graph=True)
        moves = torch.autograd.grad(linear, dual, along)
        moved = dynamics.step(network, state, dynamics.prepare(network, x))
        u = network.prepare(dynamics.encode(network, x)).currents(a)
        of_step = torch.stack([(m * v_n).sum() for m, v_n in zip(moved, v, strict=True)]).sum()
        of_phi = torch.stack([(c * m).sum() for c, m in zip(u, moves, strict=True)]).sum()
        left = torch.autograd.grad(of_step, parameters, allow_unused=True, materialize_grads=True)
        right = torch.autograd.grad(of_phi, parameters, allow_unused=True, materialize_grads=True)
    return max(apart(p, duality.dt * q) for p, q in zip(left, right, strict=True))


def directions(state: State) -> list[Tensor]:
    """A random direction of equal length in every population."""
    generator = torch.Generator().manual_seed(SEED)
    drawn = [torch.randn(s.shape, generator=generator).to(s) for s in state]
    return [d / d.norm() for d in drawn]


def apart(a: Tensor, b: Tensor) -> float:
    """Distance relative to the larger of both norms; 0 if both vanish."""
    norm = max(a.norm().item(), b.norm().item())
    return (a - b).norm().item() / norm if norm else 0.0


def products(model: Model, drive: Drive, state: State, v: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """``(J^T v, J v)``; the second as the derivative of the first, which is linear in ``v``, along ``v``."""
    with torch.enable_grad(), full_precision(drive.input):
        leaf = tuple(s.detach().requires_grad_() for s in state)
        dual = tuple(torch.zeros_like(s).requires_grad_() for s in state)
        moved = model.dynamics.step(model.network, leaf, drive)
        pairs = [(m, w, v_n) for m, w, v_n in zip(moved, dual, v, strict=True) if m.requires_grad]
        nothing = [torch.zeros_like(s) for s in state]
        if not pairs:
            return nothing, nothing
        outputs, weights, along = zip(*pairs, strict=True)
        kwargs = {"allow_unused": True, "materialize_grads": True}
        back = torch.autograd.grad(outputs, leaf, along, retain_graph=True, **kwargs)
        linear = torch.autograd.grad(outputs, leaf, weights, create_graph=True, **kwargs)
        wanted = [(g, v_n) for g, v_n in zip(linear, v, strict=True) if g.requires_grad]
        if not wanted:
            return list(back), nothing
        forth = torch.autograd.grad([g for g, _ in wanted], dual, [v_n for _, v_n in wanted], **kwargs)
        return list(back), list(forth)


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """One vector."""
    return torch.cat([t.flatten() for t in tensors])
