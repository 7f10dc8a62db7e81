"""Training recipes of Lin, Bal and Sengupta (2024): spiking networks with two convolutions and two dense layers (2C2FC).

"Scaling SNNs Trained Using Equilibrium Propagation to Convolutional Architectures": average pooling, centred EP. Only abstract and
first page of the paper were available: architecture by name, estimator, pooling and errors. Layer sizes, phases, rates and the
decoder's lambda were found by trial, starting from O'Connor, Gavves and Welling (2019), whose dense network is ``spiking-dense``. T
and K are in ticks; the contrast uses means over the last ticks of a phase. ``NAME-small`` is for two cores and for tests,
``spiking-digits`` for the demo page.

``--dynamics energy`` trains the rate model, ``--estimator surrogate-bptt`` the spiking network by BPTT through its spikes.
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

__all__ = ["OTHERS", "PUBLISHED", "RECIPES"]

_ABSTRACT = "Lin et al. 2024, abstract"
_SETTINGS = (
    "only the architecture's name, the estimator and the pooling are the paper's; the other settings are this library's"
)
_OCONNOR = "O'Connor et al. 2019, code"

PUBLISHED = (
    Published("spiking-mnist", "EP", 0.97, None, None, _ABSTRACT, _SETTINGS, recalled=False),
    Published("spiking-fashion", "EP", 8.89, None, None, _ABSTRACT, _SETTINGS, recalled=False),
    Published("spiking-dense", "EP", 2.58, None, 0.34, _OCONNOR, "published for other step sizes, T 100 and K 50"),
)
"""Errors on MNIST and Fashion-MNIST."""

OTHERS = (
    ("O'Connor et al. 2019", "sigma-delta, 784-500-10", 2.58, "a comment in the code"),
    ("EqSpike, Martin et al. 2021", "leaky integrate-and-fire, 784-300-10", 2.4, "abstract: 97.6 % accuracy"),
    ("Ernoult et al. 2019", "rates, 1-32-64-10", 1.02, "Table 1, from memory"),
)
"""MNIST test errors of other networks trained by EP, in percent: work, network, error, source."""


def _spiking(
    name: str, data: str, channels: tuple[int, int], dense: tuple[int, int], T: int, K: int, epochs: int
) -> Run:
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
    """2C2FC on MNIST: 32 and 64 channels, 128 and 10 units; T 100, K 50; 40 epochs."""
    return _spiking("spiking-mnist", "mnist", (32, 64), (128, 10), 100, 50, 40)


def spiking_fashion() -> Run:
    """2C2FC on Fashion-MNIST: as `spiking_mnist`."""
    return _spiking("spiking-fashion", "fashion-mnist", (32, 64), (128, 10), 100, 50, 40)


def spiking_mnist_small() -> Run:
    """2C2FC on MNIST for two cores: 8 and 16 channels, 64 and 10 units; T 50, K 25; three epochs."""
    return _spiking("spiking-mnist-small", "mnist", (8, 16), (64, 10), 50, 25, 3)


def spiking_fashion_small() -> Run:
    """2C2FC on Fashion-MNIST for two cores: as `spiking_mnist_small`."""
    return _spiking("spiking-fashion-small", "fashion-mnist", (8, 16), (64, 10), 50, 25, 3)


def spiking_dense() -> Run:
    """Dense network of O'Connor et al. (2019) on MNIST: 784-500-10; T 100, K 50."""
    run = _spiking("spiking-dense", "mnist", (1, 1), (1, 10), 100, 50, 25)
    model = MLP((784, 500, 10), "hard_sigmoid", dynamics=run.model.dynamics)
    return replace(run, model=model, data=Data("mnist", batch_size=20), optimizer=SGD((0.1, 0.05)))


def spiking_digits() -> Run:
    """64-128-10 on the 8x8 digits; T 50, K 25."""
    run = _spiking("spiking-digits", "digits", (1, 1), (1, 10), 50, 25, 10)
    model = MLP((64, 128, 10), "hard_sigmoid", dynamics=run.model.dynamics)
    return replace(run, model=model, data=Data("digits", batch_size=20), optimizer=SGD((0.2, 0.1)))


RECIPES = {
    "spiking-digits": spiking_digits,
    "spiking-dense": spiking_dense,
    "spiking-mnist": spiking_mnist,
    "spiking-mnist-small": spiking_mnist_small,
    "spiking-fashion": spiking_fashion,
    "spiking-fashion-small": spiking_fashion_small,
}
