r"""Diagnostics that a training computes once per epoch on one fixed batch; none of them changes the training.

*Angles.* Between feedback and forward weights, which learning aligns (Ernoult et al. 2020), and between the update and BPTT's
gradient, ``Psi(Delta, -nabla)`` of their section 4.3, which decides how well a network learns.

*Spikes.* How many are sent, how many synaptic operations they cause, and which coders are saturated. Only the phases of an
estimator are counted: the backward pass of BPTT sends no spikes, so there is no number of operations per training step then.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from eqprop._core.angles import angle_between
from eqprop.connections.mismatched import forward_and_feedback
from eqprop.estimators import BPTT
from eqprop.estimators.base import Estimator
from eqprop.estimators.ep import NudgedEstimator, nudging_strengths
from eqprop.models.model import Model
from eqprop.solvers.settle import Settle
from eqprop.spiking import Recording, lagging, operations, record, saturation
from eqprop.spiking.recording import UnitChoice, spiking_dynamics
from eqprop.training.config.run import EstimatorSpec, Run
from eqprop.training.rng import ESTIMATOR, REST, generator, seeded

__all__ = ["Diagnostics", "diagnostics_of", "names_of_angles", "phases", "update_angle", "weight_angles"]

Diagnostics = Callable[[Model, Estimator], Mapping[str, Any]]
"""Called with a model and its estimator after every epoch; the items of the result are added to the epoch's row."""

SPIKE_COLUMNS = (
    "spikes_per_unit",
    "spikes_per_inference",
    "synops_per_inference",
    "synops_per_step",
    "wound_up",
    "late",
)


def diagnostics_of(run: Run, model: Model, x: Tensor, y: Tensor) -> Diagnostics | None:
    """Return the diagnostics of a run; None if there are none for its estimator and model.

    Angles are computed where weights move inside the nudged phase or feedback weights differ from forward weights:
        weight_angles: degrees, one per connection with feedback weights of its own (`weight_angles`).
        update_angle: degrees (`update_angle`); None if it is not finite on this batch.

    Spikes are counted where the dynamics spike, as means over the samples of the batch:
        spikes_per_unit: per tick of the free phase; the input counts where it spikes.
        spikes_per_inference: of all units over the free phase.
        synops_per_inference: synaptic operations of the free phase; None where they are not defined (`eqprop.spiking.operations`).
        synops_per_step: the same of the free and the nudged phases; None without nudged phases.
        wound_up: fraction of all coders with ``|phi| > 1/2`` at the end of the free phase.
        late: per population, the fraction of active units whose decoded value is off by more than lambda (`spiking.lagging`).

    Args:
        run: the run.
        model: its model.
        x: inputs ``(B, *shape)`` of the batch.
        y: their targets.
    """
    parts = [
        part for part in (_angles_of(run.estimator, model, x, y), _spikes_of(run, model, x, y)) if part is not None
    ]

    def compute(model: Model, estimator: Estimator) -> dict[str, Any]:
        return {name: value for part in parts for name, value in part(model, estimator).items()}

    return compute if parts else None


def _angles_of(estimator: EstimatorSpec, model: Model, x: Tensor, y: Tensor) -> Diagnostics | None:
    if not estimator.nudges or not (estimator.continual or weight_angles(model)):
        return None
    free, nudged = estimator.phases.values()
    bptt = BPTT(estimator.free_steps, min(free.steps, nudged.steps))

    def compute(model: Model, estimator: Estimator) -> dict[str, Any]:
        try:
            update = update_angle(model, estimator, bptt, x, y)
        except FloatingPointError:  # only on this batch: the training checks its own batches
            update = math.nan
        return {"weight_angles": weight_angles(model), "update_angle": update if math.isfinite(update) else None}

    return compute


def weight_angles(model: Model) -> list[float]:
    """Return the angle in degrees between effective forward and feedback weights of each connection where they differ."""
    pairs = (forward_and_feedback(c) for c in model.network.connections)
    return [angle_between([pair[0].detach()], [pair[1].detach()]) for pair in pairs if pair is not None]


def names_of_angles(model: Model) -> list[str]:
    """Return the names of the connections of `weight_angles`, such as ``"1→2"`` by the numbers of their populations."""
    names = zip(model.network.edge_names(), model.network.connections, strict=True)
    return [name for name, connection in names if forward_and_feedback(connection) is not None]


def update_angle(model: Model, estimator: Estimator, bptt: BPTT, x: Tensor, y: Tensor) -> float:
    """Return the angle in degrees between an estimator's update and BPTT's gradient, over all weights of the network, no biases.

    Random signs and noise are drawn from the same seed at every call. The weights stay fixed between the losses of `ContinualEP`.
    """
    with seeded(0, REST):
        return angle_between(_total_gradient(model, estimator, x, y), _total_gradient(model, bptt, x, y))


def _total_gradient(model: Model, estimator: Estimator, x: Tensor, y: Tensor) -> list[Tensor]:
    """Return the sum of the gradients of an estimator's losses; ``.grad`` is not touched."""
    weights = [p for p in model.network.parameters() if p.requires_grad and p.dim() > 1]
    sums = [torch.zeros_like(p) for p in weights]
    for loss in estimator(model, x, y, generator=generator(0, ESTIMATOR)):
        gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        sums = [total + part for total, part in zip(sums, gradients, strict=True)]
    return sums


def _spikes_of(run: Run, model: Model, x: Tensor, y: Tensor) -> Diagnostics | None:
    if not model.dynamics.spiking:
        return None

    def compute(model: Model, estimator: Estimator) -> dict[str, Any]:
        try:
            with seeded(0, REST):
                return _spike_columns(model, phases(model, estimator, run.estimator.free_steps, x, y), x)
        except FloatingPointError:  # only on this batch: the training checks its own batches
            return dict.fromkeys(SPIKE_COLUMNS)

    return compute


def phases(
    model: Model, estimator: Estimator, free_steps: int | Settle, x: Tensor, y: Tensor, units: UnitChoice = 0
) -> tuple[Recording, ...]:
    """Record the free phase and, for EP, each nudged phase from the end of the free one; the weights stay fixed."""
    free = record(model, x, free_steps, units=units)
    if not isinstance(estimator, NudgedEstimator):
        return (free,)
    betas = nudging_strengths(estimator.nudging, estimator.beta, generator(0, ESTIMATOR))
    return free, *(record(model, x, estimator.nudged_steps, y, beta, free) for beta in betas)


def _spike_columns(model: Model, recordings: Sequence[Recording], x: Tensor) -> dict[str, Any]:
    """Compute the columns of `SPIKE_COLUMNS`; the first recording is the free phase."""
    free, *nudged = recordings
    values = (
        free.spikes_per_unit,
        free.spikes,
        _synops(model, free),
        _synops(model, *recordings) if nudged else None,
        saturation(free.state).total,
        list(lagging(spiking_dynamics(model), free.state, model.dynamics.encode(model.network, x))),
    )
    return dict(zip(SPIKE_COLUMNS, values, strict=True))


def _synops(model: Model, *recordings: Recording) -> float | None:
    """Return the synaptic operations of the phases; None where they are not defined."""
    try:
        return operations(model, *recordings).synops
    except ValueError:
        return None
