"""Estimators: functions from a batch to losses whose ``.backward()`` gives one estimate of the gradient."""

from eqprop.estimators.base import Estimator, EstimatorBase, as_loss
from eqprop.estimators.bptt import BPTT, SurrogateBPTT
from eqprop.estimators.continual import ContinualEP
from eqprop.estimators.continual_sgd import ContinualSGD
from eqprop.estimators.ep import EquilibriumProp, NudgedEstimator
from eqprop.estimators.implicit import ImplicitDiff

__all__ = [
    "BPTT",
    "ContinualEP",
    "ContinualSGD",
    "EquilibriumProp",
    "Estimator",
    "EstimatorBase",
    "ImplicitDiff",
    "NudgedEstimator",
    "SurrogateBPTT",
    "as_loss",
]
