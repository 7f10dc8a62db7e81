r"""The comparison itself: one free phase, one pass backwards over its last K steps, one nudged phase (two if centred).

*Gradient-descending updates* (Ernoult et al. 2019, theorem 1): if the dynamics descend a primitive function and the free phase is
at its steady state, then for every t < K, as beta -> 0,

    Delta_s(t) -> -nabla_s(t),        Delta_theta(t) -> -nabla_theta(t).

Memory grows with K, the weights' too (each has K increments and K gradients), and not with T.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from eqprop._core.checks import non_negative, nonzero, one_of, positive_int
from eqprop._core.precision import full_precision
from eqprop._core.state import State
from eqprop.dynamics.base import Duality
from eqprop.estimators.ep import nudging_strengths
from eqprop.estimators.rates import as_rates
from eqprop.models.model import Model
from eqprop.solvers.phase import Phase
from eqprop.solvers.schedules import Synchronous
from eqprop.solvers.settle import Settle, Solution, as_settle, settle
from eqprop.theorem.assumptions import check, of_twin, slow
from eqprop.theorem.gradients import Gradient, by_step, of_cost, trainable
from eqprop.theorem.increments import moving, nudged, of_parameters, of_states
from eqprop.theorem.report import GDUReport, distances, labels
from eqprop.theorem.series import Series

__all__ = ["Backward", "Progress", "admit", "backward", "compare", "gdu", "shadowed", "synchronous"]

Rates: TypeAlias = float | Sequence[float] | None
"""How fast weights move inside a nudged phase; None: not at all."""

Progress = Callable[[int, int], object]
"""Called as ``progress(done, total)``, in steps."""

CHUNK = 500
"""Free steps between two calls of a progress function."""


@dataclass(frozen=True, eq=False)
class Backward:
    """A free phase and what BPTT says of its last steps: all that does not depend on beta.

    Attributes:
        x: the input.
        target: the encoded target.
        phase: the free phase that was run.
        free: its solution.
        states: its last K + 1 states; of a model whose steps have no gradient, K steps that its twin takes from its end.
        gradients: BPTT's, ``nabla(t)`` for t = 0 .. K - 1.
        duality: of each of the last steps, in the same order.
    """

    x: Tensor
    target: Tensor
    phase: Phase
    free: Solution
    states: tuple[State, ...]
    gradients: list[Gradient]
    duality: list[Duality]


def gdu(
    model: Model,
    x: Tensor,
    y: Tensor,
    free_steps: int | Settle,
    nudged_steps: int,
    beta: float,
    nudging: Literal["one-sided", "centred"] = "one-sided",
    *,
    rates: Rates = None,
    progress: Progress | None = None,
) -> GDUReport:
    """Hold EP's increments against BPTT's gradients, step by step. No parameter is changed, and no ``.grad``.

    Args:
        model: any model of the library; float64 (``model.double()``) shows small betas without round-off.
        x: input, ``(B, *shape)``.
        y: target, ``(B,)`` classes or ``(B, n)`` floats.
        free_steps: T: steps or `Settle`, synchronous, since the theorem is of such steps.
        nudged_steps: K, the nudged steps, and the last free steps that BPTT goes back over; at most T.
        beta: nudging strength.
        nudging: "one-sided" or "centred".
        rates: of continual EP, at least 0: after every nudged step the weights of a copy move along their increments, at one rate
            or at one for each connection, input-first. None leaves them at rest, as EP does; so does 0, but untied weights then
            pair every step with its own activities and not with the free ones.
        progress: called as ``progress(done, total)`` while the free phase goes on.

    Raises:
        ValueError: if an argument does not fit, or the dynamics do not bear ``beta``.
        FloatingPointError: if the input, a weight or a state is not finite.

    >>> import torch, eqprop as ep
    >>> report = ep.gdu(ep.toy().double(), torch.rand(1, 5).double(), torch.tensor([3]), 3000, 20, beta=1e-4)
    >>> max(report.relative_error().values()) < 1e-3
    True
    """
    model.dynamics.check_beta(nonzero("beta", beta))
    one_of("nudging", nudging, ("one-sided", "centred"))
    return compare(model, backward(model, x, y, free_steps, nudged_steps, progress=progress), beta, nudging, rates)


def backward(
    model: Model,
    x: Tensor,
    y: Tensor,
    free_steps: int | Settle,
    nudged_steps: int,
    *,
    progress: Progress | None = None,
) -> Backward:
    """The half of `gdu` that does not depend on beta; arguments and errors as there."""
    steps, last = synchronous("free_steps", free_steps), positive_int("nudged_steps", nudged_steps)
    if last > steps.steps:
        raise ValueError(
            f"`nudged_steps` must be at most the {steps.steps} free steps, got {last}: BPTT goes back as many"
        )
    with torch.inference_mode(False):
        x = model.network.check_input(x).detach()  # autograd takes no inference tensors
        with torch.no_grad(), full_precision(x):
            phase, start, target = model.prepare_batch(x, y)
            target = target.clone() if target.is_inference() else target
            free, states = free_phase(phase, start, steps, last, progress)
            twin = model.rate_model()
            if twin is not model:
                states = shadowed(twin, x, model.dynamics.units(free.state), last)
            still = twin.dynamics.prepare(twin.network, x)
            duality = [twin.dynamics.duality(twin.network, s, still) for s in reversed(states[:-1])]
        gradients = list(by_step(twin, x, target, states))
    return Backward(x, target, phase, free, states, gradients, duality)


def synchronous(name: str, steps: int | Settle, scope: str = "") -> Settle:
    """`as_settle`, of synchronous plain steps; ``scope`` goes before the name in the error.

    Raises:
        ValueError: if they are not.
    """
    found = as_settle(name, steps)
    if found.schedule != Synchronous():
        raise ValueError(
            f"{scope}`{name}` must be synchronous here, as the theorem is of synchronous steps, got {found.schedule!r}"
        )
    if found.accelerate is not None:
        raise ValueError(
            f"{scope}`{name}` must be plain steps here, as the theorem is of such, got {found.accelerate!r}: leave it out"
        )
    return found


def free_phase(
    phase: Phase, state: State, steps: Settle, last: int, progress: Progress | None
) -> tuple[Solution, tuple[State, ...]]:
    """The free phase and its last states, ``last + 1`` of them; without a tolerance it may stop to tell how far it is."""
    taken, total = 0, steps.steps
    while (left := total - last - taken) > 0:
        part = (
            steps.shortened(taken + last)
            if steps.tol is not None
            else Settle(left if progress is None else min(left, CHUNK))
        )
        found = settle(phase, state, part)
        state, taken = found.state, taken + found.steps
        if progress is not None:
            progress(taken, total)
        if steps.tol is not None:
            break
    end = settle(phase, state, Settle(last), trajectory=True)
    return replace(end, steps=taken + last, trajectory=None), end.trajectory or ()


def shadowed(twin: Model, x: Tensor, state: State, last: int) -> tuple[State, ...]:
    """The states of a twin over ``last`` steps, from where the model came to rest."""
    drive = twin.dynamics.prepare(twin.network, x)
    return settle(Phase(twin.network, twin.dynamics, drive), state, Settle(last), trajectory=True).trajectory or ()


def compare(
    model: Model, back: Backward, beta: float, nudging: Literal["one-sided", "centred"], rates: Rates = None
) -> GDUReport:
    """The half of `gdu` that depends on beta and rates; errors as there."""
    duality, steps, betas = back.duality[0], len(back.gradients), nudging_strengths(nudging, beta, None)
    units, twin = model.dynamics.units, model.rate_model()
    with torch.inference_mode(False):
        phases = nudged(model, back.phase, back.target, back.free, steps, betas)
        states = at_rest = of_states(phases, units, duality.dt)
        if rates is None:
            parameters = of_parameters(model, back.x, back.free, phases)
        else:
            phases, parameters = moving(model, back.x, back.target, back.free, steps, betas, rates)
            states = of_states(phases, units, duality.dt)
        for name, grad in of_cost(model, back.target, units(back.free.state), trainable(model))[1].items():
            parameters[name][0] -= grad
        against = of_neurons(back)
        still = back.phase.drive if twin is model else twin.dynamics.prepare(twin.network, back.x)
        assumptions = check(twin, back.x, still, duality.dt, back.states, states, against, beta)
        assumptions += [] if twin is model else [of_twin(twin)]
        assumptions += [] if rates is None else [slow(states, at_rest)]
    neurons = [Series(ep, bptt) for ep, bptt in zip(states, against, strict=True)]
    processes = {
        name: Series(ep, torch.stack([g.parameters[name] for g in back.gradients])) for name, ep in parameters.items()
    }
    check_finite({f"population {n}": p for n, p in enumerate(neurons, start=1)} | processes)
    return GDUReport(
        neurons,
        processes,
        [torch.stack(path).diff(dim=0) / (abs(beta) * duality.dt) for path in zip(*back.states, strict=True)],
        back.free.residual,
        back.free.steps,
        beta,
        nudging,
        None if rates is None else as_rates(rates, non_negative),
        duality.dt,
        "dL/du" if duality.through and any(bool((d != 1).any()) for d in duality.slopes) else "dL/ds",
        assumptions,
        labels(model.network, list(parameters)),
        distances(model.network),
    )


def check_finite(processes: Mapping[str, Series]) -> None:
    """Raise FloatingPointError if EP or BPTT went out of bounds, and name where."""
    for name, process in processes.items():
        for side, values in (("EP's increments", process.ep), ("BPTT's gradients", process.bptt)):
            if not torch.isfinite(values).all():
                raise FloatingPointError(f"{side} of {name} are not finite: the states are unstable; lower the weights")


def admit(model: Model, betas: Sequence[float]) -> None:
    """Refuse nudging strengths, called ``betas``, that the dynamics do not bear.

    Raises:
        ValueError: if there is one.
    """
    for beta in betas:
        try:
            model.dynamics.check_beta(beta)
        except ValueError as error:
            raise ValueError(str(error).replace("`beta`", "`betas`")) from None


def of_neurons(back: Backward) -> list[Tensor]:
    """BPTT's side of the neurons: ``D dL/ds`` where the nudge enters through ``D``, else ``dL/ds``; ``(K, B, *shape)`` each."""
    slopes = [
        [d * g for d, g in zip(duality.slopes, gradient.state, strict=True)] if duality.through else gradient.state
        for duality, gradient in zip(back.duality, back.gradients, strict=True)
    ]
    return [torch.stack(path) for path in zip(*slopes, strict=True)]
