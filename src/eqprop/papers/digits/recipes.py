"""The demo recipe on the 8x8 digits that come with the package; it trains in seconds and repeats no publication."""

from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import EquilibriumProp
from eqprop.models.mlp import MLP
from eqprop.training.config.optimizers import SGD
from eqprop.training.config.run import Data, Run
from eqprop.training.config.schedules import Cosine

__all__ = ["RECIPES"]


def digits() -> Run:
    """64-128-10, prototypical dynamics nudged inside the activation, centred EP."""
    return Run(
        name="digits",
        data=Data("digits"),
        model=MLP((64, 128, 10), "sigmoid", dynamics=Prototypical(nudge="inside")),
        estimator=EquilibriumProp(20, 10, beta=0.2, nudging="centred"),
        optimizer=SGD(0.3),
        schedule=Cosine(),
        epochs=20,
    )


RECIPES = {"digits": digits}
