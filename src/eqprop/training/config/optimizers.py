r"""Optimizers as frozen dataclasses, which a run holds and a file can store; ``build`` makes the `torch.optim` object.

The papers on EP give each connection its own learning rate. So ``rates`` is one number for all connections, or one per connection,
input-first, with a readout that has weights at the end. Feedback weights have the rate of their connection.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.optim import SGD as TorchSGD
from torch.optim import Adam as TorchAdam
from torch.optim import AdamW as TorchAdamW
from torch.optim import Optimizer

from eqprop._core.checks import MAX_FLOAT32, ArgumentError, fraction, non_negative
from eqprop.estimators.rates import as_rates, rates_by_connection
from eqprop.models.model import Model

__all__ = ["SGD", "Adam", "AdamW", "OptimizerSpec"]


class OptimizerSpec(ABC):
    """Base class of optimizers, with the learning rate of each connection."""

    rates: float | Sequence[float]

    @abstractmethod
    def build(self, model: Model) -> Optimizer:
        """Return the `torch.optim` object for a model.

        Raises:
            ValueError: if the number of rates is neither 1 nor the number of connections.
        """


@dataclass(frozen=True)
class SGD(OptimizerSpec):
    """Stochastic gradient descent, `torch.optim.SGD`.

    Args:
        rates: learning rate, one for all connections or one per connection, input-first.
        momentum: momentum factor, in [0, 1).
        weight_decay: L2 penalty, at least 0.

    Raises:
        ValueError: if a number is out of its range or not finite.

    >>> SGD((0.08, 0.04)).rates
    (0.08, 0.04)
    """

    rates: float | Sequence[float]
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", as_rates(self.rates))
        fraction("momentum", self.momentum)
        non_negative("weight_decay", self.weight_decay)

    def build(self, model: Model) -> TorchSGD:
        """Return the optimizer, with one parameter group per learning rate."""
        return TorchSGD(parameter_groups(model, self.rates), momentum=self.momentum, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Adam(OptimizerSpec):
    """Adam, `torch.optim.Adam`.

    Args:
        rates: learning rate, one for all connections or one per connection, input-first.
        betas: decay rates of the running averages of gradients and of their squares, each in [0, 1).
        weight_decay: L2 penalty, added to the gradients, at least 0.

    Raises:
        ValueError: if a number is out of its range or not finite.

    >>> Adam(1e-3).rates
    (0.001,)
    """

    rates: float | Sequence[float] = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", as_rates(self.rates))
        object.__setattr__(self, "betas", _as_betas(self.betas))
        non_negative("weight_decay", self.weight_decay)
        _check_steps(as_rates(self.rates), self.betas)

    def build(self, model: Model) -> TorchAdam:
        """Return the optimizer, with one parameter group per learning rate."""
        return TorchAdam(parameter_groups(model, self.rates), betas=self.betas, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class AdamW(OptimizerSpec):
    """Adam with decoupled weight decay, `torch.optim.AdamW`.

    Args:
        rates: learning rate, one for all connections or one per connection, input-first.
        betas: decay rates of the running averages of gradients and of their squares, each in [0, 1).
        weight_decay: decoupled weight decay, at least 0.

    Raises:
        ValueError: if a number is out of its range or not finite.

    >>> AdamW().weight_decay
    0.01
    """

    rates: float | Sequence[float] = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", as_rates(self.rates))
        object.__setattr__(self, "betas", _as_betas(self.betas))
        non_negative("weight_decay", self.weight_decay)
        _check_steps(as_rates(self.rates), self.betas, self.weight_decay)

    def build(self, model: Model) -> TorchAdamW:
        """Return the optimizer, with one parameter group per learning rate."""
        return TorchAdamW(parameter_groups(model, self.rates), betas=self.betas, weight_decay=self.weight_decay)


def _check_steps(rates: Sequence[float], betas: tuple[float, float], decay: float = 0.0) -> None:
    """Check that the factors of Adam's steps are within single precision: the first step is multiplied by rate / (1 - beta_1)."""
    largest = max(max(rates) / (1 - betas[0]), max(rates) * decay)
    if largest > MAX_FLOAT32:
        raise ArgumentError(
            "rates",
            f"`rates` must be so small that a step is within single precision with these betas, got {max(rates)!r}",
        )


def _as_betas(betas: tuple[float, float]) -> tuple[float, float]:
    if not isinstance(betas, Sequence) or len(betas) != 2:
        raise ArgumentError("betas", f"`betas` must be two numbers in [0, 1), got {betas!r}")
    return fraction("betas", betas[0]), fraction("betas", betas[1])


def parameter_groups(model: Model, rates: float | Sequence[float]) -> list[dict[str, Any]]:
    """Return parameter groups: one group for a single rate, else one per connection, and one for a readout with weights."""
    rates = as_rates(rates)
    if len(rates) == 1:
        return [{"params": list(model.parameters()), "lr": rates[0]}]
    owners = rates_by_connection(model, rates, "optimizer")
    return [{"params": list(owner.parameters()), "lr": rate} for owner, rate in owners]
