"""Learning rates: one for all parameters, or one per connection, input-first, and one for a readout with weights after these.

Feedback weights and biases have the rate of their connection.
"""

from collections.abc import Callable, Sequence

from torch import nn

from eqprop._core.checks import ArgumentError, positive
from eqprop.models.model import Model

__all__ = ["as_rates", "rates_by_connection", "rates_by_parameter"]


def as_rates(rates: float | Sequence[float], check: Callable[[str, object], float] = positive) -> tuple[float, ...]:
    """Return learning rates as a tuple of numbers that passed ``check``."""
    several = tuple(rates) if isinstance(rates, Sequence) and not isinstance(rates, str) else (rates,)
    if not several:
        raise ArgumentError("rates", "`rates` is empty: give one learning rate, or one for each connection")
    return tuple(check("rates", rate) for rate in several)


def rates_by_connection(model: Model, rates: Sequence[float], scope: str) -> list[tuple[nn.Module, float]]:
    """Return the connections, then a readout with weights, each with its rate.

    Args:
        model: the model with the connections.
        rates: one for each connection and readout.
        scope: what the rates belong to, for the error.

    Raises:
        ValueError: if the number of rates is another.
    """
    owners: list[nn.Module] = list(dict.fromkeys(model.network.connections))  # edges may share one
    if isinstance(model.cost, nn.Module) and any(True for _ in model.cost.parameters()):
        owners.append(model.cost)
    if len(rates) != len(owners):
        raise ArgumentError(
            "rates",
            f"{scope}: `rates` names {len(rates)} learning rates, but the model has {len(owners)} connections "
            "(a readout counts as one): give one rate for all, or one for each",
        )
    return list(zip(owners, rates, strict=True))


def rates_by_parameter(model: Model, rates: Sequence[float], scope: str) -> dict[nn.Parameter, float]:
    """Return the rate of every parameter. A single rate is for all; otherwise as `rates_by_connection`."""
    if len(rates) == 1:
        return dict.fromkeys(model.parameters(), rates[0])
    return {p: rate for owner, rate in rates_by_connection(model, rates, scope) for p in owner.parameters()}
