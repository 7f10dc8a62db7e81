"""The demo: 8x8 digits that travel with the package, learned in seconds. Nothing of it is published elsewhere."""

from eqprop.architectures import MLP
from eqprop.dynamics import Prototypical
from eqprop.estimators import EquilibriumProp
from eqprop.training.optimisers import SGD
from eqprop.training.run import Data, Run
from eqprop.training.schedules import Cosine

__all__ = ["digits"]


def digits() -> Run:
    """64-128-10, prototypical, nudged inside and centred."""
    return Run(
        name="digits",
        data=Data("digits"),
        model=MLP((64, 128, 10), "sigmoid", dynamics=Prototypical(nudge="inside")),
        estimator=EquilibriumProp(20, 10, beta=0.2, nudging="centred"),
        optimiser=SGD(0.3),
        schedule=Cosine(),
        epochs=20,
    )
