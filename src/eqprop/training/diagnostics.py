r"""Angles of a training, once an epoch: feedback weights to forward ones, and the update to BPTT's gradient.

Ernoult et al. (2020) look at the first as what local learning makes of untied weights, and at the second, ``Psi(Delta, -nabla)`` of
their section 4.3, as what decides how well it learns. Both are looked at on one batch, the same throughout; it changes nothing.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from eqprop._core.angles import angle_between
from eqprop.connections.mismatched import both_ways
from eqprop.estimators import BPTT
from eqprop.estimators.base import Estimator
from eqprop.models.model import Model
from eqprop.training.config.run import Run
from eqprop.training.rng import ESTIMATOR, REST, generator, seeded

__all__ = ["Diagnostics", "combine", "diagnostics_of", "names_of_angles", "update_angle", "weight_angles"]

Diagnostics = Callable[[Model, Estimator], Mapping[str, Any]]
"""Looks at a model and what trains it, after an epoch, and gives what is to stand in the epoch's row."""


def diagnostics_of(run: Run, model: Model, x: Tensor, y: Tensor) -> Diagnostics | None:
    """The angles, where a run has any: its weights move inside the phase, or have feedback that differs from them.

    Args:
        run: which training.
        model: its model.
        x: inputs ``(B, *shape)`` of the batch to look at.
        y: their targets.
    """
    estimator = run.estimator
    if not estimator.nudges or not (estimator.continual or weight_angles(model)):
        return None
    free, nudged = estimator.phases.values()
    bptt = BPTT(estimator.free_steps, min(free.steps, nudged.steps))

    def angles(model: Model, estimator: Estimator) -> dict[str, Any]:
        try:
            update = update_angle(model, estimator, bptt, x, y)
        except FloatingPointError:  # on this batch; the training has a say of its own on its batches
            update = math.nan
        return {"weight_angles": weight_angles(model), "update_angle": update if math.isfinite(update) else None}

    return angles


def combine(*probes: Diagnostics | None) -> Diagnostics | None:
    """One probe that gives what all of them give; None if there is none."""
    found = [probe for probe in probes if probe is not None]

    def look(model: Model, estimator: Estimator) -> dict[str, Any]:
        return {name: value for probe in found for name, value in probe(model, estimator).items()}

    return look if found else None


def weight_angles(model: Model) -> list[float]:
    """Angle in degrees between forward and feedback weights, as they act, of each connection where these differ."""
    pairs = (both_ways(c) for c in model.network.connections)
    return [angle_between([pair[0].detach()], [pair[1].detach()]) for pair in pairs if pair is not None]


def names_of_angles(model: Model) -> list[str]:
    """The connections of `weight_angles`, in that order: ``"1→2"`` by the numbers of their populations."""
    names = zip(model.network.edge_names(), model.network.connections, strict=True)
    return [name for name, connection in names if both_ways(connection) is not None]


def update_angle(model: Model, estimator: Estimator, bptt: BPTT, x: Tensor, y: Tensor) -> float:
    """Angle in degrees between an estimator's whole update and BPTT's gradient: all weights of the network, no biases.

    A sign that the estimator draws is the same at every call, and so is noise on the states; between the losses of `ContinualEP`
    the weights are at rest.
    """
    with seeded(0, REST):
        return angle_between(whole(model, estimator, x, y), whole(model, bptt, x, y))


def whole(model: Model, estimator: Estimator, x: Tensor, y: Tensor) -> list[Tensor]:
    """The sum of the gradients of an estimator's losses; the model's own ``.grad`` are left alone."""
    weights = [p for p in model.network.parameters() if p.requires_grad and p.dim() > 1]
    sums = [torch.zeros_like(p) for p in weights]
    for loss in estimator(model, x, y, generator=generator(0, ESTIMATOR)):
        found = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        sums = [total + part for total, part in zip(sums, found, strict=True)]
    return sums
