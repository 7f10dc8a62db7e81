r"""What an estimator is: a function from a batch to losses.

An estimator yields scalars whose value is the batch-mean cost and whose ``.backward()`` puts *its* estimate of the gradient
into the parameters' ``.grad``, so that the loop does not know which one it runs and every ``torch.optim`` optimizer works that
does not need a closure (L-BFGS does: it is not supported). `as_loss` makes such a scalar out of a cost and a surrogate that
has the estimate for its gradient.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.optim import Optimizer

from eqprop.models.model import Model
from eqprop.solvers.settle import Solution

__all__ = ["Estimator", "FreePhaseCallback", "as_loss", "bind_estimator", "check_grad_enabled"]

FreePhaseCallback = Callable[[Solution], object]
"""Is handed the solution of the free phase, for errors, residuals and steps in a log; it records no gradient."""


class Estimator(Protocol):
    """What training loops take: every estimator of the library is one, and so is a user's function of this signature."""

    def __call__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        on_free_phase: FreePhaseCallback | None = None,
        generator: Generator | None = None,
    ) -> Iterator[Tensor]:
        """Losses for one batch.

        Args:
            model: what is trained.
            x: input, ``(B, *shape)``.
            y: target, ``(B,)`` classes or ``(B, n)`` floats.
            watch: is handed the free phase.
            generator: source of what is drawn at random; torch's default one if left out.
        """
        ...


def as_loss(cost: Tensor, surrogate: Tensor) -> Tensor:
    """A scalar with the value and gradient of ``cost``, plus the gradient of ``surrogate``.

    >>> import torch
    >>> w = torch.ones((), requires_grad=True)
    >>> loss = as_loss(torch.tensor(0.25), 3 * w)
    >>> loss.backward()
    >>> loss.item(), w.grad.item()
    (0.25, 3.0)
    """
    return cost + (surrogate - surrogate.detach())  # in this bracketing the value is the cost to the last digit


def bind_estimator(estimator: Estimator, model: Model, optimizer: Optimizer) -> Estimator:
    """The estimator that serves that optimizer on that model. Few care who takes their losses: those have a method ``bind``.

    Raises:
        ValueError: if the estimator does not fit the two.
    """
    bind = getattr(estimator, "bind", None)
    return estimator if bind is None else bind(model, optimizer)


def check_grad_enabled(estimator: object) -> None:
    """Raise RuntimeError where gradients are switched off, since a loss without a gradient trains nothing."""
    if not torch.is_grad_enabled():
        raise RuntimeError(
            f"{type(estimator).__name__} was called under `no_grad` or `inference_mode`: call it where gradients are on"
        )
