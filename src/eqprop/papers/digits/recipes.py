"""The demo: 8x8 digits that travel with the package, learned in seconds. Nothing of it is published elsewhere."""

from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import EquilibriumProp
from eqprop.models.mlp import MLP
from eqprop.training.config.optimizers import SGD
from eqprop.training.config.run import Data, Run
from eqprop.training.config.schedules import Cosine

__all__ = ["digits"]


def digits() -> Run:
    """64-128-10, prototypical, nudged inside and centred."""
    return Run(
        name="digits",
        data=Data("digits"),
        model=MLP((64, 128, 10), "sigmoid", dynamics=Prototypical(nudge="inside")),
        estimator=EquilibriumProp(20, 10, beta=0.2, nudging="centred"),
        optimizer=SGD(0.3),
        schedule=Cosine(),
        epochs=20,
    )
