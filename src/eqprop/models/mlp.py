r"""Fully connected architectures.

An architecture is a frozen specification, such as `MLP`, which recipes hold and configuration files store. Its `build` draws the
weights and returns a `Model`. A function such as `mlp` does both. Sizes are input-first.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from torch import nn

from eqprop._core.checks import ArgumentError, angle_in_degrees, boolean, instance, non_negative, positive_int, sequence
from eqprop.activations import Activation, as_activation
from eqprop.connections.dense import Dense
from eqprop.connections.mismatched import Mismatched
from eqprop.connections.untied import Untied
from eqprop.costs import Cost, SquaredError
from eqprop.dynamics.base import Dynamics
from eqprop.dynamics.prototypical import Prototypical
from eqprop.models.model import Model
from eqprop.network import Network, Population
from eqprop.solvers.settle import Settle, as_settle

__all__ = ["MLP", "mlp"]


@dataclass(frozen=True)
class MLP:
    """A chain of fully connected populations.

    Args:
        sizes: number of units of each population, input first. The classes of a readout are not a population.
        activation: activation of every population, and of the input if the dynamics use ``rho(x)``.
        output_activation: activation of the last population, if different.
        dynamics: dynamics of the populations.
        cost: cost of the last population. Every build copies it and draws new readout weights.
        settle: steps or `Settle` of ``model(x)``; 30 steps if None.
        tied: False adds separate feedback weights to every connection between relaxing populations.
        angle: initial angle between forward and feedback weights in degrees; needs ``tied=False``.
        mismatch: relative standard deviation of the feedback weights, see `Mismatched`. The deviations are drawn after all weights,
            which do not depend on them.

    Raises:
        ArgumentError: if there are fewer than two sizes, a size is not a positive whole number, an activation is unknown, an
            angle is given for tied weights, or the mismatch is negative or not finite.

    >>> len(list(MLP((4, 8, 3)).build().parameters()))
    4
    """

    sizes: Sequence[int]
    activation: str | Activation = "hard_sigmoid"
    output_activation: str | Activation | None = None
    dynamics: Dynamics = field(default_factory=Prototypical)
    cost: Cost = field(default_factory=SquaredError)
    settle: int | Settle | None = None
    tied: bool = True
    angle: float = 0.0
    mismatch: float = 0.0

    def __post_init__(self) -> None:
        sizes = getattr(self.sizes, "tolist", lambda: self.sizes)()  # of an array or a tensor
        if len(sequence("sizes", sizes, "a list of whole numbers, input first")) < 2:
            raise ArgumentError(
                "sizes", f"`sizes` must name the input and at least one more population, got {self.sizes!r}"
            )
        object.__setattr__(self, "sizes", tuple(positive_int("sizes", n) for n in sizes))
        check_architecture(self.activation, self.output_activation, self.settle, self.tied, self.angle)
        check_parts(self.dynamics, self.cost)
        non_negative("mismatch", self.mismatch)

    def build(self) -> Model:
        """Draw the weights and return the model."""
        rho = [self.activation] * (len(self.sizes) - 1) + [self.output_activation or self.activation]
        populations = [Population(n, r) for n, r in zip(self.sizes, rho, strict=True)]
        connections = [self._connection(n, *ends) for n, ends in enumerate(pairwise(self.sizes))]
        cost = copy_cost(self.cost)
        edges = [(n, n + 1, self._with_mismatch(n, connection)) for n, connection in enumerate(connections)]
        return Model(Network(populations, edges), self.dynamics, cost, self.settle or 30)

    def _connection(self, pre: int, n_pre: int, n_post: int) -> Dense | Untied:
        forward = Dense(n_pre, n_post)
        return forward if self.tied or pre == 0 else Untied(forward, self.angle)

    def _with_mismatch(self, pre: int, connection: Dense | Untied) -> Dense | Untied | Mismatched:
        return Mismatched(connection, self.mismatch) if self.mismatch and pre else connection


def check_architecture(
    activation: str | Activation,
    output_activation: str | Activation | None,
    settle: int | Settle | None,
    tied: bool,
    angle: float,
) -> None:
    """Check the arguments that all chains have in common.

    Raises:
        ArgumentError: if an activation is unknown, ``settle`` is invalid, or an angle is out of range or given for tied weights.
    """
    as_activation(activation)
    if output_activation is not None:
        as_activation(output_activation, "output_activation")
    boolean("tied", tied)
    if settle is not None:
        as_settle("settle", settle)
    if angle_in_degrees("angle", angle) != 0 and tied:
        raise ArgumentError("angle", f"`angle` is {angle!r}, but tied weights are their own feedback: add `tied=False`")


def check_parts(dynamics: object, cost: object) -> None:
    """Check that an architecture is given a dynamics and a cost."""
    instance("dynamics", dynamics, Dynamics)
    instance("cost", cost, Cost)


def copy_cost(cost: Cost) -> Cost:
    """Return a copy of a cost; if it has weights, draw new ones."""
    cost = copy.deepcopy(cost)
    if isinstance(cost, nn.Module):
        for module in cost.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    return cost


def mlp(
    sizes: Sequence[int],
    *,
    activation: str | Activation = "hard_sigmoid",
    output_activation: str | Activation | None = None,
    dynamics: Dynamics | None = None,
    cost: Cost | None = None,
    settle: int | Settle | None = None,
    tied: bool = True,
    angle: float = 0.0,
    mismatch: float = 0.0,
) -> Model:
    """Return ``MLP(...).build()``; see `MLP` for the arguments.

    A readout given as ``cost`` is copied and its weights are drawn anew. To keep trained readout weights, construct a `Model`.

    >>> import eqprop as ep
    >>> model = ep.mlp([784, 512, 10], activation="sigmoid", settle=30)
    """
    dynamics = Prototypical() if dynamics is None else dynamics
    cost = SquaredError() if cost is None else cost
    return MLP(sizes, activation, output_activation, dynamics, cost, settle, tied, angle, mismatch).build()
