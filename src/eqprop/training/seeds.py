"""Training of runs that differ in their seed alone, as one batched computation.

The training of each seed pauses at its next batch (`eqprop.training.batch_steps`). The networks are combined into one
(`eqprop.models.batched`), one pass over all of these batches computes the gradients, and each training continues with its own
gradients, cost and free phase. Optimizer, evaluation, metrics, checkpoints and signals are separate for each seed.

Results must not depend on the other seeds. So the combined model always has one network per seed, each in the place of its seed. A
placeholder takes the place of a training that is at a batch of another size, has ended or has diverged. Then every training gets
the same bits, however far the others are, also after a kill.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError
from eqprop._core.deprecation import renamed_arguments
from eqprop._core.devices import available_device
from eqprop._core.state import iter_tensors, map_tensors
from eqprop.estimators.base import Estimator, takes_nudged_callback
from eqprop.estimators.response import Response, ignore_response
from eqprop.models.batched import batch_models
from eqprop.models.batched import unsupported_reason as model_unsupported_reason
from eqprop.models.model import Model
from eqprop.solvers.settle import Solution
from eqprop.training.batch_steps import BatchResult, FitArguments, Training
from eqprop.training.config.run import Run
from eqprop.training.dataset import Splits, load_splits
from eqprop.training.history import Row
from eqprop.training.metrics import is_measured
from eqprop.training.progress.callbacks import Callback
from eqprop.training.rng import REST, IsolatedRNG
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import (
    PreparedRun,
    check_training,
    initial_device,
    prepare_run,
    threads,
    warn_if_environment_changed,
)
from eqprop.training.signals import Interrupted, Interrupts
from eqprop.training.trainer import Trainer

__all__ = ["Outcome", "config_without_seed", "train_seeds", "unsupported_reason"]

Batch = tuple[Tensor, Tensor]

Outcome = list[Row] | FloatingPointError
"""Result of a training: its rows, or the error if it diverged."""


def config_without_seed(run: Run) -> str:
    """Return the configuration of a run with seed 0: equal for runs that can be trained together."""
    return replace(run, seed=0).to_json()


def unsupported_reason(run: Run) -> str | None:
    """Return why several seeds of a run cannot be trained in one batched computation; None if they can.

    They can if samples do not influence each other and nothing is drawn at random during a phase.
    """
    return (
        run.estimator.batching_unsupported_reason()
        or run.model.dynamics.batching_unsupported_reason()
        or model_unsupported_reason(run.build())
    )


@renamed_arguments(reports="callbacks")
def train_seeds(
    folders: Sequence[str | Path | RunFolder],
    *,
    prepared: PreparedRun | None = None,
    device: torch.device | str | None = None,
    root: str | None = None,
    callbacks: Mapping[Path, Sequence[Callback]] | None = None,
    checkpoint_every: float = 60.0,
) -> dict[Path, Outcome]:
    """Start or resume the runs of several folders in one batched computation.

    The result is that of `train_run` on each folder, up to rounding. It is the same to the bit for the same folders, wherever they
    were interrupted. Finished runs are not changed.

    Args:
        folders: made by `create_run`; their runs differ in the seed alone.
        prepared: one of the runs from `prepare_run`, to save loading the data again; with it ``device`` and ``root`` are not used.
        device: where to train; None for the kind of device that the first run began on.
        root: folder to search for the data first.
        callbacks: by folder.
        checkpoint_every: seconds between checkpoints within an epoch.

    Returns:
        By folder, for each run that was not finished: its rows, or the FloatingPointError if it diverged; its last checkpoint is
        from before the divergence.

    Raises:
        ValueError: if the runs differ in more than their seed, cannot be batched, or are all finished.
        Interrupted: if a signal stopped them; all checkpoints have been written.
        Exception: others as `train_run`; the last checkpoint of every run is complete.
    """
    places = [RunFolder.of(folder) for folder in folders]
    runs = [place.run for place in places]
    _check_runs(runs)
    finished = [place.is_finished() for place in places]
    if all(finished):
        raise ValueError(f"{', '.join(str(place.path) for place in places)} are finished: train in other folders")
    if prepared is None:
        device = initial_device(places[0]) if device is None else device
        splits = _to_device(load_splits(replace(runs[0].data, root=root)), available_device(device))
    else:
        device, splits = prepared.device, prepared.splits
    with threads(runs[0].threads), Interrupts() as interrupts:
        trainings = []
        for place, run, is_finished in zip(places, runs, finished, strict=True):
            own = callbacks[place.path] if callbacks else ()
            training = (
                None if is_finished else _seed_training(place, run, splits, device, own, checkpoint_every, interrupts)
            )
            trainings.append(training)
        outcomes = _train_batched(trainings, lambda n: _placeholder(runs[n], device))
    return {place.path: outcome for place, outcome in zip(places, outcomes, strict=True) if outcome is not None}


def _check_runs(runs: Sequence[Run]) -> None:
    if len({config_without_seed(run) for run in runs}) != 1:
        raise ArgumentError(
            "folders",
            "`folders` must hold runs that differ in their seed alone: call `train_run` with one after the other",
        )
    if reason := unsupported_reason(runs[0]):
        raise ArgumentError(
            "folders", f"these runs cannot be batched: {reason}; call `train_run` with one after the other"
        )


def _to_device(splits: Splits, device: torch.device | str) -> Splits:
    train, validation, test = (part and (part[0].to(device), part[1].to(device)) for part in splits)
    assert train
    assert test
    return train, validation, test


def _seed_training(
    place: RunFolder,
    run: Run,
    splits: Splits,
    device: torch.device | str,
    callbacks: Sequence[Callback],
    checkpoint_every: float,
    interrupts: Interrupts,
) -> "SeedTraining":
    """Return the training of one seed, at its start or where it was interrupted."""
    if place.has_started:
        warn_if_environment_changed(place, device)
    prepared = prepare_run(run, device, splits=splits)
    if not place.has_started:
        check_training(prepared)
    trainer = prepared.trainer(place.path, callbacks, checkpoint_every)
    arguments = FitArguments(prepared.train, run.epochs, prepared.validation, prepared.test)
    steps = trainer.resume_steps if place.has_started else trainer.fit_steps
    return SeedTraining(trainer, steps(arguments, interrupts), IsolatedRNG(run.seed, REST))


def _placeholder(run: Run, device: torch.device | str) -> Model:
    """Return a model that takes the place of a seed and is not trained."""
    return run.build().to(device).requires_grad_(False)


@dataclass
class SeedTraining:
    """The training of one seed.

    Args:
        trainer: its trainer.
        training: `Trainer.fit_steps` or `Trainer.resume_steps`, not started yet.
        isolated_rng: a context in which torch's default generator is this training's own.

    Attributes:
        batch: the batch at which it pauses; None once it has ended.
        outcome: its result.
    """

    trainer: Trainer
    training: Training
    isolated_rng: AbstractContextManager[None]
    batch: Batch | None = None
    outcome: Outcome | Interrupted | None = None

    def advance(self, result: BatchResult | None) -> None:
        """Continue with the result of the current batch until the next batch or the end."""
        self.batch = None
        try:
            with self.isolated_rng:
                x, y = self.training.send(result)
                self.batch = x.to(self.trainer.device), y.to(self.trainer.device)
        except StopIteration as end:
            self.outcome = end.value
        except (FloatingPointError, Interrupted) as stop:
            self.outcome = stop


def _train_batched(
    trainings: Sequence[SeedTraining | None], placeholder: Callable[[int], Model]
) -> list[Outcome | None]:
    """Train until all have ended; one that diverges does not stop the others.

    Args:
        trainings: in the order of their seeds; None for a finished run.
        placeholder: returns a model for the place of that index.
    """
    active = {place: training for place, training in enumerate(trainings) if training is not None}
    batched = BatchedTrainer({place: t.trainer for place, t in active.items()}, len(trainings), placeholder)
    try:
        for training in active.values():
            training.advance(None)
        while batches := {place: t.batch for place, t in active.items() if t.batch is not None}:
            results = batched.train_batches(batches)
            for place in batches:
                active[place].advance(results[place])
    finally:
        for training in active.values():
            training.training.close()
    outcomes = [None if training is None else training.outcome for training in trainings]
    for outcome in outcomes:
        if isinstance(outcome, Interrupted):
            raise outcome
    return outcomes  # type: ignore[return-value]


class BatchedTrainer:
    """Computes the gradients of several trainers in one batched model.

    Args:
        trainers: by place.
        size: number of places.
        placeholder: returns a model for the place of that index.
    """

    def __init__(self, trainers: Mapping[int, Trainer], size: int, placeholder: Callable[[int], Model]) -> None:
        self.trainers, self.size = trainers, size
        self.placeholder = cache(placeholder)
        self.batched_model = cache(self._batched_model)
        self.estimator: Estimator = next(iter(trainers.values())).estimator

    def train_batches(self, batches: Mapping[int, Batch]) -> dict[int, BatchResult | None]:
        """Return the result for each place; None where the trainer has to compute its batch itself to raise its error."""
        results: dict[int, BatchResult | None] = {}
        for size in dict.fromkeys(len(x) for x, _ in batches.values()):
            group = {place: batch for place, batch in batches.items() if len(batch[0]) == size}
            try:
                results |= self._train_group(group)
            except FloatingPointError:  # of one seed, but which one? compute them one by one
                results |= dict.fromkeys(group) if len(group) == 1 else self._train_separately(group)
        return results

    def _train_separately(self, batches: Mapping[int, Batch]) -> dict[int, BatchResult | None]:
        return {place: r for one in batches.items() for place, r in self.train_batches(dict([one])).items()}

    def _train_group(self, batches: Mapping[int, Batch]) -> dict[int, BatchResult]:
        """Train on batches of one size; places without one get the first batch of the others, which has no effect."""
        model, solutions, responses = self.batched_model(frozenset(batches)), [], list[Response]()
        measured = any(is_measured(self.trainers[place].batch) for place in batches)
        on_nudged_phase = responses.append if measured else ignore_response
        own: dict[str, Any] = {"on_nudged_phase": on_nudged_phase} if takes_nudged_callback(self.estimator) else {}
        filler = next(iter(batches.values()))
        x, y = (torch.cat(part) for part in zip(*(batches.get(n, filler) for n in range(self.size)), strict=True))
        for loss in self.estimator(model, x, y, on_free_phase=solutions.append, **own):
            for place in batches:
                self.trainers[place].optimizer.zero_grad()
            (self.size * loss).backward()  # the loss is a mean over all seeds; each seed needs its own mean
        with torch.no_grad():
            output = solutions[0].output
            costs = model.cost.value(output, model.cost.encode(y, output)).view(self.size, -1).mean(1)
        parts = split_solution(solutions[0], self.size)
        each = responses[0].split(self.size) if responses else [None] * self.size
        return {place: BatchResult(costs[place], parts[place], each[place]) for place in batches}

    def _batched_model(self, places: frozenset[int]) -> Model:
        models = [self.trainers[n].model if n in places else self.placeholder(n) for n in range(self.size)]
        return batch_models(models)


def split_solution(solution: Solution, n: int) -> list[Solution]:
    """Split a solution along the batch into ``n`` solutions."""
    whole = (solution.state, solution.activity, (solution.output, solution.residual))
    chunks = {id(t): t.chunk(n) for t in iter_tensors(whole)}
    parts = []
    for r in range(n):
        state, activity, (output, residual) = map_tensors(lambda t, r=r: chunks[id(t)][r], whole)
        parts.append(replace(solution, state=state, activity=activity, output=output, residual=residual))
    return parts
