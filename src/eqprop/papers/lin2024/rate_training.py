"""Weights for studies of spiking networks: the rate twin, trained by EP for a while."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from typing import Literal

from torch import Tensor

from eqprop.dynamics.energy import EnergyDescent
from eqprop.estimators import EquilibriumProp
from eqprop.models.convnet import ConvNet
from eqprop.models.model import Model
from eqprop.papers.reproduction.studies import Tell
from eqprop.solvers.settle import as_settle
from eqprop.spiking import Spiking
from eqprop.training.config.optimizers import SGD
from eqprop.training.config.run import CONFIG_CLASSES, Data, Run
from eqprop.training.config.serialization import to_json
from eqprop.training.rng import REST, seeded
from eqprop.training.session import prepare_run, threads

__all__ = ["RateTraining", "Variant", "counter", "of_mnist", "words"]

RATES = {"avg": (0.1, 0.06, 0.03, 0.01), "max": (0.05, 0.03, 0.02, 0.01)}
"""Of each connection, by pooling (found by trying); max pooling bears half as much."""


@dataclass(frozen=True)
class RateTraining:
    """Some batches of a training of the rate twin; its seed decides everything.

    Attributes:
        run: the training, of a convolutional network, whose dynamics have no spikes.
        batches: as many as are taken.
    """

    run: Run
    batches: int

    @property
    def text(self) -> str:
        """What decides the weights, for a key."""
        return f"{self.batches} batches of {self.run.to_json()}"

    @property
    def words(self) -> str:
        """ "480 batches of 50 by EP: T 25, K 10, beta 0.5"."""
        assert isinstance(self.run.estimator, EquilibriumProp)
        return f"{self.batches} batches of {self.run.data.batch_size} by EP: {words(self.run.estimator)}"

    def at(self, root: str | None) -> "RateTraining":
        """The same with a folder to look for the data in first."""
        return replace(self, run=replace(self.run, data=replace(self.run.data, root=root)))

    def first(self, device: str) -> dict[str, Tensor]:
        """The weights that training begins with."""
        return self.run.build().to(device).state_dict()

    def trained(self, device: str, tell: Callable[[int], object] = lambda n: None) -> dict[str, Tensor]:
        """The weights after the training, told ``1`` of each batch; done once in a process."""
        with seeded(self.run.seed, REST), threads(self.run.threads):
            return weights(self, device, Told(tell))

    def samples(self, size: int, number: int, device: str) -> list[tuple[Tensor, Tensor]]:
        """Batches of test images that the training has not seen."""
        test = prepare_run(self.run, device).test
        return [(test.x[n * size : (n + 1) * size], test.y[n * size : (n + 1) * size]) for n in range(number)]


@dataclass(frozen=True)
class Told:
    """Whom to tell of each batch: no part of what a training is remembered by."""

    tell: Callable[[int], object] = field(compare=False)


@cache
def weights(training: RateTraining, device: str, told: Told) -> dict[str, Tensor]:
    """See `RateTraining.trained`."""
    session = prepare_run(training.run, device)
    model, estimator = session.model, training.run.estimator
    optimizer = training.run.optimizer.build(model)
    for x, y in islice(session.train, training.batches):
        for loss in estimator(model, x, y):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        told.tell(1)
    return {name: p.detach().clone() for name, p in model.state_dict().items()}


@dataclass(frozen=True)
class Variant:
    """A spiking network with the weights of a rate twin.

    Attributes:
        pool: its pooling, by which the training is found.
        dynamics: how it spikes.
    """

    pool: Literal["avg", "max"]
    dynamics: Spiking

    @property
    def text(self) -> str:
        """What decides it, for a key."""
        return f"{self.pool}, {to_json(self.dynamics, CONFIG_CLASSES)}"

    def build(self, training: RateTraining, found: dict[str, Tensor]) -> Model:
        """The model with these weights."""
        model = replace(training.run.model, dynamics=self.dynamics).build()
        device = next(iter(found.values())).device
        model.to(device).load_state_dict(found)
        return model


def of_mnist(pool: Literal["avg", "max"], batches: int = 480) -> RateTraining:
    """1-8C5-P2-16C5-P2-64-10 on so many batches of 50 images, T 25, K 10, beta 0.5, momentum 0.9."""
    model = ConvNet((1, 28, 28), (8, 16), pool=pool, dense=(64, 10), dynamics=EnergyDescent(dt=0.5))
    rates = SGD(RATES[pool], momentum=0.9)
    run = Run("rate-twin", Data("mnist", 50), model, EquilibriumProp(25, 10, 0.5, "centred"), rates, epochs=1)
    return RateTraining(run, batches)


def words(estimator: EquilibriumProp) -> str:
    """ "T 100, K 50, beta 0.5"."""
    free, nudged = (as_settle("steps", steps).steps for steps in (estimator.free_steps, estimator.nudged_steps))
    return f"T {free}, K {nudged}, beta {estimator.beta:g}"


def counter(tell: Tell, total: int) -> Callable[[int], None]:
    """A function to be told of so much more that is done, which tells of all of it."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        tell(min(done, total), total)

    return count
