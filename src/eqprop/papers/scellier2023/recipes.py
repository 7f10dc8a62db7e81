"""Training recipes of Scellier et al. (2023): deep convolutional Hopfield networks (DCHN).

Scellier, Ernoult, Kendall and Kumar, "Energy-Based Learning Algorithms for Analog Computing: A Comparative Study": four
convolutions with max pooling, hard sigmoid, a linear output, squared error, centred EP, asynchronous updates in two groups. MNIST
and Fashion-MNIST have the settings of the paper's comparison, CIFAR-10 those of its best result. Images of 28 x 28 get a border of
two black pixels; in training, a window of 32 x 32 is cut out of these after another border of two. The initial weights are uniform
within ``gain / sqrt(inputs)``, as in the paper's code. The initial biases are within half of ``1 / sqrt(inputs)`` there, and within
``gain / sqrt(inputs)`` here.

``NAME-small`` is for two cores and for tests. Its gain is 1: with the published gains, little of the input reaches the last layer
at first.
"""

from dataclasses import replace

from eqprop.data import Augment, Normalize
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import EquilibriumProp
from eqprop.models.convnet import ConvNet
from eqprop.papers.laborieux2021.recipes import CIFAR_10
from eqprop.papers.published_results import Published
from eqprop.solvers.schedules import Asynchronous
from eqprop.solvers.settle import Settle
from eqprop.training.config.optimizers import SGD
from eqprop.training.config.run import Data, Run
from eqprop.training.config.schedules import Cosine

__all__ = ["PUBLISHED", "RECIPES"]

_SOURCE = "Scellier et al. 2023"
_BIASES = "published with initial biases within half of 1 / sqrt(inputs), whatever the gain"

PUBLISHED = (
    Published("dchn-mnist", "EP", 0.44, None, None, _SOURCE, _BIASES),
    Published("dchn-mnist", "BPTT", 0.42, None, None, _SOURCE, _BIASES),
    Published("dchn-fashion", "EP", 6.47, None, None, _SOURCE, _BIASES),
    Published("dchn-fashion", "BPTT", 6.12, None, None, _SOURCE, _BIASES),
    Published("dchn-cifar10", "EP", 10.4, None, None, _SOURCE, _BIASES),
)
"""Errors on MNIST, Fashion-MNIST and CIFAR-10."""


def _hopfield(name: str, data: Data, model: ConvNet, nudged: int, beta: float, optimizer: SGD) -> Run:
    free, steps = (Settle(n, schedule=Asynchronous()) for n in (60, nudged))
    estimator = EquilibriumProp(free, steps, beta, nudging="centred")
    return Run(name, data, model, estimator, optimizer, Cosine(floor=2e-6), epochs=100)


def _network(input_shape: tuple[int, int, int], gain: float | tuple[float, ...]) -> ConvNet:
    # 3 x 3 filters; pooling leaves 16, 8, 4 and 2 pixels a side
    return ConvNet(
        input_shape,
        (128, 256, 512, 512),
        kernel_size=3,
        padding=(1, 1, 1, 1),
        gain=gain,
        output_activation="identity",
        dynamics=Prototypical(nudge="inside"),
    )


def dchn_mnist() -> Run:
    """DCHN on MNIST: T 60, K 15, beta 0.25; images shifted by up to two pixels."""
    data = Data("mnist", 128, normalize=Normalize((0.1307,), (0.3081,)), augment=Augment(pad=2, flip=False), pad=2)
    optimizer = SGD((0.0625, 0.0375, 0.025, 0.02, 0.0125), momentum=0.9, weight_decay=3e-4)
    return _hopfield("dchn-mnist", data, _network((1, 32, 32), 0.5), 15, 0.25, optimizer)


def dchn_fashion() -> Run:
    """DCHN on Fashion-MNIST: as on MNIST, with mirrored images."""
    normalize, augment = Normalize((0.2860,), (0.3530,)), Augment(pad=2, flip=True)
    data = Data("fashion-mnist", 128, normalize=normalize, augment=augment, pad=2)
    return replace(dchn_mnist(), name="dchn-fashion", data=data)


def dchn_cifar10() -> Run:
    """DCHN on CIFAR-10: T 60, K 20, beta 0.1."""
    optimizer = SGD(0.03, momentum=0.9, weight_decay=2.5e-4)
    return _hopfield("dchn-cifar10", CIFAR_10, _network((3, 32, 32), (0.4, 0.7, 0.6, 0.3, 0.4)), 20, 0.1, optimizer)


def _small(run: Run) -> Run:
    # an eighth of the channels, a third of the steps, five epochs
    free, nudged = (Settle(n, schedule=Asynchronous()) for n in (20, 8))
    estimator = EquilibriumProp(free, nudged, beta=0.25, nudging="centred")
    model = replace(run.model, channels=(16, 32, 64, 64), gain=1.0)
    optimizer = replace(run.optimizer, rates=(0.1, 0.06, 0.03, 0.01, 0.002))
    return replace(run, name=f"{run.name}-small", model=model, estimator=estimator, optimizer=optimizer, epochs=5)


def dchn_mnist_small() -> Run:
    """DCHN on MNIST for two cores."""
    return _small(dchn_mnist())


def dchn_fashion_small() -> Run:
    """DCHN on Fashion-MNIST for two cores."""
    return _small(dchn_fashion())


def dchn_cifar10_small() -> Run:
    """DCHN on CIFAR-10 for two cores."""
    return _small(dchn_cifar10())


RECIPES = {
    "dchn-mnist": dchn_mnist,
    "dchn-mnist-small": dchn_mnist_small,
    "dchn-fashion": dchn_fashion,
    "dchn-fashion-small": dchn_fashion_small,
    "dchn-cifar10": dchn_cifar10,
    "dchn-cifar10-small": dchn_cifar10_small,
}
