"""From a run to a trained model in a folder, and back: what the command line does, for programs too."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from warnings import warn

import torch
from torch import Tensor

from eqprop._core.checks import one_of
from eqprop._core.files import DamagedError, write_atomic
from eqprop.data.batches import Batches
from eqprop.estimators.base import bind_estimator
from eqprop.models.model import Model
from eqprop.training import checkpoint
from eqprop.training.config.run import Run
from eqprop.training.dataset import Splits, check_classes, fit_to_model, load_splits, training_batches
from eqprop.training.diagnostics import combine, diagnostics_of
from eqprop.training.distributed.processes import SINGLE_PROCESS, Processes
from eqprop.training.environment import environment
from eqprop.training.progress.callbacks import Callback
from eqprop.training.rng import REST, seeded
from eqprop.training.run_folder import Row, RunFolder
from eqprop.training.spiking_diagnostics import activity_of
from eqprop.training.trainer import Trainer

__all__ = [
    "Session",
    "begun_on",
    "create_run",
    "is_finished",
    "load",
    "prepare",
    "read_history",
    "read_run",
    "threads",
    "train_run",
]

TEST_BATCH = 1000
"""Samples settled at once in a test (Ernoult et al. 2019, their code)."""


@dataclass(frozen=True)
class Session:
    """A run made ready: everything is checked, nothing is written.

    Attributes:
        run: what is to be done.
        model: with its first weights, on the device.
        train: training batches.
        validation: held-out batches, if any.
        test: test batches.
    """

    run: Run
    model: Model
    train: Batches
    validation: Batches | None
    test: Batches

    def trainer(
        self,
        folder: Path,
        reports: Sequence[Callback] = (),
        checkpoint_every: float = 60.0,
        processes: Processes = SINGLE_PROCESS,
    ) -> Trainer:
        """The trainer of this run."""
        optimizer = self.run.optimizer.build(self.model)
        return Trainer(
            self.model,
            self.run.estimator,
            optimizer,
            scheduler=self.run.schedule.build(optimizer, self.run.epochs),
            folder=folder,
            seed=self.run.seed,
            reports=reports,
            checkpoint_every=checkpoint_every,
            config=self.run.to_json(),
            probe=combine(
                diagnostics_of(self.run, self.model, *self._first_samples()),
                activity_of(self.model, self.run.estimator.free_steps, *self._first_samples()),
            ),
            processes=processes,
        )

    def _first_samples(self) -> tuple[Tensor, Tensor]:
        """A batch that is the same in every epoch."""
        size = self.run.data.batch_size
        return self.train.reshape(self.train.x[:size]), self.train.y[:size]


def prepare(
    run: Run, device: torch.device | str = "cpu", progress: Callable[[int, int | None], None] | None = None
) -> Session:
    """Load the data, draw the weights, and see that all parts fit each other.

    Args:
        run: what is to be trained.
        device: where model and data go.
        progress: called as ``progress(done, total)``, bytes, if data must be downloaded.

    Raises:
        ValueError: if they do not, or the data set is not known.
        FileNotFoundError: if the data are nowhere.
        RuntimeError: if the data are damaged, or the device is not there.
    """
    return prepare_with(run, lambda: load_splits(run.data, progress), device)


def prepare_with(run: Run, parts: Callable[[], Splits], device: torch.device | str) -> Session:
    """`prepare`, with samples that come from elsewhere; asked for when the model has been found sound."""
    model = run.build().to(device)
    bind_estimator(run.estimator, model, run.optimizer.build(model))
    model.dynamics.check_beta(getattr(run.estimator, "beta", 0.0))
    for steps in run.estimator.phases.values():
        steps.check_dynamics(model.network, model.dynamics)
    train, validation, test = parts()
    batches = training_batches(run.data, run.seed, train, model, device)
    check_classes(run.data.name, model, batches.reshape(batches.x[:1]), batches.y)
    return Session(
        run,
        model,
        batches,
        Batches(*fit_to_model(validation, model, device), TEST_BATCH, shuffle=False) if validation else None,
        Batches(*fit_to_model(test, model, device), TEST_BATCH, shuffle=False),
    )


def create_run(
    run: Run, folder: str | Path, device: torch.device | str = "cpu", processes: Processes = SINGLE_PROCESS
) -> RunFolder:
    """Make a run folder that `proceed` can begin with; of several processes one calls it.

    Raises:
        FileExistsError: if there is something in it already.
        OSError: if it cannot be created or written to.
    """
    place = RunFolder(Path(folder)).make()
    with threads(run.threads):
        write_atomic(place.environment, json.dumps(environment(device, processes.size), indent=2) + "\n")
    write_atomic(place.config, run.to_json())
    return place


def train_run(
    folder: str | Path,
    *,
    device: torch.device | str | None = None,
    root: str | None = None,
    reports: Sequence[Callback] = (),
    checkpoint_every: float = 60.0,
    processes: Processes = SINGLE_PROCESS,
) -> list[Row]:
    """Begin the run of a folder, or go on where it stopped.

    Args:
        folder: made by `start`.
        device: where to train; None: the kind that the run began on.
        root: folder to look for the data in first; a run's own is not written to its file.
        reports: who is told of batches and epochs.
        checkpoint_every: seconds between checkpoints within an epoch.
        processes: those that train together; all of them call this, and can read the folder. The result is that of one, as far as
            `eqprop.training.distributed.gloo` says; to the bit it is that of as many.

    Returns:
        One row an epoch, as in ``metrics.jsonl``.

    Raises:
        FileNotFoundError: if the folder holds no run.
        ValueError: if the run is finished, its file is not valid, or not the one that it began with.
        Others: as `prepare` and `Trainer.fit`.
    """
    run, place = read_run(folder), RunFolder(Path(folder))
    if is_finished(place):
        raise ValueError(f"{folder} is finished: all {run.epochs} epochs are done; train in another folder")
    device = begun_on(place) if device is None else device
    begun = processes.broadcast(place.begun)
    if begun and processes.first:
        with threads(run.threads):
            note_other(place, device, processes)
    session = prepare(replace(run, data=replace(run.data, root=root)), device)
    trainer = session.trainer(place.path, reports, checkpoint_every, processes)
    go = trainer.resume if begun else trainer.fit
    with threads(run.threads), seeded(run.seed, REST):
        return go(session.train, run.epochs, validation=session.validation, test=session.test)


def begun_on(place: RunFolder) -> str:
    """The kind of device that a run began on."""
    return "cuda" if facts_of(place).get("gpu") else "cpu"


def facts_of(place: RunFolder) -> dict[str, Any]:
    """What a run began on.

    Raises:
        DamagedError: if its file is not what was written.
    """
    try:
        return dict(json.loads(place.environment.read_bytes()))
    except (OSError, ValueError, TypeError):
        raise DamagedError(f"{place.environment} is missing or damaged") from None


def note_other(place: RunFolder, device: torch.device | str, processes: Processes = SINGLE_PROCESS) -> None:
    """Warn if a run goes on with another torch, on other hardware or in more or fewer processes, and write down on what."""
    then, now = facts_of(place), environment(device, processes.size)
    before = {"processes": 1} | then  # an old file does not say
    if changed := [name for name in ("torch", "cpu", "gpu", "processes") if before.get(name) != now[name]]:
        differ = ", ".join(f"{name} {now[name]}, not {before.get(name)}" for name in changed)
        warn(f"{place.path} goes on with {differ}: its last bits will not be those of one machine", stacklevel=3)
        then["resumed_on"] = [*then.get("resumed_on", []), now]
        write_atomic(place.environment, json.dumps(then, indent=2) + "\n")


def is_finished(place: RunFolder) -> bool:
    """Whether the run of a folder came to its end.

    Raises:
        DamagedError: if its checkpoint is not what was written.
    """
    return place.last.exists() and checkpoint.read(place.last)[1]["epoch"] >= read_run(place.path).epochs


def read_history(folder: str | Path) -> list[Row]:
    """The rows of a run folder: one an epoch; none if it has not begun.

    Raises:
        DamagedError: if its checkpoint or its metrics are not what was written.
    """
    place = RunFolder(Path(folder))
    return place.rows(at_least=checkpoint.read(place.last)[1]["epoch"] if place.begun else 0)


def read_run(folder: str | Path) -> Run:
    """The run of a folder.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if its file is not valid.
    """
    config = RunFolder(Path(folder)).config
    if not config.is_file():
        raise FileNotFoundError(f"{folder} holds no run: there is no {config.name} in it")
    try:
        return Run.from_json(config.read_text())
    except ValueError as error:
        raise ValueError(f"{config} is not a run's configuration: {error}") from None


def load(folder: str | Path, which: Literal["last", "best"] = "last") -> Model:
    """The trained model of a run folder, on the CPU.

    Args:
        folder: where ``eqprop train`` wrote.
        which: the weights of the "last" epoch or batch, or of the "best" epoch by validation, else training, error.

    Raises:
        FileNotFoundError: if the folder holds no run, or no weights yet.
        ValueError: if a file is damaged or not valid.
    """
    place = RunFolder(Path(folder))
    path = {"last": place.last, "best": place.best}[one_of("which", which, ("last", "best"))]
    model = read_run(folder).build()
    checkpoint.load_weights(model, checkpoint.read(path)[0], path)
    return model


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Use that many threads of the CPU for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
