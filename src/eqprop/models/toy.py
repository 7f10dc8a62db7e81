r"""The toy network of figure 1 of Ernoult et al. (2019).

The input ``x`` feeds the output population ``s^2`` and the hidden population ``s^1``, which feed each other:

    Phi(x, s) = <s^1, W_01 x + b_01> + <s^2, W_02 x + b_02> + <s^2, W_12 s^1 + b_12>.

It is the smallest network with an input, a skip and a hidden population. The paper uses it to show the theorem: its figure plots
the increments of EP against the gradients of BPTT, for energy-based dynamics with dt = 0.08.
"""

from dataclasses import dataclass, field

from eqprop._core.checks import positive_int
from eqprop.activations import Activation, as_activation
from eqprop.connections.dense import Dense
from eqprop.costs import Cost, SquaredError
from eqprop.dynamics.base import Dynamics
from eqprop.dynamics.energy import EnergyDescent
from eqprop.models.mlp import check_parts, copy_cost
from eqprop.models.model import Model
from eqprop.network import Network, Population
from eqprop.solvers.settle import Settle, as_settle

__all__ = ["Toy", "toy"]


@dataclass(frozen=True)
class Toy:
    """The toy network of Ernoult et al. (2019), figure 1: the input feeds both populations, which feed each other.

    Args:
        inputs: number of units of the input.
        hidden: number of units of the hidden population.
        outputs: number of units of the output population.
        activation: activation of every population.
        dynamics: dynamics of the populations; in the paper `EnergyDescent` with ``dt=0.08`` and no clamp.
        cost: cost of the output population.
        settle: steps or `Settle` of ``model(x)``.

    Raises:
        ArgumentError: if a size is not a positive whole number, the activation is unknown or ``settle`` is invalid.

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
        check_parts(self.dynamics, self.cost)

    def build(self) -> Model:
        """Draw the weights and return the model."""
        sizes = (self.inputs, self.hidden, self.outputs)
        edges = [(i, j, Dense(sizes[i], sizes[j])) for i, j in ((0, 1), (0, 2), (1, 2))]
        return Model(
            Network([Population(n, self.activation) for n in sizes], edges),
            self.dynamics,
            copy_cost(self.cost),
            self.settle,
        )


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
    """Return ``Toy(...).build()``; see `Toy` for the arguments.

    >>> toy(hidden=20).network.populations[1].shape
    (20,)
    """
    dynamics = EnergyDescent(dt=0.08, clamp=False) if dynamics is None else dynamics
    cost = SquaredError() if cost is None else cost
    return Toy(inputs, hidden, outputs, activation, dynamics, cost, settle).build()
