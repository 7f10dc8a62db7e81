r"""Ready-made architectures: frozen specifications whose `build` draws the weights and returns a `Model`.

Sizes are input-first. `mlp` and `toy` are the short way to a built model; their specifications `MLP` and `Toy` are what a
recipe holds and a file can carry.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from torch import nn

from eqprop.activations import Activation, as_activation
from eqprop.checks import angle_in_degrees, not_negative, positive_int
from eqprop.costs import Cost, SquaredError
from eqprop.dense import Dense
from eqprop.dynamics import Dynamics, EnergyDescent, Prototypical
from eqprop.mismatch import Mismatched
from eqprop.model import Model
from eqprop.network import Network, Population
from eqprop.settle import Settle, as_settle
from eqprop.untied import Untied

__all__ = ["MLP", "Toy", "mlp", "toy"]


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
        not_negative("mismatch", self.mismatch)

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


@dataclass(frozen=True)
class Toy:
    """The network of the first figure of Ernoult et al. (2019): the input feeds both populations, which feed each other.

    Args:
        inputs: units of the input.
        hidden: units of the hidden population.
        outputs: units of the output population.
        activation: of every population.
        dynamics: how they move; the figure's is `EnergyDescent` with ``dt=0.08`` and no clamp.
        cost: of the output population.
        settle: how long ``model(x)`` settles.

    Raises:
        ValueError: if a size is not a positive whole number or the activation is unknown.

    >>> [c.weight.shape[0] for c in Toy().build().network.connections]
    [50, 10, 10]
    """

    inputs: int = 5
    hidden: int = 50
    outputs: int = 10
    activation: str | Activation = "tanh"
    dynamics: Dynamics = field(default_factory=lambda: EnergyDescent(dt=0.08, clamp=False))
    cost: Cost = field(default_factory=SquaredError)
    settle: int | Settle = 5000

    def __post_init__(self) -> None:
        for name in ("inputs", "hidden", "outputs"):
            positive_int(name, getattr(self, name))
        as_activation(self.activation)
        as_settle("settle", self.settle)

    def build(self) -> Model:
        """Draw the weights and put the model together."""
        sizes = (self.inputs, self.hidden, self.outputs)
        edges = [(i, j, Dense(sizes[i], sizes[j])) for i, j in ((0, 1), (0, 2), (1, 2))]
        return Model(
            Network([Population(n, self.activation) for n in sizes], edges),
            self.dynamics,
            fresh(self.cost),
            self.settle,
        )


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


def toy(
    *,
    inputs: int = 5,
    hidden: int = 50,
    outputs: int = 10,
    activation: str | Activation = "tanh",
    dynamics: Dynamics | None = None,
    cost: Cost | None = None,
    settle: int | Settle = 5000,
) -> Model:
    """``Toy(...).build()``: see `Toy` for the arguments and what they raise.

    >>> toy(hidden=20).network.populations[1].shape
    (20,)
    """
    dynamics, cost = dynamics or EnergyDescent(dt=0.08, clamp=False), cost or SquaredError()
    return Toy(inputs, hidden, outputs, activation, dynamics, cost, settle).build()
