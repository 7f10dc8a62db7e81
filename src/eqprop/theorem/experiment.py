"""The specification of a check of the theorem, which a JSON file can store."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError, instance, non_negative, non_negative_int, one_of, positive_int
from eqprop.data.locations import check_root
from eqprop.estimators import ContinualEP, ContinualSGD, EquilibriumProp
from eqprop.estimators.rates import as_rates
from eqprop.models.memory import check_batch_memory
from eqprop.models.model import Model
from eqprop.solvers.schedules import Synchronous
from eqprop.solvers.settle import Settle, as_settle
from eqprop.theorem.gdu import BackwardPass, Progress, as_plain_steps, run_backward
from eqprop.training.config.run import CONFIG_CLASSES, MODELS, Data, ModelSpec, Run, build_model, check_class
from eqprop.training.config.serialization import from_json, to_json
from eqprop.training.dataset import check_classes, load_splits, training_batches
from eqprop.training.rng import BATCH, WEIGHTS, generator, seeded

__all__ = ["RANDOM", "Experiment", "synchronous_equivalent"]

NUDGED = ("free_steps", "nudged_steps", "beta", "nudging")
"""Fields that every estimator with nudged phases has."""

RANDOM = "random"
"""Name of the data set whose inputs are drawn from U[0, 1], with one random class for the whole batch."""


@dataclass(frozen=True)
class Experiment:
    """Model, batch, phases and nudging of one check of the theorem.

    Args:
        name: name of the recipe.
        data: data set and batch size; the first training batch is used. "random" draws inputs and a class, which are neither
            normalized nor augmented.
        model: specification of the network.
        estimator: T, K, beta and nudging of EP or continual EP; "random-sign" counts as "one-sided". Continual EP needs its rates.
            The last states are used, even where a phase averages its last steps.
        dtype: "float32" or "float64".
        seed: seed of weights and batch.
        threads: number of CPU threads.

    Raises:
        ValueError: if a part is of a class that a file cannot store, or a value is out of its range.

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
        for part in ("normalize", "augment", "pad"):
            if self.data.name == RANDOM and (value := getattr(self.data, part)):
                raise ArgumentError(part, f"`{part}` must be left out with {RANDOM} data, got {value!r}")
        check_class("model", self.model, MODELS)
        if not isinstance(self.estimator, EquilibriumProp | ContinualSGD):
            raise ArgumentError(
                "estimator", f"`estimator` must be EquilibriumProp or ContinualSGD, got {self.estimator!r}"
            )
        if isinstance(self.estimator, ContinualSGD) and self.estimator.rates is None:
            raise ArgumentError("rates", "`rates` must be given: a check has no optimizer to take them from")
        for name in ("free_steps", "nudged_steps"):
            as_plain_steps(name, getattr(self.estimator, name), "estimator: ")
        free, nudged = self.phases
        if nudged > free:
            raise ArgumentError("nudged_steps", f"`nudged_steps` must be at most the {free} free steps, got {nudged}")
        if isinstance(nudge := self.estimator.nudged_steps, Settle) and nudge.tol is not None:
            raise ArgumentError(
                "nudged_steps", f"`nudged_steps` must have no tolerance, got {nudge.steps}:{nudge.tol:g}"
            )
        one_of("dtype", self.dtype, ("float32", "float64"))
        non_negative_int("seed", self.seed)
        positive_int("threads", self.threads, most=1024)
        self.to_json()  # raises now if a part cannot be stored

    @classmethod
    def from_run(cls, run: Run) -> "Experiment":
        """Return the check of a training's own model and phases, on its first batch.

        The theorem assumes synchronous plain steps. Each asynchronous sweep is replaced by two synchronous steps, which do the same
        work in a layered network. Accelerated steps are replaced by as many plain ones, which may not reach the steady state; the
        check measures whether they do.

        Raises:
            ValueError: if the run does not train by EP.
        """
        estimator = run.estimator
        if isinstance(estimator, ContinualEP) or (isinstance(estimator, ContinualSGD) and estimator.rates is None):
            free, nudged, beta, nudging = (getattr(estimator, name) for name in NUDGED)
            estimator = ContinualSGD(free, nudged, beta, run.optimizer.rates, nudging)
        if not isinstance(estimator, EquilibriumProp | ContinualSGD):
            raise ArgumentError(
                "estimator", f"a check needs a run by EP, this run trains by {type(estimator).__name__}"
            )
        phases = {name: synchronous_equivalent(getattr(estimator, name)) for name in ("free_steps", "nudged_steps")}
        estimator = replace(estimator, **phases)
        return cls(run.name, run.data, run.model, estimator, seed=run.seed, threads=run.threads)

    @property
    def phases(self) -> tuple[int, int]:
        """T and K."""
        estimator = self.estimator
        return as_settle("free_steps", estimator.free_steps).steps, as_settle("nudged", estimator.nudged_steps).steps

    @property
    def nudging(self) -> Literal["one-sided", "centred"]:
        """The nudging of the check; "random-sign" counts as "one-sided"."""
        return "centred" if self.estimator.nudging == "centred" else "one-sided"

    @property
    def rates(self) -> tuple[float, ...] | None:
        """Learning rates inside the nudged phase; None for fixed weights."""
        rates = self.estimator.rates if isinstance(self.estimator, ContinualSGD) else None
        return None if rates is None else as_rates(rates, non_negative)

    def to_json(self) -> str:
        """Return the experiment as JSON text, without paths."""
        return to_json(self, (Experiment, *CONFIG_CLASSES))

    @classmethod
    def from_json(cls, text: str) -> "Experiment":
        """Return the experiment that `to_json` wrote.

        Raises:
            ValueError: if the text is not that of an experiment, or a value is invalid.
        """
        with seeded(0, WEIGHTS):  # constructing a readout draws weights, which `build` draws again from the seed
            return instance("experiment", from_json(text, (Experiment, *CONFIG_CLASSES)), cls)

    def build(self, device: torch.device | str = "cpu") -> Model:
        """Return the model with weights drawn from the seed; the same in both precisions, up to rounding."""
        model = build_model(self.model, self.seed, self.estimator.free_steps)
        model = self.cast(model, device)
        model.check_beta(self.estimator.beta, both_signs=self.nudging == "centred", warn=False)
        return model

    def cast(self, model: Model, device: torch.device | str = "cpu") -> Model:
        """Convert a model to this experiment's dtype."""
        return model.to(device=device, dtype=getattr(torch, self.dtype))

    def batch(self, model: Model, progress: Callable[[int, int | None], None] | None = None) -> tuple[Tensor, Tensor]:
        """Return inputs and targets, on the model's device and in its dtype.

        Raises:
            ValueError, FileNotFoundError, DataError: if the data do not fit the model, or cannot be loaded.
        """
        like = next(model.parameters())
        if self.data.name == RANDOM:
            check_root(self.data.root)
            check_batch_memory("batch_size", model, self.data.batch_size, states=2 + self.phases[1])
            x, y = _random_batch(model, self.data.batch_size, self.seed)
        else:
            train, *_ = load_splits(self.data, progress)
            batches = training_batches(self.data, self.seed, train, model, "cpu")
            check_classes(self.data.name, model, batches.reshape(batches.x[:1]).to(like), batches.y)
            x, y = next(iter(batches))
        return x.to(like), y.to(like.device)

    def run_backward(self, model: Model, x: Tensor, y: Tensor, progress: Progress | None = None) -> BackwardPass:
        """Run the free phase and BPTT over its last steps."""
        return run_backward(model, x, y, self.estimator.free_steps, self.phases[1], progress=progress)


def synchronous_equivalent(steps: int | Settle) -> int | Settle:
    """Replace each asynchronous sweep by two synchronous steps, and drop an acceleration."""
    if not isinstance(steps, Settle):
        return steps
    steps = replace(steps, accelerate=None)
    return steps if steps.schedule == Synchronous() else replace(steps, steps=2 * steps.steps, schedule=Synchronous())


def _random_batch(model: Model, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw inputs from U[0, 1], and one class for all of them (toy figure of Ernoult et al. 2019)."""
    source = generator(seed, BATCH)
    x = torch.rand(size, *model.network.populations[0].shape, generator=source)
    classes = model.cost.width(model.network.populations[-1].shape)
    return x, torch.randint(classes, (1,), generator=source).expand(size)
