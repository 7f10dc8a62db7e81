"""eqprop: convergent networks trained by Equilibrium Propagation, proven against theory.

>>> import torch, eqprop as ep
>>> model = ep.mlp([4, 8, 3], activation="sigmoid", settle=30)
>>> estimator = ep.EquilibriumProp(free_steps=30, nudged_steps=10, beta=0.1)
>>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
>>> x, y = torch.rand(20, 4), torch.randint(3, (20,))
>>> for loss in estimator(model, x, y):
...     optimizer.zero_grad()
...     loss.backward()
...     optimizer.step()
"""

from eqprop.activations import Activation
from eqprop.connections.base import Connection
from eqprop.connections.conv import Conv2d
from eqprop.connections.dense import Dense
from eqprop.connections.mismatched import Mismatched
from eqprop.connections.untied import Untied
from eqprop.costs import Cost, CrossEntropyReadout, SquaredError
from eqprop.dynamics.base import Dynamics
from eqprop.dynamics.energy import EnergyDescent
from eqprop.dynamics.noisy import Noisy
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import (
    BPTT,
    ContinualEP,
    ContinualSGD,
    EquilibriumProp,
    Estimator,
    ImplicitDiff,
    SurrogateBPTT,
    as_loss,
)
from eqprop.estimators.equilibrium import Equilibrium
from eqprop.models.convnet import ConvNet, convnet
from eqprop.models.mlp import MLP, mlp
from eqprop.models.model import Model, relax
from eqprop.models.toy import Toy, toy
from eqprop.network import Network, Population
from eqprop.solvers.anderson import Anderson
from eqprop.solvers.schedules import Asynchronous, Synchronous
from eqprop.solvers.settle import Settle, Solution
from eqprop.spiking import Spiking
from eqprop.theorem import GDUReport, gdu
from eqprop.training import Run, Trainer, load
from eqprop.version import __version__ as __version__

__all__ = [
    "BPTT",
    "MLP",
    "Activation",
    "Anderson",
    "Asynchronous",
    "Connection",
    "ContinualEP",
    "ContinualSGD",
    "Conv2d",
    "ConvNet",
    "Cost",
    "CrossEntropyReadout",
    "Dense",
    "Dynamics",
    "EnergyDescent",
    "Equilibrium",
    "EquilibriumProp",
    "Estimator",
    "GDUReport",
    "ImplicitDiff",
    "Mismatched",
    "Model",
    "Network",
    "Noisy",
    "Population",
    "Prototypical",
    "Run",
    "Settle",
    "Solution",
    "Spiking",
    "SquaredError",
    "SurrogateBPTT",
    "Synchronous",
    "Toy",
    "Trainer",
    "Untied",
    "as_loss",
    "convnet",
    "gdu",
    "load",
    "mlp",
    "relax",
    "toy",
]
