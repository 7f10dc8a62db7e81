"""Training recipe of Vinayak and Srinivasan (2025): Hopfield-ResNet13 on CIFAR-10.

"Scaling Equilibrium Propagation to Deeper Neural Network Architectures": eight convolutions, every second one strided, four skip
connections, no pooling, ReLU6. Updates are synchronous, because an even-odd schedule would update both ends of a skip connection in
the same group, and the energy could rise. The paper clips the gradient norm at 1 and uses Nesterov momentum; the recipe does
neither. The paper does not give the scale of the initial weights. ``resnet13-cifar10-small`` is for two cores and for tests.
"""

from dataclasses import replace

from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import EquilibriumProp
from eqprop.models.convnet import ConvNet
from eqprop.papers.laborieux2021.recipes import CIFAR_10
from eqprop.papers.published_results import Published
from eqprop.training.config.optimizers import SGD
from eqprop.training.config.run import Run
from eqprop.training.config.schedules import Cosine

__all__ = ["PUBLISHED", "RECIPES"]

_CLIPPED = "published with the gradient norm clipped at 1 and Nesterov momentum, which the recipe does not use"

PUBLISHED = (Published("resnet13-cifar10", "EP", 6.08, None, None, "Vinayak and Srinivasan 2025", _CLIPPED),)
"""Error on CIFAR-10."""


def resnet13_cifar10() -> Run:
    """13 connections; T 120, K 50, beta 0.1; 300 epochs."""
    return Run(
        name="resnet13-cifar10",
        data=CIFAR_10,
        model=ConvNet(
            (3, 32, 32),
            (128, 128, 256, 256, 512, 512, 512, 512),
            kernel_size=3,
            padding=1,
            stride=(1, 2, 1, 2, 1, 2, 1, 2),
            pool=None,
            skips=((0, 2), (2, 4), (4, 6), (6, 8)),
            gain=0.5,
            activation="relu6",
            output_activation="identity",
            dynamics=Prototypical(nudge="inside"),
        ),
        estimator=EquilibriumProp(120, 50, beta=0.1, nudging="centred"),
        optimizer=SGD(0.03, momentum=0.9, weight_decay=2.5e-4),
        schedule=Cosine(),
        epochs=300,
    )


def resnet13_cifar10_small() -> Run:
    """An eighth of the channels; T 40, K 15; five epochs."""
    full = resnet13_cifar10()
    model = replace(full.model, channels=(16, 16, 32, 32, 64, 64, 64, 64))
    estimator = EquilibriumProp(40, 15, beta=0.1, nudging="centred")
    return replace(full, name="resnet13-cifar10-small", model=model, estimator=estimator, epochs=5)


RECIPES = {"resnet13-cifar10": resnet13_cifar10, "resnet13-cifar10-small": resnet13_cifar10_small}
