r"""Compare EP's increments with BPTT's gradients: one free phase, a backward pass over its last K steps, and the nudged phases.

*Gradient-descending updates* (GDU, Ernoult et al. 2019, theorem 1): if the dynamics descend a primitive function and the free phase
is at its steady state, then for every t < K, as beta -> 0,

    Delta_s(t) -> -nabla_s(t),        Delta_theta(t) -> -nabla_theta(t).

Memory grows with K (every parameter has K increments and K gradients), but not with T.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError, function, instance, non_negative, nudging_strength, one_of, positive_int
from eqprop._core.precision import full_precision
from eqprop._core.state import State
from eqprop.dynamics.base import Duality
from eqprop.estimators.ep import nudging_strengths
from eqprop.estimators.rates import as_rates
from eqprop.models.model import Model
from eqprop.solvers.phase import Phase
from eqprop.solvers.schedules import Synchronous
from eqprop.solvers.settle import Settle, Solution, as_settle, settle
from eqprop.theorem.assumptions import check_assumptions, check_response, check_slow_weights, rate_model_assumption
from eqprop.theorem.gradients import StepGradient, cost_gradient, step_gradients, trainable_parameters
from eqprop.theorem.increments import continual_increments, nudged_phases, parameter_increments, state_increments
from eqprop.theorem.report import GDUReport, output_distances, parameter_labels
from eqprop.theorem.series import Series

__all__ = ["BackwardPass", "Progress", "as_plain_steps", "check_betas", "compare", "gdu", "rate_states", "run_backward"]

Rates: TypeAlias = float | Sequence[float] | None
"""Learning rates inside a nudged phase; None for fixed weights."""

Progress = Callable[[int, int], object]
"""Called as ``progress(done, total)``, in steps."""

CHUNK = 500
"""Free steps between two calls of a progress function."""


@dataclass(frozen=True, eq=False)
class BackwardPass:
    """A free phase and BPTT's gradients of its last steps: the part of the comparison that does not depend on beta.

    Attributes:
        x: input, ``(B, *shape)``.
        target: encoded target.
        phase: the free phase.
        free: its solution.
        states: its last K + 1 states; for spiking models, those of the rate model, started at the end of the free phase.
        gradients: BPTT's ``nabla(t)`` for t = 0 .. K - 1.
        duality: of each of the last steps, in the same order.
    """

    x: Tensor
    target: Tensor
    phase: Phase
    free: Solution
    states: tuple[State, ...]
    gradients: list[StepGradient]
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
    """Compare EP's increments with BPTT's gradients, step by step. Parameters and their ``.grad`` are not changed.

    Args:
        model: any model of the library; in float64 (``model.double()``) small betas are free of rounding errors.
        x: input, ``(B, *shape)``.
        y: target, ``(B,)`` classes or ``(B, n)`` floats.
        free_steps: T, as steps or a `Settle` with synchronous steps, which the theorem assumes.
        nudged_steps: K: the number of nudged steps, and of last free steps that BPTT differentiates; at most T.
        beta: nudging strength.
        nudging: "one-sided" or "centred".
        rates: learning rates of continual EP, at least 0: one for all connections, or one for each, input-first. A copy of the
            weights is updated after every nudged step. None keeps the weights fixed, as EP does. So does 0, but untied weights then
            use the currents at the state before each step instead of the free state.
        progress: called as ``progress(done, total)`` during the free phase.

    Returns:
        The series of both methods, their distances, and the theorem's assumptions.

    Raises:
        ValueError: if an argument is invalid, or the dynamics are unstable at this ``beta``.
        FloatingPointError: if the input, a weight or a state is not finite.

    >>> import torch, eqprop as ep
    >>> report = ep.gdu(ep.toy().double(), torch.rand(1, 5).double(), torch.tensor([3]), 3000, 20, beta=1e-4)
    >>> max(report.relative_error().values()) < 1e-3
    True
    """
    instance("model", model, Model)
    if progress is not None:
        function("progress", progress)
    one_of("nudging", nudging, ("one-sided", "centred"))
    model.check_beta(
        nudging_strength("beta", beta), both_signs=nudging == "centred", warn=False
    )  # the report measures rounding
    return compare(model, run_backward(model, x, y, free_steps, nudged_steps, progress=progress), beta, nudging, rates)


def run_backward(
    model: Model,
    x: Tensor,
    y: Tensor,
    free_steps: int | Settle,
    nudged_steps: int,
    *,
    progress: Progress | None = None,
) -> BackwardPass:
    """Run the free phase and the backward pass of `gdu`, with the same arguments and errors."""
    steps, last = as_plain_steps("free_steps", free_steps), positive_int("nudged_steps", nudged_steps)
    if last > steps.steps:
        raise ArgumentError(
            "nudged_steps",
            f"`nudged_steps` must be at most the {steps.steps} free steps, which BPTT differentiates, got {last}",
        )
    with torch.inference_mode(False):
        x = model.network.check_input(x).detach()  # autograd rejects inference tensors
        with torch.no_grad(), full_precision(x):
            phase, start, target = model.prepare_batch(x, y)
            target = target.clone() if target.is_inference() else target
            free, states = _run_free_phase(phase, start, steps, last, progress)
            differentiable = model.rate_model()
            if differentiable is not model:
                states = rate_states(differentiable, x, model.dynamics.units(free.state), last)
            fixed = differentiable.dynamics.prepare(differentiable.network, x)
            duality = [differentiable.dynamics.duality(differentiable.network, s, fixed) for s in reversed(states[:-1])]
        gradients = list(step_gradients(differentiable, x, target, states))
    return BackwardPass(x, target, phase, free, states, gradients, duality)


def as_plain_steps(name: str, steps: int | Settle, scope: str = "") -> Settle:
    """Return `as_settle` of synchronous steps without acceleration, which the theorem assumes.

    Args:
        name: of the argument.
        steps: its value.
        scope: prefix of the error message.

    Raises:
        ArgumentError: if the steps are asynchronous or accelerated.
    """
    plain = as_settle(name, steps)
    if plain.schedule != Synchronous():
        raise ArgumentError(
            name, f"{scope}`{name}` must be synchronous, which the theorem assumes, got {plain.schedule!r}"
        )
    if plain.accelerate is not None:
        raise ArgumentError(
            name,
            f"{scope}`{name}` must be plain steps, which the theorem assumes, got {plain.accelerate!r}: leave out `accelerate`",
        )
    return plain


def _run_free_phase(
    phase: Phase, state: State, steps: Settle, last: int, progress: Progress | None
) -> tuple[Solution, tuple[State, ...]]:
    """Return the free phase and its last ``last + 1`` states.

    Only these states are kept. Without a tolerance the steps before them run in chunks, to report progress.
    """
    taken, total = 0, steps.steps
    while (left := total - last - taken) > 0:
        part = (
            steps.shortened(taken + last)
            if steps.tol is not None
            else Settle(left if progress is None else min(left, CHUNK))
        )
        solution = settle(phase, state, part)
        state, taken = solution.state, taken + solution.steps
        if progress is not None:
            progress(taken, total)
        if steps.tol is not None:
            break
    end = settle(phase, state, Settle(last), trajectory=True)
    return replace(end, steps=taken + last, trajectory=None), end.trajectory or ()


def rate_states(rate_model: Model, x: Tensor, state: State, steps: int) -> tuple[State, ...]:
    """Return ``state`` and the states of a rate model after each of ``steps`` free steps from it."""
    phase = Phase(rate_model.network, rate_model.dynamics, rate_model.dynamics.prepare(rate_model.network, x))
    return settle(phase, state, Settle(steps), trajectory=True).trajectory or ()


def compare(
    model: Model, back: BackwardPass, beta: float, nudging: Literal["one-sided", "centred"], rates: Rates = None
) -> GDUReport:
    """Run the nudged phases of `gdu` and report; arguments and errors as there."""
    duality, steps, betas = back.duality[0], len(back.gradients), nudging_strengths(nudging, beta, None)
    units, differentiable = model.dynamics.units, model.rate_model()
    with torch.inference_mode(False):
        phases = nudged_phases(model, back.phase, back.target, back.free, steps, betas)
        states = at_fixed_weights = state_increments(phases, units, duality.dt)
        if rates is None:
            parameters = parameter_increments(model, back.x, back.free, phases)
        else:
            phases, parameters = continual_increments(model, back.x, back.target, back.free, steps, betas, rates)
            states = state_increments(phases, units, duality.dt)
        _, of_cost = cost_gradient(model, back.target, units(back.free.state), trainable_parameters(model))
        for name, grad in of_cost.items():
            parameters[name][0] -= grad
        gradients = _neuron_gradients(back)
        drive = back.phase.drive if differentiable is model else differentiable.dynamics.prepare(model.network, back.x)
        assumptions = check_assumptions(differentiable, back.x, drive, duality.dt, back.states, states, gradients, beta)
        assumptions += [] if differentiable is model else [rate_model_assumption(differentiable)]
        assumptions += [] if rates is None else [check_slow_weights(states, at_fixed_weights)]
        at_rest = all(a.holds for a in assumptions if a.name == "steady state")
        if at_rest and rates is None and model.dynamics.comes_to_rest:
            assumptions += check_response([[units(state) for state in path] for _, path in phases])
    report = GDUReport(
        neurons=[Series(ep, bptt) for ep, bptt in zip(states, gradients, strict=True)],
        parameters={
            name: Series(ep, torch.stack([g.parameters[name] for g in back.gradients]))
            for name, ep in parameters.items()
        },
        free=[torch.stack(path).diff(dim=0) / (abs(beta) * duality.dt) for path in zip(*back.states, strict=True)],
        residual=back.free.residual,
        steps=back.free.steps,
        beta=beta,
        nudging=nudging,
        rates=None if rates is None else as_rates(rates, non_negative),
        dt=duality.dt,
        against="dL/du" if duality.through and any(bool((d != 1).any()) for d in duality.slopes) else "dL/ds",
        assumptions=assumptions,
        labels=parameter_labels(model.network, list(parameters)),
        distances=output_distances(model.network),
    )
    _check_finite(report)
    return report


def _check_finite(report: GDUReport) -> None:
    """Raise FloatingPointError if an increment or a gradient is not finite, and name the first."""
    populations = {f"population {n}": series for n, series in enumerate(report.neurons, start=1)}
    for name, series in (populations | report.parameters).items():
        for method, values in (("EP's increments", series.ep), ("BPTT's gradients", series.bptt)):
            if not torch.isfinite(values).all():
                raise FloatingPointError(
                    f"{method} of {name} are not finite: the dynamics are unstable; use smaller weights"
                )


def check_betas(model: Model, betas: Sequence[float], nudging: str) -> None:
    """Check every nudging strength of an argument ``betas``.

    Raises:
        ArgumentError: if the dynamics are unstable at one of them, or precision leaves nothing of the estimate.
    """
    for beta in betas:
        try:
            model.check_beta(beta, both_signs=nudging == "centred", warn=False)
        except ValueError as error:
            raise ArgumentError("betas", str(error).replace("`beta`", "`betas`")) from None


def _neuron_gradients(back: BackwardPass) -> list[Tensor]:
    """Return ``D dL/ds`` where the nudge enters through ``D``, else ``dL/ds``; ``(K, B, *shape)`` for each population."""
    gradients = [
        [d * g for d, g in zip(duality.slopes, gradient.state, strict=True)] if duality.through else gradient.state
        for duality, gradient in zip(back.duality, back.gradients, strict=True)
    ]
    return [torch.stack(path) for path in zip(*gradients, strict=True)]
