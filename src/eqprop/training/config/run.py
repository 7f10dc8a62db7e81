"""A run: everything that determines the result of a training, as one frozen object that a file can store."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from eqprop._core.available_memory import is_out_of_memory
from eqprop._core.checks import ArgumentError, instance, non_negative_int, positive_int
from eqprop._core.deprecation import renamed_arguments
from eqprop._core.fields import LATER, LOCAL
from eqprop.costs import CrossEntropyReadout, SquaredError
from eqprop.data.augmentation import Augment, Normalize
from eqprop.dynamics.energy import EnergyDescent
from eqprop.dynamics.noisy import Noisy
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import BPTT, ContinualEP, ContinualSGD, EquilibriumProp, ImplicitDiff
from eqprop.models.convnet import ConvNet
from eqprop.models.memory import check_weights_memory, size_argument
from eqprop.models.mlp import MLP
from eqprop.models.model import Model
from eqprop.models.toy import Toy
from eqprop.solvers.anderson import Anderson
from eqprop.solvers.schedules import Asynchronous, Synchronous
from eqprop.solvers.settle import Settle, as_settle
from eqprop.spiking import OSA, Bernoulli, Decay, SigmaDelta, Spiking
from eqprop.training.config.optimizers import SGD, Adam, AdamW
from eqprop.training.config.quantized import QuantizedSGD
from eqprop.training.config.schedules import Constant, Cosine, StepDecay
from eqprop.training.config.serialization import from_json, to_json
from eqprop.training.rng import WEIGHTS, seeded

__all__ = ["Data", "Run", "first_difference", "same_config"]

ModelSpec: TypeAlias = MLP | ConvNet | Toy
EstimatorSpec: TypeAlias = EquilibriumProp | ContinualEP | ContinualSGD | BPTT | ImplicitDiff
OptimizerChoice: TypeAlias = SGD | Adam | AdamW | QuantizedSGD
ScheduleSpec: TypeAlias = Constant | Cosine | StepDecay


SMALLEST_SPAN = 0.05
"""Smallest difference between normalized white and black pixels. Constants for pixels from 0 to 255 leave about 0.01."""


@renamed_arguments(normalise="normalize")
@dataclass(frozen=True)
class Data:
    """A data set and its batches.

    Args:
        name: name of the data set: "digits", "mnist", "fashion-mnist" or "cifar-10".
        batch_size: samples per training batch; the last batch of an epoch may be smaller.
        validation: number of training samples held out for validation, the same for every seed; 0 for none.
        root: folder to search for the data first; not written to files.
        normalize: mean and standard deviation, as 0.13:0.31, or one number per channel, as 0.49,0.48,0.45:0.2,0.2,0.2; None
            leaves pixels in [0, 1].
        augment: augmentation of training images: pad:4 (shift by up to 4 pixels, black border), edge:4 (the border repeats
            the edge), flip (mirror half of them), or pad:4,flip; None for no augmentation.
        pad: width of a border of black pixels around every image, training and test. It is added before the normalization,
            so it has the value of a black pixel after it; the zero padding of a convolution has the value of a gray one.

    Raises:
        ValueError: if a number is out of its range, or a part has the wrong class.

    >>> Data("mnist").batch_size
    20
    """

    name: str
    batch_size: int = 20
    validation: int = 0
    root: str | None = field(default=None, metadata={LOCAL: True})
    normalize: Normalize | None = field(default=None, metadata={LATER: True})
    augment: Augment | None = field(default=None, metadata={LATER: True})
    pad: int = field(default=0, metadata={LATER: True})

    def __post_init__(self) -> None:
        instance("name", self.name, str)
        positive_int("batch_size", self.batch_size)
        non_negative_int("validation", self.validation)
        if self.normalize is not None:
            instance("normalize", self.normalize, Normalize)
            if self.normalize.span < SMALLEST_SPAN:
                raise ArgumentError(
                    "normalize",
                    f"`normalize` divides pixels from 0 to 1 by {1 / self.normalize.span:g}, which leaves little of them: "
                    "divide constants for pixels from 0 to 255 by 255",
                )
        if self.augment is not None:
            instance("augment", self.augment, Augment)
        non_negative_int("pad", self.pad)


@renamed_arguments(optimiser="optimizer")
@dataclass(frozen=True)
class Run:
    """Configuration of one training, from the data to the last epoch.

    Args:
        name: name of the recipe.
        data: data set and batches.
        model: specification of the network. Without ``settle``, evaluations use the settling steps of the estimator's free
            phase.
        estimator: computes the gradients.
        optimizer: optimizer and learning rates.
        schedule: learning-rate schedule over the epochs.
        epochs: passes over the training samples.
        seed: seed of the weights, of the order of samples, and of random numbers of the estimator.
        threads: CPU threads. Small dense networks gain nothing from more than one. Results are bit-identical only for the
            same number.

    Raises:
        ValueError: if a part has a class that a file cannot store, or a number is out of its range.

    >>> from eqprop import MLP, EquilibriumProp
    >>> run = Run("mine", Data("digits"), MLP((64, 10)), EquilibriumProp(20, 10, 0.1), SGD(0.1), epochs=2)
    >>> Run.from_json(run.to_json()) == run
    True
    """

    name: str
    data: Data
    model: ModelSpec
    estimator: EstimatorSpec
    optimizer: OptimizerChoice
    schedule: ScheduleSpec = field(default_factory=Constant)
    epochs: int = 30
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        instance("name", self.name, str)
        instance("data", self.data, Data)
        for part, classes in (
            ("model", MODELS),
            ("estimator", ESTIMATORS),
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
        ):
            check_class(part, getattr(self, part), classes)
        positive_int("epochs", self.epochs)
        non_negative_int("seed", self.seed)
        positive_int("threads", self.threads, most=1024)
        if self.model.dynamics.spiking and self.data.normalize is not None:
            raise ValueError(
                f"`normalize` of the data is {self.data.normalize!r}, but spikes carry values from 0 to 1: leave it out"
            )
        self.to_json()  # refuse now, not after hours, what a file cannot store

    @property
    def method(self) -> str:
        """Name of the learning rule in the papers: "EP", "C-EP", "VF", "C-VF" (untied weights), "BPTT", "ImplicitDiff"."""
        return self.estimator.rule_name(getattr(self.model, "tied", True))

    @property
    def title(self) -> str:
        """Recipe, method and seed, for titles; marks networks that spike."""
        spikes = ", spikes" if self.model.dynamics.spiking else ""
        return f"{self.name}, {self.method}{spikes}, seed {self.seed}"

    def to_json(self) -> str:
        """Return the run as JSON text, without paths."""
        return to_json(self, CONFIG_CLASSES)

    @classmethod
    def from_json(cls, text: str) -> "Run":
        """Return the run that `to_json` wrote.

        Raises:
            ValueError: if the text does not describe a run, or a value is not valid.
        """
        with seeded(0, WEIGHTS):  # creating a readout draws weights, which `build` draws again
            return instance("run", from_json(text, CONFIG_CLASSES), cls)

    def build(self) -> Model:
        """Return the model on the CPU, with weights drawn from the seed.

        Raises:
            ValueError: if its parts do not fit each other, or memory is not sufficient.
        """
        return build_model(self.model, self.seed, self.estimator.free_steps)


def build_model(spec: ModelSpec, seed: int, free_steps: int | Settle) -> Model:
    """Return the model of a specification, with weights drawn from the seed.

    Args:
        spec: the specification.
        seed: seed of the weights.
        free_steps: settling steps of the model if the specification has none.

    Raises:
        ValueError: if its parts do not fit each other, or memory is not sufficient.
    """
    if isinstance(spec, MLP | ConvNet) and spec.settle is None:
        spec = replace(spec, settle=as_settle("free_steps", free_steps))
    with seeded(seed, WEIGHTS):
        check_weights_memory(spec)
    try:
        with seeded(seed, WEIGHTS):
            return spec.build()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        name = size_argument(spec)
        raise ArgumentError(
            name, f"`{name}` is too large: the model does not fit into memory: make it smaller"
        ) from None


def same_config(text: str | None, other: str | None) -> bool:
    """Return whether two configurations are equal, or describe equal runs though written by different versions."""
    if text == other or text is None or other is None:
        return text == other
    try:
        return Run.from_json(text).to_json() == Run.from_json(other).to_json()
    except ValueError:  # not configurations of runs
        return False


def first_difference(text: str, other: str) -> str:
    """Return where two configurations differ first, as text to append to a sentence; empty if they cannot be compared."""
    try:
        one, two = (json.loads(Run.from_json(t).to_json()) for t in (text, other))
    except ValueError:
        return ""
    for name, values in _leaves(one, two):
        if values[0] != values[1]:
            return f" ({name}: {values[0]!r}, not {values[1]!r})"
    return ""


def _leaves(one: Any, two: Any, name: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the name and both values of each entry."""
    if isinstance(one, dict) and isinstance(two, dict):
        for key in one | two:
            yield from _leaves(one.get(key), two.get(key), f"{name}.{key}" if name else key)
    else:
        yield name, (one, two)


def check_class(name: str, value: object, classes: tuple[type, ...]) -> None:
    """Raise ArgumentError unless ``value`` is an object of one of the classes."""
    if type(value) not in classes:
        kinds = ", ".join(kind.__name__ for kind in classes)
        raise ValueError(
            f"`{name}` of a run must be an object of class {kinds}, got {value!r}; for others use `Trainer`"
        )


MODELS = (MLP, ConvNet, Toy)
ESTIMATORS = (EquilibriumProp, ContinualEP, ContinualSGD, BPTT, ImplicitDiff)
OPTIMIZERS = (SGD, Adam, AdamW, QuantizedSGD)
SCHEDULES = (Constant, Cosine, StepDecay)
CONFIG_CLASSES = (
    Run, Data, Normalize, Augment, *MODELS, *ESTIMATORS, *OPTIMIZERS, *SCHEDULES,
    Prototypical, EnergyDescent, Noisy, Spiking, SigmaDelta, Bernoulli, Decay, OSA,
    SquaredError, CrossEntropyReadout, Settle, Synchronous, Asynchronous, Anderson,
)  # fmt: skip
"""Classes that a configuration may contain."""
