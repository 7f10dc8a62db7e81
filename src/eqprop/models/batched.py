r"""Batched models: several models with the same graph as one model.

The connections of the models become one `BatchedConnection` per edge. A batch of the batched model contains the samples of the
first model, then those of the second, and so on. Dynamics and cost act on samples independently and need no change.
"""

from collections.abc import Sequence

from torch import nn

from eqprop._core.checks import ArgumentError
from eqprop.connections.batched import BatchedConnection, is_dense
from eqprop.models.model import Model
from eqprop.network import Network

__all__ = ["batch_models", "unsupported_reason"]


def unsupported_reason(model: Model) -> str | None:
    """Return why copies of a model cannot be batched, or None if they can."""
    others = [type(c).__name__ for c in model.network.connections if not is_dense(c)]
    if others:
        return f"it has a connection of class {others[0]}, and only dense ones can be batched"
    if reason := model.dynamics.batching_unsupported_reason():
        return reason
    if isinstance(model.cost, nn.Module):
        return f"its cost, {type(model.cost).__name__}, has weights"
    return None


def batch_models(models: Sequence[Model]) -> Model:
    """Return one model that runs several models with equal specifications and shares their parameters.

    The loss of a batch is the mean over the samples of all models. Multiply it by ``len(models)`` to give each model the gradient
    of the mean over its own samples.

    Args:
        models: models that differ in their weights only. Each gets an equal, contiguous part of every batch.

    Raises:
        ArgumentError: if there is no model, if the models differ in more than their weights, or if they cannot be batched.

    >>> import torch, eqprop as ep
    >>> models = [ep.mlp([4, 8, 3], settle=20) for _ in range(5)]
    >>> batch_models(models)(torch.rand(5 * 2, 4)).shape
    torch.Size([10, 3])
    """
    if not models:
        raise ArgumentError("models", "`models` is empty: give at least one")
    first = models[0]
    for model in models:
        if reason := unsupported_reason(model):
            raise ArgumentError("models", f"{model} cannot be batched: {reason}")
        if _specification(model) != _specification(first):
            raise ArgumentError(
                "models", "`models` must differ in their weights only: build them from one specification"
            )
    columns = zip(*(model.network.connections for model in models), strict=True)
    edges = [(pre, post, BatchedConnection(c)) for (pre, post), c in zip(first.network.ends, columns, strict=True)]  # type: ignore[arg-type]
    return Model(Network(first.network.populations, edges), first.dynamics, first.cost, first.settle)


def _specification(model: Model) -> tuple[object, ...]:
    """Return everything but the connections."""
    return model.network.populations, model.network.ends, model.dynamics, model.cost, model.settle
