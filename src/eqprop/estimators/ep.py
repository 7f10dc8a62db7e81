r"""Equilibrium Propagation (Scellier & Bengio 2017; in discrete time, Ernoult et al. 2019).

The network settles to ``s*`` without a target, then to ``s^beta`` under the force ``-beta dC/ds^L`` on its output, and

    dL/dtheta  ~  (dPhi/dtheta(s^a) - dPhi/dtheta(s^b)) / norm

    one-sided     (a, b, norm) = (s*, s^beta, beta)              error of order beta
    random-sign   the same with -beta in half of the batches     the error averages out
    centred       (a, b, norm) = (s^-beta, s^beta, 2 beta)       error of order beta^2 (Laborieux et al. 2021)

The phases at -beta and beta start from the same ``s*`` and run as one batch of 2B.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from eqprop._core.checks import nudging_strength, one_of
from eqprop._core.state import State
from eqprop._core.tensors import without_inference
from eqprop.dynamics.base import Force
from eqprop.estimators.base import EstimatorBase, OnFreePhase, PhaseCallbacks, as_loss
from eqprop.estimators.response import (
    FirstForce,
    NudgedPhaseCallback,
    ignore_response,
    measure_response,
    warn_of_response,
)
from eqprop.models.model import Model, check_state
from eqprop.network import Contrast
from eqprop.solvers.phase import Phase
from eqprop.solvers.settle import Settle, Solution, as_settle, settle

__all__ = ["EquilibriumProp", "NudgedEstimator", "Nudging"]

Nudging = Literal["one-sided", "centred", "random-sign"]
NUDGINGS: tuple[Nudging, ...] = ("one-sided", "centred", "random-sign")


class NudgedEstimator(EstimatorBase):
    """Base of the estimators with nudged phases, whose fields are at least those below."""

    nudges: ClassVar[bool] = True

    free_steps: int | Settle
    nudged_steps: int | Settle
    beta: float
    nudging: Nudging

    def __post_init__(self) -> None:
        as_settle("free_steps", self.free_steps)
        as_settle("nudged_steps", self.nudged_steps)
        nudging_strength("beta", self.beta)
        one_of("nudging", self.nudging, NUDGINGS)

    @property
    def phases(self) -> dict[str, Settle]:
        """The free phase and the nudged phases."""
        return {name: as_settle(name, getattr(self, name)) for name in ("free_steps", "nudged_steps")}

    def rule_name(self, tied: bool) -> str:
        """Return "EP" for tied and "VF" (vector field) for untied weights; with the prefix "C-" for continual rules."""
        return ("C-" if self.continual else "") + ("EP" if tied else "VF")

    def batching_unsupported_reason(self) -> str | None:
        """Return a reason for continual rules, random signs, tolerance and acceleration."""
        if self.continual:
            return f"{type(self).__name__} moves weights within a phase"
        if self.nudging == "random-sign":
            return "random signs are drawn for each batch of each seed"
        return super().batching_unsupported_reason()

    def check_beta(self, model: Model) -> None:
        """Check the nudging strength against the precision, the dynamics and the cost of a model (`Model.check_beta`).

        Raises:
            ArgumentError: if the estimate would mean nothing, or the dynamics are unstable at this ``beta``.
        """
        model.check_beta(self.beta, both_signs=self.nudging != "one-sided")


@dataclass(frozen=True)
class EquilibriumProp(NudgedEstimator):
    """Gradient by Equilibrium Propagation.

    Args:
        free_steps: T, the length of the free phase: steps or `Settle`.
        nudged_steps: K, the length of each nudged phase: steps or `Settle`.
        beta: nudging strength, in units of the cost's force; its sign is that of the one-sided phase.
        nudging: "one-sided", "centred" or "random-sign".

    Raises:
        ValueError: if ``beta`` is zero, not finite or out of range, a number of steps is not a positive whole number, or
            ``nudging`` is unknown; on a call, if the batch does not fit the model, the dynamics are unstable at this ``beta``, or
            the precision of the weights leaves nothing of the estimate.
        RuntimeError: on a call under ``no_grad``.
        FloatingPointError: on a call, if the input, a weight or a state is not finite.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 8, 3])
    >>> estimator = EquilibriumProp(20, 10, beta=0.1, nudging="centred")
    >>> for loss in estimator(model, torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1])):
    ...     loss.backward()
    """

    free_steps: int | Settle
    nudged_steps: int | Settle
    beta: float
    nudging: Nudging = "one-sided"

    def from_state(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        state: State,
        *,
        on_free_phase: OnFreePhase = None,
        on_nudged_phase: NudgedPhaseCallback | None = None,
        generator: Generator | None = None,
    ) -> Iterator[Tensor]:
        """Yield the loss of a free phase that starts from ``state``, to choose among several steady states.

        Raises:
            ValueError: if ``state`` does not fit the model; otherwise as a call.
        """
        self._check_call(model, x)
        self.check_beta(model)
        callbacks = PhaseCallbacks(on_free_phase, on_nudged_phase or warn_of_response)
        return self._checked(self._losses(model, x, y, callbacks, generator, state))

    def _losses(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        callbacks: PhaseCallbacks,
        generator: Generator | None,
        state: State | None = None,
    ) -> Iterator[Tensor]:
        cost, x = model.cost, without_inference(x)
        with torch.no_grad():
            phase, start, target = model.prepare_batch(x, y)
            start = start if state is None else check_state(state, start)
            free_steps, nudged_steps = self.phases.values()
            free = settle(phase, start, free_steps)
            if callbacks.free is not None:
                callbacks.free(free)
            betas = nudging_strengths(self.nudging, self.beta, generator)
            targets = torch.cat([target] * len(betas)) if len(betas) > 1 else target
            contrast = settle_nudged(
                phase, free, nudged_steps, betas, lambda beta: cost.nudging_force(targets, beta), callbacks.nudged
            )
        loss = cost.value(free.output, target).mean()
        yield as_loss(loss, model.network.contrast(model.dynamics.encode(model.network, x), *contrast))


def nudging_strengths(nudging: Nudging, beta: float, generator: Generator | None) -> tuple[float, ...]:
    """Return the nudging strength of each nudged phase of a batch."""
    if nudging == "centred":
        return -beta, beta
    if nudging == "random-sign":
        device = "cpu" if generator is None else generator.device
        return (beta if torch.rand((), generator=generator, device=device) < 0.5 else -beta,)
    return (beta,)


def strength_per_sample(out: Tensor, betas: tuple[float, ...]) -> Tensor:
    """Return the strength of each sample of the batch repeated once for each strength, ``(n B, 1, ...)``."""
    return torch.cat([out.new_full((out.shape[0], *[1] * (out.dim() - 1)), beta) for beta in betas])


def settle_nudged(
    phase: Phase,
    free: Solution,
    steps: Settle,
    betas: tuple[float, ...],
    nudging_force: Callable[[float | Tensor], Force],
    on_nudged_phase: NudgedPhaseCallback,
) -> Contrast:
    """Settle from the free state under a force of each strength, as one batch, and return the states to compare.

    Args:
        phase: the free phase.
        free: its solution.
        steps: how long to settle.
        betas: ``(beta,)`` one-sided, ``(-beta, beta)`` centred.
        nudging_force: from the strength, one number or ``(n B, 1, ...)``, to the force on the batch repeated once for each.
        on_nudged_phase: called with the `Response`.
    """
    n, one_sided = len(betas), len(betas) == 1
    is_measured = on_nudged_phase is not ignore_response
    force = nudging_force(betas[0] if one_sided else strength_per_sample(free.output, betas))
    force = FirstForce(force) if is_measured else force
    nudged_phase = (phase if one_sided else phase.repeat(n)).nudged(force)
    nudged = settle(nudged_phase, free.state, steps, copies=n)
    if is_measured:
        on_nudged_phase(measure_response(nudged_phase, free, nudged, steps.accelerate is None))
    if one_sided:
        return Contrast(free.activity, free.activity, nudged.activity, betas[0])
    a, b = zip(*(s.split(phase.drive.input.shape[0]) for s in nudged.activity), strict=True)
    return Contrast(free.activity, a, b, betas[1] - betas[0])
