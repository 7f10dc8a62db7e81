r"""Estimators: functions from a batch to losses.

An estimator yields scalars whose value is the batch-mean cost and whose ``.backward()`` adds *its* estimate of the gradient to the
parameters' ``.grad``. The training loop is the same for all of them, and every ``torch.optim`` optimizer works that needs no
closure (L-BFGS needs one and is not supported). `as_loss` builds such a scalar from a cost and a surrogate whose gradient is the
estimate.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from inspect import signature
from typing import ClassVar, NamedTuple, Protocol, TypeAlias
from warnings import warn

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from eqprop._core.checks import ArgumentError, function, instance
from eqprop.estimators.response import NudgedPhaseCallback, warn_of_response
from eqprop.models.model import Model
from eqprop.solvers.settle import Settle, Solution

__all__ = [
    "Estimator",
    "EstimatorBase",
    "FreePhaseCallback",
    "OnFreePhase",
    "PhaseCallbacks",
    "as_loss",
    "bind_estimator",
    "takes_nudged_callback",
]

FreePhaseCallback = Callable[[Solution], object]
"""Called with the solution of the free phase, for errors, residuals and steps in a log; no gradient is recorded."""

OnFreePhase: TypeAlias = FreePhaseCallback | None
"""The argument ``on_free_phase``; nothing is called for None."""


class PhaseCallbacks(NamedTuple):
    """What an estimator calls after its phases.

    Attributes:
        free: called with the solution of the free phase, if it is not None.
        nudged: called with the `Response` to the nudge, by estimators that nudge; by default it warns of a wrong one.
    """

    free: OnFreePhase = None
    nudged: NudgedPhaseCallback = warn_of_response


class Estimator(Protocol):
    """The signature that training loops call: of `EstimatorBase`, and of a user's own function."""

    def __call__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        on_free_phase: OnFreePhase = None,
        generator: Generator | None = None,
    ) -> Iterator[Tensor]:
        """Yield the losses of one batch.

        Args:
            model: the model to train.
            x: input, ``(B, *shape)``.
            y: target, ``(B,)`` classes or ``(B, n)`` floats.
            on_free_phase: called with the solution of the free phase.
            generator: source of random numbers; torch's default generator if left out.
        """
        ...


class EstimatorBase(ABC):
    """Base of the library's estimators: shared checks, and what callers can ask of an estimator."""

    nudges: ClassVar[bool] = False
    """Whether the gradient comes from nudged phases."""

    continual: ClassVar[bool] = False
    """Whether weights move inside the nudged phase."""

    @property
    @abstractmethod
    def phases(self) -> dict[str, Settle]:
        """The settings of each phase, by the name of the field that holds them; the free phase comes first."""

    def check_beta(self, model: Model) -> None:  # noqa: B027 - estimators that do not nudge have none
        """Check the nudging strength against the model."""

    @property
    def uses_rate_model(self) -> bool:
        """Whether `Model.rate_model` is differentiated, free phase included, in place of a spiking model."""
        return False

    @abstractmethod
    def rule_name(self, tied: bool) -> str:
        """Return the name that papers give to the learning rule, for tied or untied weights, such as "EP" or "C-VF"."""

    def batching_unsupported_reason(self) -> str | None:
        """Return why several seeds cannot be trained in one batched computation, or None if they can."""
        for steps in self.phases.values():
            if steps.tol is not None:
                return f"with a tolerance, {steps.tol}, each seed takes as many steps as it needs"
            if steps.accelerate is not None:
                return "acceleration looks at all samples of a batch"
        return None

    def distribution_unsupported_reason(self) -> str | None:
        """Return why a batch cannot be split over several processes, or None if it can."""
        return None

    def bind(self, model: Model, optimizer: Optimizer) -> Estimator:
        """Return the estimator to use with an optimizer on a model; see `bind_estimator`."""
        return self

    def __call__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        on_free_phase: OnFreePhase = None,
        on_nudged_phase: NudgedPhaseCallback | None = None,
        generator: Generator | None = None,
        watch: OnFreePhase = None,
    ) -> Iterator[Tensor]:
        """Yield the losses of one batch.

        Args:
            model: the model to train.
            x: input, ``(B, *shape)``.
            y: target, ``(B,)`` classes or ``(B, n)`` floats.
            on_free_phase: called with the solution of the free phase.
            on_nudged_phase: called with the `Response` to the nudge, by estimators that nudge. Without it they check it themselves
                and warn of free or nudged phases that have not come to rest, and of nudged phases that jumped.
            generator: source of random numbers; torch's default generator if left out.
            watch: deprecated name of ``on_free_phase``.
        """
        if watch is not None:
            warn("`watch` was renamed: pass `on_free_phase`", DeprecationWarning, stacklevel=2)
            on_free_phase = on_free_phase or watch
        self._check_call(model, x)
        for name, callback in (("on_free_phase", on_free_phase), ("on_nudged_phase", on_nudged_phase)):
            if callback is not None:
                function(name, callback)
        self.check_beta(model)
        callbacks = PhaseCallbacks(on_free_phase, on_nudged_phase or warn_of_response)
        return self._checked(self._losses(model, x, y, callbacks, generator))

    @abstractmethod
    def _losses(
        self, model: Model, x: Tensor, y: Tensor, callbacks: PhaseCallbacks, generator: Generator | None
    ) -> Iterator[Tensor]:
        """Yield the losses, after the checks of a call."""

    def _checked(self, losses: Iterator[Tensor]) -> Iterator[Tensor]:
        """Check once more when the first loss is asked for: the body of a generator runs under the caller's grad mode of then."""
        self._check_grad_enabled()
        yield from losses

    def _check_call(self, model: Model, x: Tensor) -> None:
        """Check what `Model.prepare_batch` does not: that a gradient can be computed and that something needs it."""
        self._check_grad_enabled()
        instance("model", model, Model)
        instance("x", x, Tensor)
        first = next(nn.Module.parameters(model.network), None)
        if first is not None and first.is_inference():
            raise ArgumentError(
                "model",
                "`model` was made under `inference_mode`, which gradients cannot use: make it, or load it, outside",
            )
        is_frozen = first is None or not first.requires_grad  # seldom: only then are the others looked at
        if is_frozen and not x.requires_grad and not any(p.requires_grad for p in model.parameters()):
            raise ArgumentError(
                "model", "no parameter of `model` requires a gradient: call `requires_grad_()` on those to train"
            )

    def _check_grad_enabled(self) -> None:
        if not torch.is_grad_enabled():
            raise RuntimeError(
                f"{type(self).__name__} was called under `no_grad` or `inference_mode`: call it where gradients are enabled"
            )


def as_loss(cost: Tensor, surrogate: Tensor) -> Tensor:
    """Return a scalar with the value and gradient of ``cost``, plus the gradient of ``surrogate``.

    >>> import torch
    >>> w = torch.ones((), requires_grad=True)
    >>> loss = as_loss(torch.tensor(0.25), 3 * w)
    >>> loss.backward()
    >>> loss.item(), w.grad.item()
    (0.25, 3.0)
    """
    for name, scalar in (("cost", cost), ("surrogate", surrogate)):
        if instance(name, scalar, Tensor).numel() != 1:
            raise ArgumentError(name, f"`{name}` must be a scalar, got a tensor of shape {tuple(scalar.shape)}")
    return cost + (surrogate - surrogate.detach())  # in this bracketing the value is the cost to the last digit


def takes_nudged_callback(estimator: Estimator) -> bool:
    """Return whether an estimator has the argument ``on_nudged_phase``, or takes any, which a user's own need not."""
    try:
        parameters = signature(estimator).parameters
    except ValueError:  # a callable without a signature
        return False
    return "on_nudged_phase" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def bind_estimator(estimator: Estimator, model: Model, optimizer: Optimizer) -> Estimator:
    """Return the estimator to use with an optimizer on a model: that of its method ``bind``, where it has one, or itself.

    Raises:
        ValueError: if the estimator does not fit the two.
    """
    bind = getattr(estimator, "bind", None)
    return estimator if bind is None else bind(model, optimizer)
