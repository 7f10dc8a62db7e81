"""Checks of the theorem in Ernoult et al. (2019): one experiment for each of its figures, batches of 20, tanh but for P-conv.

The energy-based ones leave ``rho'`` out at the output, as the code of the paper does, and the prototypical ones are nudged outside
of the activation, as in the paper: both break an assumption of the theorem a little. Those named ``-exact`` do not: the first have
the ``rho'``, the second are nudged inside, where neurons answer to ``dL/du``, and all are in double precision.
"""

from dataclasses import replace

from eqprop.dynamics.base import Dynamics
from eqprop.dynamics.energy import EnergyDescent
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import EquilibriumProp
from eqprop.models.convnet import ConvNet
from eqprop.models.mlp import MLP
from eqprop.models.toy import Toy
from eqprop.theorem.experiment import RANDOM, Experiment
from eqprop.training.config.run import Data

__all__ = ["eb_1h", "eb_2h", "eb_3h", "exact", "p_1h", "p_2h", "p_3h", "p_conv", "toy"]

BATCH = 20
"""Of the relative errors; the curves of the paper are of one sample."""


def mnist(name: str, hidden: int, dynamics: Dynamics, estimator: EquilibriumProp) -> Experiment:
    """A chain of ``hidden`` populations of 512 units between 784 pixels and 10 classes."""
    return Experiment(name, Data("mnist", BATCH), MLP((784, *[512] * hidden, 10), "tanh", dynamics=dynamics), estimator)


def energy(output_derivative: bool = False) -> EnergyDescent:
    """The energy-based dynamics of the figures."""
    return EnergyDescent(dt=0.08, clamp=False, output_derivative=output_derivative)


def toy() -> Experiment:
    """Figure 2: 5-50-10, the input feeds both populations; T 5000, K 80, beta 0.01, one random sample."""
    return Experiment("toy", Data(RANDOM, 1), Toy(), EquilibriumProp(5000, 80, 0.01))


def eb_1h() -> Experiment:
    """EB-1h, Figures 3 and 8: T 800, K 80, beta 0.001."""
    return mnist("eb-1h", 1, energy(), EquilibriumProp(800, 80, 0.001))


def eb_2h() -> Experiment:
    """EB-2h, Figures 3 and 9: T 5000, K 150, beta 0.01."""
    return mnist("eb-2h", 2, energy(), EquilibriumProp(5000, 150, 0.01))


def eb_3h() -> Experiment:
    """EB-3h, Figures 3 and 10: T 30000, K 200, beta 0.02."""
    return mnist("eb-3h", 3, energy(), EquilibriumProp(30000, 200, 0.02))


def p_1h() -> Experiment:
    """P-1h, Figures 3 and 11: T 150, K 10, beta 0.01."""
    return mnist("p-1h", 1, Prototypical(), EquilibriumProp(150, 10, 0.01))


def p_2h() -> Experiment:
    """P-2h, Figures 3 and 12: T 1500, K 40, beta 0.01."""
    return mnist("p-2h", 2, Prototypical(), EquilibriumProp(1500, 40, 0.01))


def p_3h() -> Experiment:
    """P-3h, Figures 3 and 13: T 5000, K 40, beta 0.015."""
    return mnist("p-3h", 3, Prototypical(), EquilibriumProp(5000, 40, 0.015))


def p_conv() -> Experiment:
    """P-conv, Figures 4 and 16: hard sigmoid; T 5000, K 10, beta 0.02."""
    return Experiment("p-conv", Data("mnist", BATCH), ConvNet((1, 28, 28), (32, 64)), EquilibriumProp(5000, 10, 0.02))


def exact(experiment: Experiment) -> Experiment:
    """The same with the output's derivative, or the inner nudge, in double precision; whether it settles is another matter."""
    model = experiment.model
    dynamics = (
        replace(model.dynamics, output_derivative=True)
        if isinstance(model.dynamics, EnergyDescent)
        else Prototypical(nudge="inside")
    )
    name, model = f"{experiment.name}-exact", replace(model, dynamics=dynamics)
    return replace(experiment, name=name, model=model, dtype="float64")
