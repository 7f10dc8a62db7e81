"""Theorem experiments of Ernoult et al. (2019), one for each figure; batches of 20, tanh except for P-conv.

The energy-based experiments leave ``rho'`` out at the output, as the paper's code does, and the prototypical ones are nudged
outside the activation, as in the paper. Both slightly violate an assumption of the theorem. The variants named ``NAME-exact`` keep
``rho'``, or nudge inside the activation (neurons are then compared with ``dL/du``), and use double precision.
"""

from dataclasses import replace
from functools import partial

from eqprop.dynamics.energy import EnergyDescent
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import EquilibriumProp
from eqprop.models.convnet import ConvNet
from eqprop.models.mlp import MLP
from eqprop.models.toy import Toy
from eqprop.theorem.experiment import RANDOM, Experiment
from eqprop.training.config.run import Data

__all__ = ["EXPERIMENTS", "exact"]

_BATCH = 20  # for the relative errors; the paper's curves show one sample


_ENERGY = EnergyDescent(dt=0.08, clamp=False, output_derivative=False)

_DENSE = {  # hidden layers of 512 units, dynamics, T, K, beta
    "eb-1h": (1, _ENERGY, 800, 80, 0.001),
    "eb-2h": (2, _ENERGY, 5000, 150, 0.01),
    "eb-3h": (3, _ENERGY, 30000, 200, 0.02),
    "p-1h": (1, Prototypical(), 150, 10, 0.01),
    "p-2h": (2, Prototypical(), 1500, 40, 0.01),
    "p-3h": (3, Prototypical(), 5000, 40, 0.015),
}


def _dense(name: str) -> Experiment:
    hidden, dynamics, T, K, beta = _DENSE[name]
    model = MLP((784, *[512] * hidden, 10), "tanh", dynamics=dynamics)
    return Experiment(name, Data("mnist", _BATCH), model, EquilibriumProp(T, K, beta))


def toy() -> Experiment:
    """Figure 2: 5-50-10, the input feeds both layers, one random sample."""
    return Experiment("toy", Data(RANDOM, 1), Toy(), EquilibriumProp(5000, 80, 0.01))


def p_conv() -> Experiment:
    """Figures 4 and 16: hard sigmoid."""
    return Experiment("p-conv", Data("mnist", _BATCH), ConvNet((1, 28, 28), (32, 64)), EquilibriumProp(5000, 10, 0.02))


EXPERIMENTS = {"toy": toy, **{name: partial(_dense, name) for name in _DENSE}, "p-conv": p_conv}
"""One experiment for each figure; the figures are listed in `eqprop.papers.ernoult2019.reproduction`."""


def exact(experiment: Experiment) -> Experiment:
    """Return the experiment under the theorem's assumptions on gradients, nudging and precision, named ``NAME-exact``.

    Whether the free phase reaches a steady state still depends on T.
    """
    model = experiment.model
    dynamics = (
        replace(model.dynamics, output_derivative=True)
        if isinstance(model.dynamics, EnergyDescent)
        else Prototypical(nudge="inside")
    )
    name, model = f"{experiment.name}-exact", replace(model, dynamics=dynamics)
    return replace(experiment, name=name, model=model, dtype="float64")
