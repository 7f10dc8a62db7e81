r"""Ready-made architectures: frozen specifications whose `build` draws the weights and returns a `Model`.

Sizes are input-first. `mlp` and `toy` are the short way to a built model; their specifications `MLP` and `Toy` are what a
recipe holds and a file can carry.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from torch import nn

from eqprop._core.checks import angle_in_degrees, non_negative, positive_int
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
        sizes: units of each population, input first; with a readout, of the relaxing populations only.
        activation: of every population, and of the input where the dynamics wants ``rho(x)``.
        output_activation: of the last population, if it is to differ.
        dynamics: how the populations move.
        cost: of the last population. Every build gets a copy of its own, with readout weights newly drawn.
        settle: how long ``model(x)`` settles; 30 steps if left out.
        tied: False gives every connection between relaxing populations feedback weights of its own.
        angle: initial angle between forward and feedback weights in degrees; needs ``tied=False``.
        mismatch: standard deviation of each synapse's feedback, relative to what is written; drawn after all weights, which
            are the same ones as without. See `Mismatched`.

    Raises:
        ValueError: if there are fewer than two sizes, a size is not a positive whole number, an activation is unknown,
            there is an angle between tied weights, or the mismatch is negative or not finite.

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
        if isinstance(self.sizes, int) or len(self.sizes) < 2:
            raise ValueError(f"`sizes` must name the input and at least one more population, got {self.sizes!r}")
        object.__setattr__(self, "sizes", tuple(positive_int("sizes", n) for n in self.sizes))
        as_activation(self.activation)
        as_activation(self.output_activation or self.activation)
        if self.settle is not None:
            as_settle("settle", self.settle)
        angle_in_degrees("angle", self.angle)
        if self.tied and self.angle != 0:
            raise ValueError(f"`angle` is {self.angle!r}, but tied weights are their own feedback: add `tied=False`")
        non_negative("mismatch", self.mismatch)

    def build(self) -> Model:
        """Draw the weights and put the model together."""
        rho = [self.activation] * (len(self.sizes) - 1) + [self.output_activation or self.activation]
        populations = [Population(n, r) for n, r in zip(self.sizes, rho, strict=True)]
        written = [self._connection(n, *ends) for n, ends in enumerate(pairwise(self.sizes))]
        cost = fresh(self.cost)
        edges = [(n, n + 1, self._as_made(n, connection)) for n, connection in enumerate(written)]
        return Model(Network(populations, edges), self.dynamics, cost, self.settle or 30)

    def _connection(self, pre: int, n_pre: int, n_post: int) -> Dense | Untied:
        forward = Dense(n_pre, n_post)
        return forward if self.tied or pre == 0 else Untied(forward, self.angle)

    def _as_made(self, pre: int, written: Dense | Untied) -> Dense | Untied | Mismatched:
        return Mismatched(written, self.mismatch) if self.mismatch and pre else written


def fresh(cost: Cost) -> Cost:
    """A copy, with new weights where the cost has any."""
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
    """``MLP(...).build()``: see `MLP` for the arguments and what they raise.

    A readout given as ``cost`` is copied and newly drawn; put a `Model` together to keep one that was trained.

    >>> import eqprop as ep
    >>> model = ep.mlp([784, 512, 10], activation="sigmoid", settle=30)
    """
    dynamics, cost = dynamics or Prototypical(), cost or SquaredError()
    return MLP(sizes, activation, output_activation, dynamics, cost, settle, tied, angle, mismatch).build()
