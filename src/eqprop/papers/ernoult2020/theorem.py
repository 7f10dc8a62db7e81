"""Theorem experiments of Ernoult et al. (2020): EP, continual EP (C-EP) and continual vector-field EP (C-VF).

One hidden layer, 784-512-10, tanh, one sample; in discrete time (``NAME-p-1h``) and in real time (``NAME-eb-1h``). The weights of
C-EP and C-VF move at a rate of 2e-5 inside the nudged phase. In real time, the paper's C-VF leaves ``rho'`` out of the dynamics;
here it is kept.
"""

from functools import partial

from eqprop.dynamics.energy import EnergyDescent
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import ContinualSGD, EquilibriumProp
from eqprop.models.mlp import MLP
from eqprop.theorem.experiment import Experiment
from eqprop.training.config.run import Data

__all__ = ["EXPERIMENTS"]

_RATE = 2e-5  # of both layers; table of the appendix
_REAL_TIME = EnergyDescent(dt=0.08, clamp=False, output_derivative=False), (800, 80, 0.005)
_DISCRETE = Prototypical(), (150, 10, 0.01)

_SETTINGS = {  # dynamics and (T, K, beta), rate inside the nudged phase (None: EP), initial angle (None: tied)
    "ep-p-1h": (_DISCRETE, None, None),  # Figures 8 and 9, left
    "cep-p-1h": (_DISCRETE, _RATE, None),  # Figures 8 and 9, right
    "cvf-p-1h": (_DISCRETE, _RATE, 0.0),  # Figures 12 and 13, right
    "ep-eb-1h": (_REAL_TIME, None, None),  # Figures 5b, 10 and 11, left
    "cep-eb-1h": (_REAL_TIME, _RATE, None),  # Figures 5b, 10 and 11, right
    "cvf-eb-1h": (_REAL_TIME, _RATE, 45.0),  # Figure 5b; `--model.angle 0` gives Figures 14 and 15
}


def _build(name: str) -> Experiment:
    (dynamics, phases), rate, angle = _SETTINGS[name]
    model = MLP((784, 512, 10), "tanh", dynamics=dynamics, tied=angle is None, angle=angle or 0.0)
    estimator = EquilibriumProp(*phases) if rate is None else ContinualSGD(*phases, rates=rate)
    return Experiment(name, Data("mnist", 1), model, estimator)


EXPERIMENTS = {name: partial(_build, name) for name in _SETTINGS}
