"""A run: everything that decides what a training does, in one frozen object that a file carries whole."""

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from eqprop._core.checks import instance, non_negative_int, positive_int
from eqprop._core.deprecation import renamed_arguments
from eqprop._core.fields import LATER, LOCAL
from eqprop.costs import CrossEntropyReadout, SquaredError
from eqprop.data.augmentation import Augment, Normalize
from eqprop.dynamics.energy import EnergyDescent
from eqprop.dynamics.noisy import Noisy
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import BPTT, ContinualEP, ContinualSGD, EquilibriumProp, ImplicitDiff
from eqprop.models.convnet import ConvNet
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

__all__ = ["Data", "Run", "same_config"]

ModelSpec: TypeAlias = MLP | ConvNet | Toy
EstimatorSpec: TypeAlias = EquilibriumProp | ContinualEP | ContinualSGD | BPTT | ImplicitDiff
OptimizerChoice: TypeAlias = SGD | Adam | AdamW | QuantizedSGD
ScheduleSpec: TypeAlias = Constant | Cosine | StepDecay


@renamed_arguments(normalise="normalize")
@dataclass(frozen=True)
class Data:
    """Which samples, and how they come.

    Args:
        name: of the data set: "digits", "mnist", "fashion-mnist" or "cifar-10".
        batch_size: samples in a training batch; the last, smaller one of an epoch is kept.
        validation: training samples held out, the same ones for every seed, to choose settings by; 0 for none.
        root: a folder to look for the data in first; not written to files.
        normalize: what is taken off all samples, and what they are divided by, as 0.13:0.31, or a number a channel as
            0.49,0.48,0.45:0.2,0.2,0.2; None leaves pixels from 0 to 1.
        augment: how training images are varied, as pad:4 (moved by up to 4 pixels, the border black), edge:4 (the border
            repeats the edge), flip (half of them mirrored), or pad:4,flip; None leaves them as they are.

    Raises:
        ValueError: if a number is not a whole one in its range, or a part is of another class.

    >>> Data("mnist").batch_size
    20
    """

    name: str
    batch_size: int = 20
    validation: int = 0
    root: str | None = field(default=None, metadata={LOCAL: True})
    normalize: Normalize | None = field(default=None, metadata={LATER: True})
    augment: Augment | None = field(default=None, metadata={LATER: True})

    def __post_init__(self) -> None:
        instance("name", self.name, str)
        positive_int("batch_size", self.batch_size)
        non_negative_int("validation", self.validation)
        if self.normalize is not None:
            instance("normalize", self.normalize, Normalize)
        if self.augment is not None:
            instance("augment", self.augment, Augment)


@renamed_arguments(optimiser="optimizer")
@dataclass(frozen=True)
class Run:
    """One training, from the data to the last epoch.

    Args:
        name: of the recipe it came from.
        data: what it learns from.
        model: specification of the network. If it leaves ``settle`` out, tests settle as long as the estimator's free
            phase.
        estimator: where its gradients come from.
        optimizer: what they move, and how far.
        schedule: how the learning rates change over the epochs.
        epochs: passes over the training samples.
        seed: of weights, of the order of samples, and of what the estimator draws.
        threads: of the CPU. Small dense networks gain nothing from more than one. Results are the same to the bit only
            at the same number.

    Raises:
        ValueError: if a part is of a class that a file cannot carry, or a number is not a whole one in its range.

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
            one_of_classes(part, getattr(self, part), classes)
        positive_int("epochs", self.epochs)
        non_negative_int("seed", self.seed)
        positive_int("threads", self.threads, most=1024)
        if isinstance(self.model.dynamics, Spiking) and self.data.normalize is not None:
            raise ValueError(
                f"`normalize` of the data is {self.data.normalize!r}, but spikes carry values from 0 to 1: leave it out"
            )
        self.to_json()  # a part that no file can carry is refused now, not after hours

    @property
    def method(self) -> str:
        """The rule by the name that papers give it: "EP", "C-EP", "VF", "C-VF" (untied weights), "BPTT", "ImplicitDiff"."""
        return self.estimator.rule_name(getattr(self.model, "tied", True))

    @property
    def title(self) -> str:
        """Recipe, method and seed, for people; what spikes is told from its rate twin."""
        spikes = ", spikes" if isinstance(self.model.dynamics, Spiking) else ""
        return f"{self.name}, {self.method}{spikes}, seed {self.seed}"

    def to_json(self) -> str:
        """The run as JSON text; paths are left out."""
        return to_json(self, CONFIG_CLASSES)

    @classmethod
    def from_json(cls, text: str) -> "Run":
        """The run that `to_json` wrote.

        Raises:
            ValueError: if the text is not a run's, or a value is not valid.
        """
        with seeded(0, WEIGHTS):  # a readout that it names draws weights, to be drawn again by `build`
            return instance("run", from_json(text, CONFIG_CLASSES), cls)

    def build(self) -> Model:
        """The model with the weights that this seed draws, on the CPU.

        Raises:
            ValueError: if its parts do not fit each other, or into memory.
        """
        return drawn(self.model, self.seed, self.estimator.free_steps)


def drawn(spec: ModelSpec, seed: int, free_steps: int | Settle) -> Model:
    """The model of a specification, with the weights that a seed draws; it settles as long as a free phase, if it leaves that out.

    Raises:
        ValueError: if its parts do not fit each other, or into memory.
    """
    if isinstance(spec, MLP | ConvNet) and spec.settle is None:
        spec = replace(spec, settle=as_settle("free_steps", free_steps))
    try:
        with seeded(seed, WEIGHTS):
            return spec.build()
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        raise ValueError(f"the model does not fit into memory: {spec}") from None


def same_config(text: str | None, other: str | None) -> bool:
    """Return whether two configurations are equal, or describe equal runs though written by different versions."""
    if text == other or text is None or other is None:
        return text == other
    try:
        return Run.from_json(text).to_json() == Run.from_json(other).to_json()
    except ValueError:  # not configurations of runs
        return False


def one_of_classes(name: str, value: object, classes: tuple[type, ...]) -> None:
    """Raise ValueError unless ``value`` is an object of one of the classes."""
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
"""Every class that a configuration may name."""
