r"""Several models of one graph as one model."""

from collections.abc import Sequence

from torch import nn

from eqprop.connections.batched import BatchedConnection, is_dense
from eqprop.models.model import Model
from eqprop.network import Network

__all__ = ["batch_models", "unsupported_reason"]


def unsupported_reason(model: Model) -> str | None:
    """Why replicas of a model cannot stand side by side, if they cannot: for people."""
    others = [type(c).__name__ for c in model.network.connections if not is_dense(c)]
    if others:
        return f"it has a connection of class {others[0]}, and only dense ones go side by side"
    if isinstance(model.cost, nn.Module):
        return f"its cost, {type(model.cost).__name__}, has weights"
    return None


def batch_models(models: Sequence[Model]) -> Model:
    """The joint model of models that differ in nothing but their weights, which it shares with them.

    Its batches hold each model's own samples, as many of each, one model after the other. The mean of a loss goes over all of
    them: multiply it by ``len(models)``, and each model's gradient is that of the mean over its own samples.

    Raises:
        ValueError: if there is none, they differ in more, or cannot stand side by side.

    >>> import torch, eqprop as ep
    >>> models = [ep.mlp([4, 8, 3], settle=20) for _ in range(5)]
    >>> side_by_side(models)(torch.rand(5 * 2, 4)).shape
    torch.Size([10, 3])
    """
    if not models:
        raise ValueError("`models` is empty: give at least one")
    first = models[0]
    for model in models:
        if reason := unsupported_reason(model):
            raise ValueError(f"{model} cannot stand beside others: {reason}")
        if traits(model) != traits(first):
            raise ValueError("`models` must differ in nothing but their weights: build them from one specification")
    columns = zip(*(model.network.connections for model in models), strict=True)
    edges = [(pre, post, BatchedConnection(c)) for (pre, post), c in zip(first.network.ends, columns, strict=True)]  # type: ignore[arg-type]
    return Model(Network(first.network.populations, edges), first.dynamics, first.cost, first.settle)


def traits(model: Model) -> tuple[object, ...]:
    """All of a model but its connections."""
    return model.network.populations, model.network.ends, model.dynamics, model.cost, model.settle
