r"""Continual Equilibrium Propagation by plain SGD, made fast: the paper's rule as one loss a batch.

`ContinualEP` lets any optimizer move the weights of any network between two nudged steps, and so computes the input's current
anew K times and takes K optimizer steps over all weights. Where the moves are known to be those of plain SGD,

    theta_{t+1}  =  theta_t + eta Delta_t      for t < K,

they can be followed on the side (`eqprop.estimators.fast_weights`), while the model's own parameters stay as they were. The one loss that is
yielded has minus the sum of the increments for its gradient, so that a step of SGD at those rates lands on theta_K.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Generator, Tensor, nn
from torch.optim import SGD, Optimizer

from eqprop._core.checks import non_negative
from eqprop._core.precision import full_precision
from eqprop.estimators.base import Estimator, FreePhaseCallback, as_loss, check_grad_enabled
from eqprop.estimators.continual import ContinualEP, ContinualPhase, check_choices, check_finite, check_static_input
from eqprop.estimators.ep import Nudging, nudging_strengths
from eqprop.estimators.fast_weights import FastWeights, summed_contrast, supports_fast_weights
from eqprop.estimators.rates import as_rates, rates_by_parameter
from eqprop.models.model import Model
from eqprop.network import Compared
from eqprop.solvers.settle import Settle, Solution

__all__ = ["ContinualSGD"]

Rates: TypeAlias = Mapping[nn.Parameter, float]
"""The rate of each parameter that moves."""


@dataclass(frozen=True)
class ContinualSGD:
    """Gradient by continual Equilibrium Propagation with plain SGD at known rates, in one loss a batch.

    The same as `ContinualEP` under ``torch.optim.SGD`` at those rates, for little more than the price of `EquilibriumProp`,
    where all connections are `Dense` or `Untied`. Networks with others take the price of `ContinualEP`.

    At other rates than the optimizer's, the weights move inside the phase by ``rates`` and after it by the optimizer's. At 0
    nothing moves inside: EP or, for untied weights, the one-shot vector-field rule that pairs every step with its own
    activities. At a small fraction it is the paper's check that C-EP tends to EP (appendix F.2).

    Args:
        free_steps: T, the length of the free phase: steps or `Settle`.
        nudged_steps: K, the length of the nudged phase, a plain number: while weights move there is no steady state to wait
            for.
        beta: nudging strength, in units of the cost's force; its sign is that of the one-sided phase.
        rates: of the moves inside the phase, at least 0: one for all connections or one a connection, input-first, and one
            for a readout, which however does not move inside. None stands for the optimizer's, whatever a schedule makes of
            them: for `Trainer`, which knows the optimizer.
        nudging: "one-sided", "centred" or "random-sign".

    Raises:
        ValueError: as `ContinualEP`; also if a rate is negative or not finite; on a call, if their number is not the model's
            or they are left out.
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
    nudged_steps: int
    beta: float
    rates: float | Sequence[float] | None = None
    nudging: Nudging = "one-sided"

    def __post_init__(self) -> None:
        check_choices(self.free_steps, self.nudged_steps, self.beta, self.nudging)
        if self.rates is not None:
            object.__setattr__(self, "rates", as_rates(self.rates, non_negative))

    def __call__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        on_free_phase: FreePhaseCallback | None = None,
        generator: Generator | None = None,
    ) -> Iterator[Tensor]:
        """One loss: see `Estimator`."""
        check_grad_enabled(self)
        model.dynamics.check_beta(self.beta)
        if self.rates is None:
            raise ValueError(
                "`rates` is left out, and there is no optimizer to take it from: give it, or use `Trainer`"
            )
        return self._estimate(own_rates(model, self.rates), model, x, y, on_free_phase, generator)

    def bind(self, model: Model, optimizer: Optimizer) -> Estimator:
        """This estimator with the rates that the optimizer has at each call, where its own are left out.

        Raises:
            ValueError: if the rates do not fit the model, or are left out and the optimizer is not a plain SGD.
        """
        if self.rates is not None:
            own_rates(model, self.rates)  # says whether they fit
            return self
        if type(optimizer) is not SGD or any(group[name] for group in optimizer.param_groups for name in NOT_PLAIN):
            raise ValueError(
                "estimator: `rates` is left out, which stands for those of SGD without momentum and weight decay, "
                f"but the optimizer is another {type(optimizer).__name__}: give `rates`, or use ContinualEP"
            )

        def bound(
            model: Model,
            x: Tensor,
            y: Tensor,
            *,
            on_free_phase: FreePhaseCallback | None = None,
            generator: Generator | None = None,
        ) -> Iterator[Tensor]:
            check_grad_enabled(self)
            model.dynamics.check_beta(self.beta)
            return self._estimate(present_rates(optimizer), model, x, y, on_free_phase, generator)

        return bound

    def _estimate(
        self,
        rates: Rates,
        model: Model,
        x: Tensor,
        y: Tensor,
        on_free_phase: FreePhaseCallback | None,
        generator: Generator | None,
    ) -> Iterator[Tensor]:
        moving = {p: rate for p, rate in rates.items() if p.requires_grad}
        fast = model.dynamics.static_input and supports_fast_weights(model.network)
        losses = self._losses if fast else self._losses_of_any
        return losses(moving, model, x, y, on_free_phase, generator)

    def _losses(
        self,
        rates: Rates,
        model: Model,
        x: Tensor,
        y: Tensor,
        on_free_phase: FreePhaseCallback | None,
        generator: Generator | None,
    ) -> Iterator[Tensor]:
        check_grad_enabled(self)  # again: it is here that gradients must be on
        betas = nudging_strengths(self.nudging, self.beta, generator)
        phase, drive = ContinualPhase.begin(
            model, check_static_input(model, x), y, self.free_steps, betas, on_free_phase
        )
        with torch.no_grad():
            weights = FastWeights.of(model.network, drive, rates, phase.norm)
            states, steps = [phase.start()], list[Compared]()
            first = before = phase.activity(states[0])
            for _ in range(self.nudged_steps):
                weights = weights.updated(steps[-1]) if steps else weights
                states.append(phase.step(weights.drive, states[-1]))
                after = phase.activity(states[-1])
                steps.append(phase.compare(before, after))
                before = after
        check_finite([model.dynamics.units(state) for state in states], 0)
        yield as_loss(phase.cost(), summed_contrast(model.network, drive.input, phase.compare(first, before), steps))

    def _losses_of_any(
        self,
        rates: Rates,
        model: Model,
        x: Tensor,
        y: Tensor,
        on_free_phase: FreePhaseCallback | None,
        generator: Generator | None,
    ) -> Iterator[Tensor]:
        """The same of any network: a private copy is trained by `ContinualEP`, and its increments are summed."""
        check_grad_enabled(self)
        private, free = copy.deepcopy(model), list[Solution]()
        pairs = zip(model.network.parameters(), private.network.parameters(), strict=True)
        weights = {p: weight for p, weight in pairs if p.requires_grad}
        sums = {p: torch.zeros_like(p) for p in weights}
        estimator = ContinualEP(self.free_steps, self.nudged_steps, self.beta, self.nudging)
        for loss in estimator(private, x, y, on_free_phase=free.append, generator=generator):
            wanted = list(weights.values())
            with full_precision(x), torch.no_grad():
                found = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True) if wanted else ()
                for (p, weight), gradient in zip(weights.items(), found, strict=True):
                    sums[p].add_(gradient)
                    weight.sub_(gradient, alpha=rates.get(p, 0.0))
        if on_free_phase is not None:
            on_free_phase(free[0])
        out = free[0].output
        terms = [(p * total).sum() for p, total in sums.items()]
        yield as_loss(model.cost.value(out, model.cost.encode(y, out)).mean(), sum(terms, out.new_zeros(())))


NOT_PLAIN = ("momentum", "weight_decay", "maximize")
"""What makes another rule of `torch.optim.SGD`."""


def own_rates(model: Model, rates: float | Sequence[float]) -> Rates:
    """The rate of each parameter where the rates of the connections are given."""
    return rates_by_parameter(model, as_rates(rates, non_negative), "estimator")


def present_rates(optimizer: Optimizer) -> Rates:
    """The rate that each parameter has just now."""
    return {p: float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
