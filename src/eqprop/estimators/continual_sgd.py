r"""Continual Equilibrium Propagation by plain SGD, in one loss per batch.

`ContinualEP` lets any optimizer move the weights of any network between two nudged steps, so it computes the input's current K
times and takes K optimizer steps over all weights. Where the moves are those of plain SGD,

    theta_{t+1}  =  theta_t + eta Delta_t      for t < K,

they can be followed separately (`eqprop.estimators.fast_weights`), while the model's own parameters stay as they were. The gradient
of the one loss is minus the sum of the increments, so that a step of SGD at those rates gives theta_K.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Generator, Tensor, nn
from torch.optim import SGD, Optimizer

from eqprop._core.checks import ArgumentError, non_negative
from eqprop._core.precision import full_precision
from eqprop.estimators.base import Estimator, OnFreePhase, PhaseCallbacks, as_loss
from eqprop.estimators.continual import (
    ContinualEP,
    ContinualEstimator,
    ContinualPhase,
    check_finite,
    check_static_input,
)
from eqprop.estimators.ep import Nudging, nudging_strengths
from eqprop.estimators.fast_weights import FastWeights, summed_contrast, supports_fast_weights
from eqprop.estimators.rates import as_rates, rates_by_parameter
from eqprop.estimators.response import NudgedPhaseCallback, warn_of_response
from eqprop.models.model import Model
from eqprop.network import Contrast
from eqprop.solvers.settle import Settle, Solution

__all__ = ["ContinualSGD"]

Rates: TypeAlias = Mapping[nn.Parameter, float]
"""The learning rate of each parameter that moves."""

NOT_PLAIN = ("momentum", "weight_decay", "maximize")
"""Options of `torch.optim.SGD` that change its rule."""


@dataclass(frozen=True)
class ContinualSGD(ContinualEstimator):
    """Gradient by continual Equilibrium Propagation with plain SGD at known rates, in one loss per batch.

    The same as `ContinualEP` with ``torch.optim.SGD`` at those rates, at little more than the cost of `EquilibriumProp` where all
    connections are `Dense` or `Untied`. Other networks have the cost of `ContinualEP`.

    If ``rates`` differ from the optimizer's, the weights move by ``rates`` inside the phase and by the optimizer's after it. At 0
    they do not move inside: EP or, for untied weights, the vector-field rule that pairs every step with its own activities. A small
    fraction gives the paper's check that C-EP tends to EP (appendix F.2).

    Args:
        free_steps: T, the length of the free phase: steps or `Settle`.
        nudged_steps: K, the length of the nudged phase, a plain number: while weights move there is no steady state to wait
            for.
        beta: nudging strength, in units of the cost's force; its sign is that of the one-sided phase.
        rates: learning rates inside the phase, at least 0: one for all connections or one per connection, input-first, and one
            for a readout, whose weights do not move inside. None takes those of the optimizer at each call; needs `Trainer`,
            which knows the optimizer.
        nudging: "one-sided", "centred" or "random-sign".

    Raises:
        ValueError: as `ContinualEP`; also if a rate is negative or not finite; on a call, if the number of rates does not fit the
            model or they are left out.
        RuntimeError: on a call under ``no_grad``.
        FloatingPointError: on a call, if the input, a weight or a state is not finite.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 8, 3])
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    >>> for loss in ContinualSGD(20, 10, beta=0.1, rates=0.01)(model, torch.rand(2, 4), torch.tensor([0, 1])):
    ...     loss.backward()
    ...     optimizer.step()
    """

    free_steps: int | Settle
    nudged_steps: int  # pyright: ignore[reportIncompatibleVariableOverride] - read-only in the base too
    beta: float
    rates: float | Sequence[float] | None = None
    nudging: Nudging = "one-sided"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rates is not None:
            object.__setattr__(self, "rates", as_rates(self.rates, non_negative))

    def distribution_unsupported_reason(self) -> str | None:
        """Return a reason if weights move inside the phase, where each process would see only its part of the batch."""
        rates = self.rates
        if not (any(rates) if isinstance(rates, Sequence) else rates != 0):
            return None
        return (
            "ContinualSGD moves weights inside the phase, by the samples of one process alone: "
            "use ContinualEP (continual-ep), which is the same rule, or train in one process"
        )

    def bind(self, model: Model, optimizer: Optimizer) -> Estimator:
        """Return this estimator; where ``rates`` are left out, with those that the optimizer has at each call.

        Raises:
            ValueError: if the rates do not fit the model, or are left out and the optimizer is not a plain SGD.
        """
        if self.rates is not None:
            self._own_rates(model)  # raises if they do not fit
            return self
        if type(optimizer) is not SGD or any(group[name] for group in optimizer.param_groups for name in NOT_PLAIN):
            raise ArgumentError(
                "rates",
                "estimator: `rates` is left out, which takes those of SGD without momentum and weight decay, "
                f"but the optimizer is another {type(optimizer).__name__}: give `rates`, or use ContinualEP",
            )

        def bound(
            model: Model,
            x: Tensor,
            y: Tensor,
            *,
            on_free_phase: OnFreePhase = None,
            on_nudged_phase: NudgedPhaseCallback | None = None,
            generator: Generator | None = None,
        ) -> Iterator[Tensor]:
            self._check_call(model, x)
            self.check_beta(model)
            rates = {p: float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
            callbacks = PhaseCallbacks(on_free_phase, on_nudged_phase or warn_of_response)
            return self._checked(self._losses_at(rates, model, x, y, callbacks, generator))

        return bound

    def _own_rates(self, model: Model) -> Rates:
        if self.rates is None:
            raise ArgumentError(
                "rates", "`rates` is left out, and there is no optimizer to take it from: give it, or use `Trainer`"
            )
        return rates_by_parameter(model, as_rates(self.rates, non_negative), "estimator")

    def _losses(
        self, model: Model, x: Tensor, y: Tensor, callbacks: PhaseCallbacks, generator: Generator | None
    ) -> Iterator[Tensor]:
        return self._losses_at(self._own_rates(model), model, x, y, callbacks, generator)

    def _losses_at(
        self, rates: Rates, model: Model, x: Tensor, y: Tensor, callbacks: PhaseCallbacks, generator: Generator | None
    ) -> Iterator[Tensor]:
        rates = {p: rate for p, rate in rates.items() if p.requires_grad}
        fast = model.dynamics.has_linear_drive() and supports_fast_weights(model.network)
        losses = self._fast_losses if fast else self._general_losses
        return losses(rates, model, x, y, callbacks, generator)

    def _fast_losses(
        self, rates: Rates, model: Model, x: Tensor, y: Tensor, callbacks: PhaseCallbacks, generator: Generator | None
    ) -> Iterator[Tensor]:
        betas = nudging_strengths(self.nudging, self.beta, generator)
        nudged = ContinualPhase.start(
            model, check_static_input(model, x), y, self.phases["free_steps"], betas, callbacks.free
        )
        drive = nudged.phase.drive
        with torch.no_grad():
            weights = FastWeights.of(model.network, drive, rates, nudged.norm)
            states, steps = [nudged.first], list[Contrast]()
            first = before = nudged.phase.activity(states[0])
            for _ in range(self.phases["nudged_steps"].steps):
                weights = weights.updated(steps[-1]) if steps else weights
                states.append(nudged.step(weights.drive, states[-1]))
                after = nudged.phase.activity(states[-1])
                steps.append(nudged.contrast(before, after))
                before = after
        check_finite([model.dynamics.units(state) for state in states], 0)
        nudged.report(callbacks.nudged, states[-2], states[-1], len(steps))
        yield as_loss(nudged.cost(), summed_contrast(model.network, drive.input, nudged.contrast(first, before), steps))

    def _general_losses(
        self, rates: Rates, model: Model, x: Tensor, y: Tensor, callbacks: PhaseCallbacks, generator: Generator | None
    ) -> Iterator[Tensor]:
        """Train a private copy of any network by `ContinualEP`, and sum its increments."""
        private, free = copy.deepcopy(model), list[Solution]()
        pairs = zip(model.network.parameters(), private.network.parameters(), strict=True)
        weights = {p: weight for p, weight in pairs if p.requires_grad}
        sums = {p: torch.zeros_like(p) for p in weights}
        free_steps, nudged_steps = self.phases.values()
        estimator = ContinualEP(free_steps, nudged_steps.steps, self.beta, self.nudging)
        for loss in estimator(
            private, x, y, on_free_phase=free.append, on_nudged_phase=callbacks.nudged, generator=generator
        ):
            private_weights = list(weights.values())
            with full_precision(x), torch.no_grad():
                found = (
                    torch.autograd.grad(loss, private_weights, allow_unused=True, materialize_grads=True)
                    if private_weights
                    else ()
                )
                for (p, weight), gradient in zip(weights.items(), found, strict=True):
                    sums[p].add_(gradient)
                    weight.sub_(gradient, alpha=rates.get(p, 0.0))
        if callbacks.free is not None:
            callbacks.free(free[0])
        out = free[0].output
        terms = [(p * total).sum() for p, total in sums.items()]
        yield as_loss(model.cost.value(out, model.cost.encode(y, out)).mean(), sum(terms, out.new_zeros(())))
