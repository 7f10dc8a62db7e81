"""Training recipe of Laborieux et al. (2021): CIFAR-10 with four convolutions, max pooling and a softmax readout.

"Scaling Equilibrium Propagation to Deep ConvNets by Drastically Reducing its Gradient Estimator Bias". Centred EP; the readout is
not part of the relaxing system. The nudge enters inside the activation ``clamp(u / 2, 0, 1)``. SGD with momentum and weight decay;
images are shifted by up to four pixels and mirrored. The paper's cosine schedule ends after 100 of its 120 epochs; here it spans
all epochs. ``laborieux-cifar10-small`` is for two cores and for tests.
"""

from dataclasses import replace

from eqprop.costs import CrossEntropyReadout
from eqprop.data import Augment, Normalize
from eqprop.data.sources import CIFAR_10_MEAN, CIFAR_10_STD
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import EquilibriumProp
from eqprop.models.convnet import ConvNet
from eqprop.papers.published_results import Published
from eqprop.training.config.optimizers import SGD
from eqprop.training.config.run import Data, Run
from eqprop.training.config.schedules import Cosine

__all__ = ["CIFAR_10", "PUBLISHED", "RECIPES"]

_TABLE = "Laborieux et al. 2021, Table 1"
_COSINE = "the paper's cosine schedule ends after 100 of its 120 epochs, the recipe's spans all of them"

PUBLISHED = (
    Published("laborieux-cifar10", "EP", 11.68, 0.17, None, _TABLE, _COSINE),
    Published("laborieux-cifar10", "BPTT", 11.12, 0.21, None, _TABLE, _COSINE),
)
"""Errors on CIFAR-10."""

CIFAR_10 = Data(
    "cifar-10",
    batch_size=128,
    normalize=Normalize(CIFAR_10_MEAN, tuple(3 * value for value in CIFAR_10_STD)),
    augment=Augment(pad=4, flip=True, border="edge"),
)
"""CIFAR-10 with colors divided by three standard deviations, as in this paper and the later ones."""


def laborieux_cifar10() -> Run:
    """128-256-512-512 channels of 3 x 3; T 250, K 25, beta 1, cross-entropy."""
    return Run(
        name="laborieux-cifar10",
        data=CIFAR_10,
        model=ConvNet(
            (3, 32, 32),
            (128, 256, 512, 512),
            kernel_size=3,
            padding=(1, 1, 1, 0),
            dense=(),
            activation="wide_hard_sigmoid",
            dynamics=Prototypical(nudge="inside"),
            cost=CrossEntropyReadout(512, 10),
        ),
        estimator=EquilibriumProp(250, 25, beta=1.0, nudging="centred"),
        optimizer=SGD((0.25, 0.15, 0.1, 0.08, 0.05), momentum=0.9, weight_decay=3e-4),
        schedule=Cosine(),
        epochs=120,
    )


def laborieux_cifar10_small() -> Run:
    """An eighth of the channels; T 40, K 10; five epochs.

    The initial weights are twice PyTorch's: with smaller ones the input fades before it reaches the last layer.
    """
    full = laborieux_cifar10()
    model = replace(full.model, channels=(16, 32, 64, 64), gain=2.0, cost=CrossEntropyReadout(64, 10))
    estimator = EquilibriumProp(40, 10, beta=1.0, nudging="centred")
    return replace(full, name="laborieux-cifar10-small", model=model, estimator=estimator, epochs=5)


RECIPES = {"laborieux-cifar10": laborieux_cifar10, "laborieux-cifar10-small": laborieux_cifar10_small}
