"""Spikes of a training, once an epoch: how many, what they cost, and whether coders are wound up.

Looked at on one batch, the same throughout; it changes nothing. What an estimator does beside its phases, as the way back of BPTT,
is no matter of spikes: then there are no operations of a training step.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from eqprop.estimators.base import Estimator
from eqprop.estimators.ep import NudgedEstimator, nudging_strengths
from eqprop.models.model import Model
from eqprop.solvers.settle import Settle
from eqprop.spiking import Recording, Spiking, late, operations, record, saturation
from eqprop.spiking.recording import Choice, spiking
from eqprop.training.diagnostics import Diagnostics
from eqprop.training.rng import ESTIMATOR, REST, generator, seeded

__all__ = ["activity_of", "phases"]

Numbers = dict[str, Any]


def activity_of(model: Model, free_steps: int | Settle, x: Tensor, y: Tensor) -> Diagnostics | None:
    """What stands in the rows of a model that spikes; None of others.

    Args:
        model: the model.
        free_steps: T, in ticks.
        x: inputs ``(B, *shape)`` of the batch to look at.
        y: their targets.

    The probe gives, of one sample on average:
        spikes_per_unit: in the free phase, per tick; the input counts where it spikes.
        spikes_per_inference: of all units over the free phase.
        synops_per_inference: synaptic operations of these; None where spikes do not go through synapses, or their ways vary.
        synops_per_step: the same of the free and the nudged phases; None without nudged phases.
        wound_up: share of all coders with ``|phi| > 1/2`` at the end of the free phase.
        late: of each population the share of those with something to send that are decoded more than lambda off for it
            (`eqprop.spiking.late`).
    """
    if not isinstance(model.dynamics, Spiking):
        return None

    def look(model: Model, estimator: Estimator) -> Numbers:
        try:
            with seeded(0, REST):
                return numbers(model, phases(model, estimator, free_steps, x, y), x)
        except FloatingPointError:  # on this batch; the training has a say of its own on its batches
            return dict.fromkeys(NAMES)

    return look


NAMES = (
    "spikes_per_unit",
    "spikes_per_inference",
    "synops_per_inference",
    "synops_per_step",
    "wound_up",
    "late",
)


def phases(
    model: Model, estimator: Estimator, free_steps: int | Settle, x: Tensor, y: Tensor, units: Choice = 0
) -> tuple[Recording, ...]:
    """The free phase, and the nudged ones of EP, each from its end, under weights at rest."""
    free = record(model, x, free_steps, units=units)
    if not isinstance(estimator, NudgedEstimator):
        return (free,)
    betas = nudging_strengths(estimator.nudging, estimator.beta, generator(0, ESTIMATOR))
    return free, *(record(model, x, estimator.nudged_steps, y, beta, free) for beta in betas)


def numbers(model: Model, found: Sequence[Recording], x: Tensor) -> Numbers:
    """The probe's, of phases that began with the free one."""
    free, *nudged = found
    sent = model.dynamics.encode(model.network, x)
    values = (
        free.spikes_per_unit,
        free.spikes,
        synops_or_none(model, free),
        synops_or_none(model, *found) if nudged else None,
        saturation(free.state).total,
        list(late(spiking(model), free.state, sent)),
    )
    return dict(zip(NAMES, values, strict=True))


def synops_or_none(model: Model, *found: Recording) -> float | None:
    """Synaptic operations of the phases, where they can be told."""
    try:
        return operations(model, *found).synops
    except ValueError:
        return None
