"""What the studies of spiking networks share: networks, and weights from a short training of their rate model by EP."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from typing import Any, Literal

from torch import Tensor

from eqprop.dynamics.energy import EnergyDescent
from eqprop.estimators import EquilibriumProp
from eqprop.models.convnet import ConvNet
from eqprop.models.model import Model
from eqprop.papers.reproduction.studies import Progress, Study
from eqprop.solvers.settle import as_settle
from eqprop.spiking import Spiking
from eqprop.training.config.optimizers import SGD
from eqprop.training.config.run import CONFIG_CLASSES, Data, Run
from eqprop.training.config.serialization import to_json
from eqprop.training.rng import REST, seeded
from eqprop.training.session import prepare_data, prepare_run, threads

__all__ = ["RateTraining", "SpikingStudy", "Variant", "count_progress", "describe_phases", "mnist_training"]

_RATES = {"avg": (0.1, 0.06, 0.03, 0.01), "max": (0.05, 0.03, 0.02, 0.01)}
"""Learning rate of each connection by pooling, found by trial; training with max pooling diverges at larger ones."""


@dataclass(frozen=True)
class RateTraining:
    """The first batches of a training of a rate model; the run's seed determines the result.

    Attributes:
        run: the training, of a convolutional network without spikes.
        batches: number of batches.
    """

    run: Run
    batches: int

    @property
    def key(self) -> str:
        """Everything that determines the weights."""
        return f"{self.batches} batches of {self.run.to_json()}"

    @property
    def description(self) -> str:
        """Short description: "480 batches of 50 by EP: T 25, K 10, beta 0.5"."""
        assert isinstance(self.run.estimator, EquilibriumProp)
        return f"{self.batches} batches of {self.run.data.batch_size} by EP: {describe_phases(self.run.estimator)}"

    def with_root(self, root: str | None) -> "RateTraining":
        """Return the training with a folder in which to look for the data first."""
        return replace(self, run=replace(self.run, data=replace(self.run.data, root=root)))

    def initial_weights(self, device: str) -> dict[str, Tensor]:
        """Return the state dict before training."""
        return self.run.build().to(device).state_dict()

    def trained_weights(self, device: str, count: Callable[[int], object] = lambda n: None) -> dict[str, Tensor]:
        """Return the state dict after training; a process trains only once.

        Args:
            device: where to train.
            count: called with 1 after each batch.
        """
        with seeded(self.run.seed, REST), threads(self.run.threads):
            return _train(self, device, _Counter(count))

    def test_batches(self, size: int, number: int, device: str) -> list[tuple[Tensor, Tensor]]:
        """Return the first ``number`` batches of ``size`` test images."""
        test = prepare_data(self.run, self.run.build().to(device), device).test
        return [(test.x[n * size : (n + 1) * size], test.y[n * size : (n + 1) * size]) for n in range(number)]


@dataclass(frozen=True)
class _Counter:
    # A callback that all compare equal, so that the cache below ignores it.
    count: Callable[[int], object] = field(compare=False)


@cache
def _train(training: RateTraining, device: str, counter: _Counter) -> dict[str, Tensor]:
    session = prepare_run(training.run, device)
    model, estimator = session.model, training.run.estimator
    optimizer = training.run.optimizer.build(model)
    for x, y in islice(session.train, training.batches):
        for loss in estimator(model, x, y):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        counter.count(1)
    return {name: p.detach().clone() for name, p in model.state_dict().items()}


@dataclass(frozen=True)
class Variant:
    """A spiking network that takes its weights from a rate model.

    Attributes:
        pool: pooling, which selects the training.
        dynamics: spiking dynamics.
    """

    pool: Literal["avg", "max"]
    dynamics: Spiking

    @property
    def key(self) -> str:
        """Everything that determines the network."""
        return f"{self.pool}, {to_json(self.dynamics, CONFIG_CLASSES)}"

    def build(self, training: RateTraining, weights: dict[str, Tensor]) -> Model:
        """Return the model with these weights, on their device."""
        model = replace(training.run.model, dynamics=self.dynamics).build()
        device = next(iter(weights.values())).device
        model.to(device).load_state_dict(weights)
        return model


Cell = tuple[str, str, Variant, Literal["initial", "trained"]]
"""A network to measure: group and label in the result, the network, and which weights it has."""


@dataclass(frozen=True)
class SpikingStudy(Study):
    """Measurements of several spiking networks on test images.

    Attributes:
        trainings: for each pooling, the training of the rate model that provides the weights.
    """

    trainings: Mapping[str, RateTraining]

    @property
    def training(self) -> RateTraining:
        """The first training; all of them share data and phases."""
        return next(iter(self.trainings.values()))

    @property
    def key(self) -> list[str]:
        """The trainings, the networks and the sizes."""
        trained = [f"{pool}: {training.key}" for pool, training in self.trainings.items()]
        variants = dict.fromkeys(f"{label}: {variant.key}" for _, label, variant, _ in self.cells())
        return [*trained, *variants, *self.settings]

    @property
    @abstractmethod
    def settings(self) -> list[str]:
        """The part of the key that describes what is measured."""

    @property
    @abstractmethod
    def batches_and_size(self) -> tuple[int, int]:
        """Number of test batches, and images in each."""

    @property
    @abstractmethod
    def cost(self) -> int:
        """Work for one network, in batches of a training; for the progress only."""

    @abstractmethod
    def cells(self) -> list[Cell]:
        """Return the networks to measure."""

    @abstractmethod
    def measure(
        self, model: Model, batches: list[tuple[Tensor, Tensor]], count: Callable[[int], None] = lambda n: None
    ) -> dict[str, Any]:
        """Return the measurements of one network; ``count`` is called with the work done since the last call."""

    def compute(self, device: str, root: str | None, progress: Progress) -> dict[str, Any]:
        """Return the measurements by group and label."""
        trainings = {pool: training.with_root(root) for pool, training in self.trainings.items()}
        cells, (number, size) = self.cells(), self.batches_and_size
        total = self.cost * len(cells) + sum(training.batches for training in trainings.values())
        count = count_progress(progress, total)
        found: dict[str, Any] = {}
        for group, label, variant, which in cells:
            training = trainings[variant.pool]
            first = which == "initial"
            weights = training.initial_weights(device) if first else training.trained_weights(device, count)
            model, batches = variant.build(training, weights), training.test_batches(size, number, device)
            with seeded(training.run.seed, REST), threads(training.run.threads):
                found.setdefault(group, {})[label] = self.measure(model, batches, count)
        return found


def mnist_training(pool: Literal["avg", "max"], batches: int = 480) -> RateTraining:
    """Return a training of 1-8C5-P2-16C5-P2-64-10 on batches of 50 images; T 25, K 10, beta 0.5, momentum 0.9."""
    model = ConvNet((1, 28, 28), (8, 16), pool=pool, dense=(64, 10), dynamics=EnergyDescent(dt=0.5))
    optimizer = SGD(_RATES[pool], momentum=0.9)
    # the name is part of the keys of recorded results
    run = Run("rate-twin", Data("mnist", 50), model, EquilibriumProp(25, 10, 0.5, "centred"), optimizer, epochs=1)
    return RateTraining(run, batches)


def describe_phases(estimator: EquilibriumProp) -> str:
    """Return "T 100, K 50, beta 0.5"."""
    free, nudged = (as_settle("steps", steps).steps for steps in (estimator.free_steps, estimator.nudged_steps))
    return f"T {free}, K {nudged}, beta {estimator.beta:g}"


def count_progress(progress: Progress, total: int) -> Callable[[int], None]:
    """Return a function that adds up the work passed to it and reports the sum to ``progress``."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(min(done, total), total)

    return count
