"""Theorem experiments of Ernoult et al. (2020): EP, continual EP (C-EP) and continual vector-field EP (C-VF).

One hidden layer, 784-512-10, tanh, one sample; in discrete time (``NAME-p-1h``) and in real time (``NAME-eb-1h``). The weights of
C-EP and C-VF move at a rate of 2e-5 inside the nudged phase. In real time, the paper's C-VF leaves ``rho'`` out of the dynamics;
here it is kept.
"""

from dataclasses import replace

from eqprop.dynamics.base import Dynamics
from eqprop.dynamics.energy import EnergyDescent
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import ContinualSGD, EquilibriumProp
from eqprop.models.mlp import MLP
from eqprop.theorem.experiment import Experiment
from eqprop.training.config.run import Data

__all__ = ["EXPERIMENTS"]

_RATE = 2e-5  # of both layers; table of the appendix
_REAL_TIME, _DISCRETE = (800, 80, 0.005), (150, 10, 0.01)  # T, K and beta


def _experiment(
    name: str, dynamics: Dynamics, phases: tuple[int, int, float], rate: float | None, *, tied: bool
) -> Experiment:
    # without a rate the weights do not move: EP
    model = MLP((784, 512, 10), "tanh", dynamics=dynamics, tied=tied)
    estimator = EquilibriumProp(*phases) if rate is None else ContinualSGD(*phases, rates=rate)
    return Experiment(name, Data("mnist", 1), model, estimator)


def _real_time() -> EnergyDescent:
    return EnergyDescent(dt=0.08, clamp=False, output_derivative=False)


def ep_p_1h() -> Experiment:
    """EP in discrete time, Figures 8 and 9, left: T 150, K 10, beta 0.01."""
    return _experiment("ep-p-1h", Prototypical(), _DISCRETE, None, tied=True)


def cep_p_1h() -> Experiment:
    """C-EP in discrete time, Figures 8 and 9, right."""
    return _experiment("cep-p-1h", Prototypical(), _DISCRETE, _RATE, tied=True)


def cvf_p_1h() -> Experiment:
    """C-VF in discrete time from an angle of 0, Figures 12 and 13, right."""
    return _experiment("cvf-p-1h", Prototypical(), _DISCRETE, _RATE, tied=False)


def ep_eb_1h() -> Experiment:
    """EP in real time, Figures 5b, 10 and 11, left: T 800, K 80, beta 0.005."""
    return _experiment("ep-eb-1h", _real_time(), _REAL_TIME, None, tied=True)


def cep_eb_1h() -> Experiment:
    """C-EP in real time, Figures 5b, 10 and 11, right."""
    return _experiment("cep-eb-1h", _real_time(), _REAL_TIME, _RATE, tied=True)


def cvf_eb_1h() -> Experiment:
    """C-VF in real time from an angle of 45 degrees, Figure 5b; ``--model.angle 0`` gives Figures 14 and 15."""
    found = _experiment("cvf-eb-1h", _real_time(), _REAL_TIME, _RATE, tied=False)
    return replace(found, model=replace(found.model, angle=45.0))


EXPERIMENTS = {
    "ep-p-1h": ep_p_1h,
    "cep-p-1h": cep_p_1h,
    "cvf-p-1h": cvf_p_1h,
    "ep-eb-1h": ep_eb_1h,
    "cep-eb-1h": cep_eb_1h,
    "cvf-eb-1h": cvf_eb_1h,
}
