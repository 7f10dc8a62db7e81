"""From a run to a trained model in a folder: what the command line does, for programs."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from warnings import warn

import torch

from eqprop._core.available_memory import check_fits
from eqprop._core.checks import ArgumentError, one_of
from eqprop._core.deprecation import renamed_arguments
from eqprop._core.devices import available_device
from eqprop._core.files import write_atomic
from eqprop.data.batches import Batches
from eqprop.estimators import BPTT
from eqprop.estimators.base import bind_estimator
from eqprop.estimators.ep import NudgedEstimator
from eqprop.estimators.rates import as_rates
from eqprop.models.memory import check_batch_memory, count_bytes, size_argument
from eqprop.models.model import Model
from eqprop.training import checkpoint
from eqprop.training.config.run import Run
from eqprop.training.dataset import Splits, check_classes, fit_to_model, load_splits, training_batches
from eqprop.training.diagnostics import diagnostics_of
from eqprop.training.distributed.processes import SINGLE_PROCESS, Processes
from eqprop.training.environment import environment
from eqprop.training.history import Row
from eqprop.training.progress.callbacks import Callback
from eqprop.training.rng import REST, seeded
from eqprop.training.run_folder import RunFolder
from eqprop.training.trainer import Trainer

__all__ = [
    "PreparedRun",
    "check_training",
    "create_run",
    "load",
    "prepare_data",
    "prepare_run",
    "read_history",
    "read_run",
    "threads",
    "train_run",
]

CHECKED = 1000
"""Samples that are checked for values that the dynamics clip."""

TEST_BATCH = 1000
"""Samples per batch in evaluations (Ernoult et al. 2019, their code)."""


@dataclass(frozen=True)
class PreparedRun:
    """A run with its model and its data, checked; nothing has been written.

    Attributes:
        run: the run.
        model: the model with its initial weights, on the device.
        train: training batches.
        validation: held-out batches, if any.
        test: test batches.
    """

    run: Run
    model: Model
    train: Batches
    validation: Batches | None
    test: Batches

    @property
    def device(self) -> torch.device:
        """Device of the model and the data."""
        return next(self.model.parameters()).device

    @property
    def splits(self) -> Splits:
        """The samples, on the device, for `prepare_run` with another seed."""
        validation = (self.validation.x, self.validation.y) if self.validation is not None else None
        return (self.train.x, self.train.y), validation, (self.test.x, self.test.y)

    def check_input_range(self) -> None:
        """Check that the dynamics clip no sample. New runs must not; old ones go on as they began.

        Raises:
            ArgumentError: if they do.
        """
        x, dynamics = self.train.reshape(self.train.x[:CHECKED]), self.model.dynamics
        clipped = dynamics.clipped_input(self.model.network, x)
        if clipped is None or not (share := clipped.float().mean().item()):
            return
        low, high = (value.item() for value in x.aminmax())
        raise ArgumentError(
            "normalize",
            f"`normalize` gives samples from {low:.2g} to {high:.2g}, of which {type(dynamics).__name__} dynamics clip "
            f"{share:.0%} of the values: leave it out, or use `Prototypical` dynamics",
        )

    def trainer(
        self,
        folder: Path,
        callbacks: Sequence[Callback] = (),
        checkpoint_every: float = 60.0,
        processes: Processes = SINGLE_PROCESS,
    ) -> Trainer:
        """Return the trainer of this run; it trains `model` itself."""
        optimizer = self.run.optimizer.build(self.model)
        size = self.run.data.batch_size  # diagnostics use the first training samples, the same in every epoch
        first = self.train.reshape(self.train.x[:size]), self.train.y[:size]
        return Trainer(
            self.model,
            self.run.estimator,
            optimizer,
            scheduler=self.run.schedule.build(optimizer, self.run.epochs),
            folder=folder,
            seed=self.run.seed,
            callbacks=callbacks,
            checkpoint_every=checkpoint_every,
            config=self.run.to_json(),
            diagnostics=diagnostics_of(self.run, self.model, *first),
            processes=processes,
        )


def prepare_run(
    run: Run,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int | None], None] | None = None,
    *,
    splits: Splits | None = None,
) -> PreparedRun:
    """Build the model, load the data, and check that all parts fit each other.

    Args:
        run: the run.
        device: device of the model and the data.
        progress: called as ``progress(done, total)``, in bytes, if data must be downloaded.
        splits: samples to use in the place of those of ``run.data``.

    Raises:
        ValueError: if the parts do not fit each other, the data set is unknown, or the device is not available.
        FileNotFoundError: if the data cannot be found.
        RuntimeError: if the data are damaged.
    """
    model = run.build().to(available_device(device))
    bind_estimator(run.estimator, model, run.optimizer.build(model))
    if isinstance(run.estimator, NudgedEstimator):
        run.estimator.check_beta(model)
    for steps in run.estimator.phases.values():
        steps.check_dynamics(model.network, model.dynamics)
    return prepare_data(run, model, device, progress, splits=splits)


def prepare_data(
    run: Run,
    model: Model,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int | None], None] | None = None,
    *,
    splits: Splits | None = None,
) -> PreparedRun:
    """Load the data for a model that exists; otherwise as `prepare_run`, without an optimizer."""
    train, validation, test = load_splits(run.data, progress) if splits is None else splits
    batches = training_batches(run.data, run.seed, train, model, device)
    check_classes(run.data.name, model, batches.reshape(batches.x[:1]), batches.y)
    return PreparedRun(
        run,
        model,
        batches,
        Batches(*fit_to_model(validation, model, device), TEST_BATCH, shuffle=False) if validation else None,
        Batches(*fit_to_model(test, model, device), TEST_BATCH, shuffle=False),
    )


def check_training(prepared: PreparedRun) -> None:
    """Check what a new training needs beyond a valid run: inputs that the dynamics do not clip, memory, falling learning rates.

    Raises:
        ArgumentError: if it does not have it.
    """
    run, model = prepared.run, prepared.model
    prepared.check_input_range()
    run.schedule.check_rates(as_rates(run.optimizer.rates))
    if prepared.device.type == "cpu":
        check_fits(size_argument(run.model), count_bytes(model), "the gradients")
    phases = run.estimator.phases.values()
    unrolled = run.estimator.unrolled_steps or next(iter(phases)).steps if isinstance(run.estimator, BPTT) else 0
    samples = min(run.data.batch_size, len(prepared.train.x))
    check_batch_memory("batch_size", model, samples, *phases, states=2 + unrolled)


def create_run(
    run: Run, folder: str | Path, device: torch.device | str = "cpu", processes: Processes = SINGLE_PROCESS
) -> RunFolder:
    """Create a run folder for `train_run`; with several processes, only one calls this.

    ``config.json`` is written last. A process that is killed before leaves a folder that counts as empty: the same call takes it.

    Raises:
        FileExistsError: if the folder is not empty.
        BlockingIOError: if another process is creating a run in it.
        OSError: if it cannot be created or written to; whatever was created is removed.
        ArgumentError: if the device is not available.
    """
    device, place = available_device(device), RunFolder(Path(folder))
    with place.creation():
        place.create()
        with threads(run.threads):
            write_atomic(place.environment, json.dumps(environment(device, processes.size), indent=2) + "\n")
        write_atomic(place.config, run.to_json())
    return place


@renamed_arguments(reports="callbacks")
def train_run(
    folder: str | Path | RunFolder,
    *,
    prepared: PreparedRun | None = None,
    device: torch.device | str | None = None,
    root: str | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint_every: float = 60.0,
    processes: Processes = SINGLE_PROCESS,
) -> list[Row]:
    """Start the run of a folder, or resume it where it was interrupted.

    Args:
        folder: made by `create_run`.
        prepared: the run of the folder from `prepare_run`, not trained yet, to save building it again; with it ``device`` and
            ``root`` are not used.
        device: where to train; None for the kind of device that the run began on.
        root: folder to search for the data first; it is not part of the run's file.
        callbacks: called after batches and epochs.
        checkpoint_every: seconds between checkpoints within an epoch.
        processes: the processes that train together. All of them call this and must be able to read the folder. See
            `eqprop.training.distributed.gloo` for how far the result is that of one process.

    Returns:
        One row per epoch, as in ``metrics.jsonl``.

    Raises:
        FileNotFoundError: if the folder holds no run.
        ValueError: if the run is finished, or its file is not valid or not the one that it began with.
        Exception: others as `prepare_run` and `Trainer.fit`.
    """
    place = RunFolder.of(folder)
    run = place.run
    if place.is_finished():
        raise ValueError(f"{place.path} is finished: all {run.epochs} epochs are done; train in another folder")
    if prepared is not None:
        device = prepared.device
    elif device is None:
        device = initial_device(place)
    has_started = processes.broadcast(place.has_started)
    if has_started and processes.is_rank0:
        with threads(run.threads):
            warn_if_environment_changed(place, device, processes)
    if prepared is None:
        prepared = prepare_run(replace(run, data=replace(run.data, root=root)), device)
    if not has_started:
        check_training(prepared)
    trainer = prepared.trainer(place.path, callbacks, checkpoint_every, processes)
    train = trainer.resume if has_started else trainer.fit
    with threads(run.threads), seeded(run.seed, REST):
        return train(prepared.train, run.epochs, validation=prepared.validation, test=prepared.test)


def initial_device(folder: str | Path | RunFolder) -> str:
    """Return the kind of device that a run began on: "cuda" or "cpu".

    Raises:
        ArgumentError: if it began on a GPU and this machine has none.
    """
    place = RunFolder.of(folder)
    gpu = place.read_environment().get("gpu")
    if gpu and not torch.cuda.is_available():
        raise ArgumentError(
            "device", f"{place.path} began on a GPU ({gpu}), and PyTorch finds none here: continue with --device cpu"
        )
    return "cuda" if gpu else "cpu"


def warn_if_environment_changed(
    place: RunFolder, device: torch.device | str, processes: Processes = SINGLE_PROCESS
) -> None:
    """Warn if a run is resumed with another torch, hardware or number of processes, and record them in its file."""
    then, now = place.read_environment(), environment(device, processes.size)
    before = {"processes": 1} | then  # files of early versions do not have it
    if changed := [name for name in ("torch", "cpu", "gpu", "processes") if before.get(name) != now[name]]:
        differ = ", ".join(f"{name} {now[name]}, not {before.get(name)}" for name in changed)
        warn(
            f"{place.path} is resumed with {differ}: results can differ in the last bits from an uninterrupted run",
            stacklevel=4,
        )
        then["resumed_on"] = [*then.get("resumed_on", []), now]
        write_atomic(place.environment, json.dumps(then, indent=2) + "\n")


def read_history(folder: str | Path | RunFolder) -> list[Row]:
    """Return the rows of a run folder, one per epoch; none if training has not started.

    Raises:
        DamagedError: if its checkpoint or its metrics are damaged.
    """
    place = RunFolder.of(folder)
    return place.rows(at_least=place.epochs_done() if place.has_started else 0)


def read_run(folder: str | Path | RunFolder) -> Run:
    """Return the run of a folder.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if its file is not valid.
    """
    return RunFolder.of(folder).run


def load(folder: str | Path | RunFolder, which: Literal["last", "best"] = "last") -> Model:
    """Return the trained model of a run folder, on the CPU.

    Args:
        folder: folder of a training.
        which: "last" for the weights of the last checkpoint, "best" for those of the epoch with the lowest validation error
            (training error without a validation set).

    Raises:
        FileNotFoundError: if the folder holds no run, or no weights yet.
        ValueError: if a file is damaged or not valid.
    """
    place = RunFolder.of(folder)
    path = {"last": place.last, "best": place.best}[one_of("which", which, ("last", "best"))]
    model = place.run.build()
    tensors, facts = checkpoint.read(path)
    place.check_config(facts, path)
    checkpoint.load_weights(model, tensors, path)
    return model


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Set the number of CPU threads of torch, and restore it at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
