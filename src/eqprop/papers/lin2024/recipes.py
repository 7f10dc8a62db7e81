"""Lin, Bal & Sengupta 2024, "Scaling SNNs Trained Using Equilibrium Propagation to Convolutional Architectures": two convolutions
and two dense connections (2C2FC) between units that spike, with average pooling, trained by centred EP.

Of the paper its abstract and first page are known: architecture by name, estimator, pooling, errors. Widths, phases, rates and the
decoder's lambda are not; those here were found by trying, after O'Connor, Gavves & Welling (2019), whose dense network is
``spiking-dense``. T and K are in ticks; the contrast takes means over the last ticks of a phase. ``-small`` is for two cores and
for tests, ``spiking-digits`` for the demo page.

The rate twin of each is ``--dynamics energy``, the spiking network by BPTT through its spikes ``--estimator surrogate-bptt``.
"""

from dataclasses import replace

from eqprop.estimators import EquilibriumProp
from eqprop.models.convnet import ConvNet
from eqprop.models.mlp import MLP
from eqprop.papers.published_results import Published
from eqprop.solvers.settle import Settle
from eqprop.spiking import Spiking
from eqprop.training.config.optimizers import SGD
from eqprop.training.config.run import Data, Run
from eqprop.training.config.schedules import Cosine

__all__ = [
    "OTHERS",
    "PUBLISHED",
    "spiking_dense",
    "spiking_digits",
    "spiking_fashion",
    "spiking_fashion_small",
    "spiking_mnist",
    "spiking_mnist_small",
]

SOURCE = "Lin et al. 2024, abstract"
OPEN = "of the paper's settings the architecture's name, estimator and pooling are known; the others are this library's"
SEARCHED = "O'Connor et al. 2019, code"

PUBLISHED = (
    Published("spiking-mnist", "EP", 0.97, None, None, SOURCE, OPEN, recalled=False),
    Published("spiking-fashion", "EP", 8.89, None, None, SOURCE, OPEN, recalled=False),
    Published("spiking-dense", "EP", 2.58, None, 0.34, SEARCHED, "of a run with other step sizes, T 100 and K 50"),
)
"""Test errors in percent."""

OTHERS = (
    ("O'Connor et al. 2019", "sigma-delta, 784-500-10", 2.58, "a comment in the code"),
    ("EqSpike, Martin et al. 2021", "leaky integrate-and-fire, 784-300-10", 2.4, "abstract: 97.6 % accuracy"),
    ("Ernoult et al. 2019", "rates, 1-32-64-10", 1.02, "as recalled"),
)
"""MNIST test errors of other networks trained by EP, in percent: work, network, error, where it stands."""


def spiking(
    name: str, data: str, channels: tuple[int, int], dense: tuple[int, int], T: int, K: int, epochs: int
) -> Run:
    """A 2C2FC network; the nudged phases are averaged over their last quarter."""
    return Run(
        name=name,
        data=Data(data, batch_size=50),
        model=ConvNet((1, 28, 28), channels, pool="avg", dense=dense, dynamics=Spiking(eps=0.5, lam=0.2)),
        estimator=EquilibriumProp(T, Settle(K, average=K // 4), beta=0.5, nudging="centred"),
        optimizer=SGD((0.1, 0.06, 0.03, 0.01), momentum=0.9),
        schedule=Cosine(),
        epochs=epochs,
    )


def spiking_mnist() -> Run:
    """32 and 64 channels, 128 and 10 units; T 100, K 50; 40 epochs."""
    return spiking("spiking-mnist", "mnist", (32, 64), (128, 10), 100, 50, 40)


def spiking_fashion() -> Run:
    """The same of Fashion-MNIST."""
    return spiking("spiking-fashion", "fashion-mnist", (32, 64), (128, 10), 100, 50, 40)


def spiking_mnist_small() -> Run:
    """8 and 16 channels, 64 and 10 units; T 50, K 25; three epochs."""
    return spiking("spiking-mnist-small", "mnist", (8, 16), (64, 10), 50, 25, 3)


def spiking_fashion_small() -> Run:
    """The same of Fashion-MNIST."""
    return spiking("spiking-fashion-small", "fashion-mnist", (8, 16), (64, 10), 50, 25, 3)


def spiking_dense() -> Run:
    """784-500-10; T 100, K 50."""
    run = spiking("spiking-dense", "mnist", (1, 1), (1, 10), 100, 50, 25)
    model = MLP((784, 500, 10), "hard_sigmoid", dynamics=run.model.dynamics)
    return replace(run, model=model, data=Data("mnist", batch_size=20), optimizer=SGD((0.1, 0.05)))


def spiking_digits() -> Run:
    """64-128-10 on 8x8 digits; T 50, K 25."""
    run = spiking("spiking-digits", "digits", (1, 1), (1, 10), 50, 25, 10)
    model = MLP((64, 128, 10), "hard_sigmoid", dynamics=run.model.dynamics)
    return replace(run, model=model, data=Data("digits", batch_size=20), optimizer=SGD((0.2, 0.1)))
