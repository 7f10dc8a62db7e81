"""An experiment: everything that decides what a check of the theorem finds, in one frozen object that a file carries whole."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from eqprop._core.checks import instance, non_negative, non_negative_int, one_of, positive_int
from eqprop.estimators import ContinualEP, ContinualSGD, EquilibriumProp
from eqprop.estimators.rates import as_rates
from eqprop.models.model import Model
from eqprop.solvers.schedules import Synchronous
from eqprop.solvers.settle import Settle, as_settle
from eqprop.theorem.gdu import Backward, Progress, backward, synchronous
from eqprop.training.config.run import CONFIG_CLASSES, MODELS, Data, ModelSpec, Run, drawn, one_of_classes
from eqprop.training.config.serialization import from_json, to_json
from eqprop.training.dataset import check_classes, load_splits, training_batches
from eqprop.training.rng import BATCH, WEIGHTS, generator, seeded

__all__ = ["RANDOM", "Experiment", "in_step"]

NUDGED = ("free_steps", "nudged_steps", "beta", "nudging")
"""What every estimator has that nudges."""

RANDOM = "random"
"""In the place of a data set's name: inputs drawn from U[0, 1], and one class for the whole batch, drawn too."""


@dataclass(frozen=True)
class Experiment:
    """One check: which model, which batch, how long, how strongly nudged.

    Args:
        name: of the recipe it came from.
        data: the data set, whose first training batch is taken, and the batch's size; "random" draws inputs and a class, which
            are neither normalized nor augmented.
        model: specification of the network.
        estimator: T, K, beta and nudging of EP or continual EP; "random-sign" counts as "one-sided". Continual EP names its rates.
            The last states are taken, even where a phase asks for means of its last steps.
        dtype: "float32" or "float64".
        seed: of weights and of the batch.
        threads: of the CPU.

    Raises:
        ValueError: if a part is of a class that a file cannot carry, or a value is not in its range.

    >>> from eqprop import MLP, EquilibriumProp
    >>> from eqprop.training import Data
    >>> experiment = Experiment("mine", Data("digits", 5), MLP((64, 10)), EquilibriumProp(20, 10, 0.01))
    >>> Experiment.from_json(experiment.to_json()) == experiment
    True
    """

    name: str
    data: Data
    model: ModelSpec
    estimator: EquilibriumProp | ContinualSGD
    dtype: Literal["float32", "float64"] = "float32"
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        instance("name", self.name, str)
        instance("data", self.data, Data)
        for part in ("normalize", "augment"):
            if self.data.name == RANDOM and getattr(self.data, part) is not None:
                raise ValueError(
                    f"`{part}` must be left out where the batch is {RANDOM}, got {getattr(self.data, part)!r}"
                )
        one_of_classes("model", self.model, MODELS)
        if not isinstance(self.estimator, EquilibriumProp | ContinualSGD):
            raise ValueError(f"`estimator` must be an EquilibriumProp or a ContinualSGD, got {self.estimator!r}")
        if isinstance(self.estimator, ContinualSGD) and self.estimator.rates is None:
            raise ValueError("`rates` is left out: a check has no optimizer to take it from")
        for name in ("free_steps", "nudged_steps"):
            synchronous(name, getattr(self.estimator, name), "estimator: ")
        free, nudged = self.phases
        if nudged > free:
            raise ValueError(f"`nudged_steps` must be at most the {free} free steps, got {nudged}")
        if isinstance(nudge := self.estimator.nudged_steps, Settle) and nudge.tol is not None:
            raise ValueError(f"`nudged_steps` must be a plain number of steps here, got {nudge.steps}:{nudge.tol:g}")
        one_of("dtype", self.dtype, ("float32", "float64"))
        non_negative_int("seed", self.seed)
        positive_int("threads", self.threads, most=1024)
        self.to_json()  # a part that no file can carry is refused now

    @classmethod
    def of_run(cls, run: Run) -> "Experiment":
        """The check of a training's own model and phases, on its first batch.

        The theorem is of synchronous plain steps. For each sweep of an asynchronous schedule there are two, which bring a chain as
        far; for accelerated ones there are as many, which may be too few: what is assumed is measured.

        Raises:
            ValueError: if it does not train by EP.
        """
        estimator = run.estimator
        if isinstance(estimator, ContinualEP) or (isinstance(estimator, ContinualSGD) and estimator.rates is None):
            free, nudged, beta, nudging = (getattr(estimator, name) for name in NUDGED)
            estimator = ContinualSGD(free, nudged, beta, run.optimizer.rates, nudging)
        if not isinstance(estimator, EquilibriumProp | ContinualSGD):
            raise ValueError(f"a check of the theorem needs a run by EP, got one by {type(estimator).__name__}")
        phases = {name: in_step(getattr(estimator, name)) for name in ("free_steps", "nudged_steps")}
        estimator = replace(estimator, **phases)
        return cls(run.name, run.data, run.model, estimator, seed=run.seed, threads=run.threads)

    @property
    def phases(self) -> tuple[int, int]:
        """T and K."""
        estimator = self.estimator
        return as_settle("free_steps", estimator.free_steps).steps, as_settle("nudged", estimator.nudged_steps).steps

    @property
    def nudging(self) -> Literal["one-sided", "centred"]:
        """How the phases are nudged."""
        return "centred" if self.estimator.nudging == "centred" else "one-sided"

    @property
    def rates(self) -> tuple[float, ...] | None:
        """How fast weights move inside the nudged phase; None where they are at rest."""
        rates = self.estimator.rates if isinstance(self.estimator, ContinualSGD) else None
        return None if rates is None else as_rates(rates, non_negative)

    def to_json(self) -> str:
        """The experiment as JSON text; paths are left out."""
        return to_json(self, (Experiment, *CONFIG_CLASSES))

    @classmethod
    def from_json(cls, text: str) -> "Experiment":
        """The experiment that `to_json` wrote.

        Raises:
            ValueError: if the text is not an experiment's, or a value is not valid.
        """
        with seeded(0, WEIGHTS):  # a readout that it names draws weights, to be drawn again by `build`
            return instance("experiment", from_json(text, (Experiment, *CONFIG_CLASSES)), cls)

    def build(self, device: torch.device | str = "cpu") -> Model:
        """The model with the weights that this seed draws; the same in both precisions, up to rounding."""
        model = drawn(self.model, self.seed, self.estimator.free_steps)
        model.dynamics.check_beta(self.estimator.beta)
        return self.cast(model, device)

    def cast(self, model: Model, device: torch.device | str = "cpu") -> Model:
        """A model in this experiment's precision."""
        return model.to(device=device, dtype=getattr(torch, self.dtype))

    def batch(self, model: Model, progress: Callable[[int, int | None], None] | None = None) -> tuple[Tensor, Tensor]:
        """Inputs and targets, on the model's device and in its precision.

        Raises:
            ValueError, FileNotFoundError, DataError: if the data do not fit the model, or are not to be had.
        """
        like = next(model.parameters())
        if self.data.name == RANDOM:
            x, y = drawn_batch(model, self.data.batch_size, self.seed)
        else:
            train, *_ = load_splits(self.data, progress)
            batches = training_batches(self.data, self.seed, train, model, "cpu")
            check_classes(self.data.name, model, batches.shaped(batches.x[:1]).to(like), batches.y)
            x, y = next(iter(batches))
        return x.to(like), y.to(like.device)

    def backward(self, model: Model, x: Tensor, y: Tensor, progress: Progress | None = None) -> Backward:
        """The free phase and BPTT's side."""
        return backward(model, x, y, self.estimator.free_steps, self.phases[1], progress=progress)


def in_step(steps: int | Settle) -> int | Settle:
    """As many synchronous steps as bring a chain as far."""
    if not isinstance(steps, Settle):
        return steps
    steps = replace(steps, accelerate=None)
    return steps if steps.schedule == Synchronous() else replace(steps, steps=2 * steps.steps, schedule=Synchronous())


def drawn_batch(model: Model, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs from U[0, 1], and one class for all of them (the toy figure of Ernoult et al. 2019)."""
    source = generator(seed, BATCH)
    x = torch.rand(size, *model.network.populations[0].shape, generator=source)
    classes = model.cost.width(model.network.populations[-1].shape)
    return x, torch.randint(classes, (1,), generator=source).expand(size)
