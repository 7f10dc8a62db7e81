"""How good a model is on samples it does not learn from."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from eqprop.models.model import Model
from eqprop.solvers.settle import settle
from eqprop.training.metrics import Metrics, Score

__all__ = ["evaluate"]


@torch.no_grad()
def evaluate(
    model: Model, batches: Iterable[tuple[Tensor, Tensor]], pool: Callable[[Metrics], object] | None = None
) -> Score:
    """Settle freely for as long as ``model(x)`` does, and measure.

    Args:
        model: on its device; batches are moved there.
        batches: ``(x, y)``: ``(B, *shape)`` floats, and ``(B,)`` classes or ``(B, n)`` floats.
        pool: puts the sums of other processes, which have other batches, to those of this one.

    Raises:
        ValueError: if a batch does not fit the model, or there is none.
        FloatingPointError: if the input, a weight or a state is not finite.
    """
    device = next(model.parameters()).device
    tally = Metrics(device)
    for x, y in batches:
        x, y = x.to(device), y.to(device)
        phase, start, target = model.prepare_batch(x, y)
        solution = settle(phase, start, model.settle)
        tally.add(model.cost.value(solution.output, target).mean(), solution, y, model.cost)
    if pool is not None:
        pool(tally)
    if not tally.samples:
        raise ValueError("there are no samples to evaluate on: `batches` is empty")
    return tally.score()
