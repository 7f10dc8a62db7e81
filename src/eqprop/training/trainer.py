"""The trainer: fits any model with any estimator on any iterable of ``(x, y)``, evaluates every epoch, logs and saves checkpoints.

The state of a training is its weights, the state of the optimizer and the scheduler, the random generators (the estimator's own
and torch's default one on the CPU), and the numbers of epochs and batches done. `Trainer.state_dict` holds all of it, and so does
``checkpoint/last.safetensors``: a training that is killed at any moment and resumed gives the same bits as one that is not.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from math import prod
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from eqprop._core.checks import ArgumentError, instance, non_negative, positive_int
from eqprop._core.deprecation import renamed_arguments
from eqprop.estimators.base import Estimator, bind_estimator, takes_nudged_callback
from eqprop.estimators.ep import NudgedEstimator
from eqprop.estimators.response import Response, ResponseMeans, ignore_response
from eqprop.models.model import Model
from eqprop.solvers.settle import Solution
from eqprop.training import checkpoint
from eqprop.training.batch_steps import (
    Batch,
    BatchIterable,
    FitArguments,
    Steps,
    Training,
    as_batch,
    remaining_batches,
    run_to_end,
)
from eqprop.training.config.run import same_config
from eqprop.training.diagnostics import Diagnostics
from eqprop.training.distributed.processes import SINGLE_PROCESS, Position, Processes
from eqprop.training.history import (
    Row,
    make_row,
    selection_metric,
    warn_if_not_at_rest,
    warn_if_saturated,
    warn_if_stuck,
)
from eqprop.training.metrics import Metrics, Score, evaluate, has_finite_cost, is_measured
from eqprop.training.progress.callbacks import Callback
from eqprop.training.rng import ESTIMATOR, generator
from eqprop.training.run_folder import RunFolder
from eqprop.training.signals import Interrupted, Interrupts

__all__ = ["Trainer"]


class Trainer:
    """Trains a model, evaluates it after every epoch, and saves checkpoints to resume from.

    Args:
        model: the model, on its device; batches are moved there.
        estimator: computes the gradients.
        optimizer: an optimizer of `torch.optim` that needs no closure.
        scheduler: a scheduler of `torch.optim.lr_scheduler`, stepped once per epoch; not `ReduceLROnPlateau`.
        folder: folder for metrics and checkpoints; nothing is written without one.
        seed: of the random numbers that the estimator draws.
        callbacks: called after batches and epochs, on rank 0.
        checkpoint_every: seconds between checkpoints within an epoch; one is saved after every epoch in any case.
        config: text that identifies the training. It is saved in every checkpoint; `resume` refuses a checkpoint with another one.
            Two configurations of a `Run` are the same if they describe equal runs.
        diagnostics: called after every epoch; its result is added to the epoch's row.
        processes: the processes that train together (see `eqprop.training.distributed.gloo.joined`), each with a trainer of the
            same arguments and the same batches. Only rank 0 logs and saves; the others must be able to read the folder.

    Raises:
        ValueError: if an argument is not valid.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 3], settle=5)
    >>> batches = [(torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1]))]
    >>> trainer = Trainer(model, ep.EquilibriumProp(5, 3, 0.1), torch.optim.SGD(model.parameters(), lr=0.1))
    >>> [row["epoch"] for row in trainer.fit(batches, epochs=2, test=batches)]
    [1, 2]
    """

    @renamed_arguments(reports="callbacks", probe="diagnostics")
    def __init__(
        self,
        model: Model,
        estimator: Estimator,
        optimizer: Optimizer,
        *,
        scheduler: LRScheduler | None = None,
        folder: str | Path | None = None,
        seed: int = 0,
        callbacks: Sequence[Callback] = (),
        checkpoint_every: float = 60.0,
        config: str | None = None,
        diagnostics: Diagnostics | None = None,
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        self.model = instance("model", model, Model)
        self.optimizer = instance("optimizer", optimizer, Optimizer)
        if isinstance(optimizer, LBFGS):
            raise ArgumentError(
                "optimizer", "`optimizer` is an LBFGS, which needs a closure: use one that does not, such as SGD"
            )
        self.estimator = bind_estimator(estimator, model, optimizer)
        self._takes_nudged_callback = takes_nudged_callback(self.estimator)
        nudges = isinstance(estimator, NudgedEstimator)
        self._response_means = partial(_response_means, model, estimator) if nudges else None
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ArgumentError(
                "scheduler",
                "`scheduler` is a ReduceLROnPlateau, which needs a metric at every step: use another scheduler",
            )
        self.scheduler = None if scheduler is None else instance("scheduler", scheduler, LRScheduler)
        self._source = None if folder is None else RunFolder(Path(folder))
        self.folder = self._source if processes.is_rank0 else None  # other ranks read, and write nothing
        self.callbacks = tuple(callbacks) if processes.is_rank0 else ()
        self.checkpoint_every = non_negative("checkpoint_every", checkpoint_every)
        self.config = config
        self.diagnostics = diagnostics
        self.seed, self.generator = seed, generator(seed, ESTIMATOR)
        self.device = next(model.parameters()).device
        self.processes = processes
        processes.check_estimator(estimator, self.device)
        self.rows: list[Row] = []
        self.best: dict[str, Any] | None = None
        self._latest: Batch | None = None
        self._start_epoch(done=0)
        self._since = self._saved = time.monotonic()

    def fit(
        self,
        batches: BatchIterable,
        epochs: int,
        *,
        validation: BatchIterable | None = None,
        test: BatchIterable | None = None,
    ) -> list[Row]:
        """Train from the model's current weights.

        Args:
            batches: iterated once per epoch. `Batches` gives each epoch its own order; another iterable should draw its order
                from torch's default generator, whose state is part of every checkpoint.
            epochs: total number of epochs, including those that this trainer has already done.
            validation: batches evaluated after every epoch; they select the best epoch.
            test: batches evaluated after every epoch; they select nothing.

        Returns:
            One row per epoch, as in ``metrics.jsonl``.

        Raises:
            ValueError: if a batch does not fit the model, or an epoch has no batch.
            FileExistsError: if the folder already holds a training.
            BlockingIOError: if another process uses the folder.
            FloatingPointError: if a state or a weight is not finite; the last checkpoint is from before.
            ProcessLostError: if another process ended or does not answer; the last checkpoint is complete.
            Interrupted: if SIGINT or SIGTERM arrived; the checkpoint has been written.
            OSError: if a file cannot be written; the last checkpoint is complete.
        """
        arguments = FitArguments(batches, epochs, validation, test)
        with self._interrupts() as interrupts:
            return run_to_end(self.fit_steps(arguments, interrupts))

    def fit_steps(self, arguments: FitArguments, interrupts: Interrupts) -> Training:
        """Return `fit` as a generator that pauses before every batch; the caller handles signals."""
        positive_int("epochs", arguments.epochs)
        arguments.check()
        is_new = (self.epoch, self.batch) == (0, 0)
        if self.folder is not None:
            self.folder.last.parent.mkdir(parents=True, exist_ok=True)
        with self._lock():
            if self.folder is not None:
                if self.folder.has_started and is_new:
                    raise FileExistsError(
                        f"{self.folder.path} already holds a training: resume it, or use another folder"
                    )
                self.folder.truncate(self.epoch)
            self._save()
            try:
                return (yield from self._train(arguments, interrupts))
            except (ValueError, TypeError, RuntimeError):
                if (
                    self.folder is not None
                    and self.processes.is_rank0
                    and is_new
                    and (self.epoch, self.batch) == (0, 0)
                ):
                    self.folder.last.unlink(missing_ok=True)  # nothing was trained: a corrected call may use the folder
                raise

    def resume(
        self,
        batches: BatchIterable,
        epochs: int,
        *,
        validation: BatchIterable | None = None,
        test: BatchIterable | None = None,
    ) -> list[Row]:
        """Continue from the folder's checkpoint. Arguments, result and further errors are those of `fit`.

        Raises:
            FileNotFoundError: if the folder has no checkpoint.
            DamagedError: if the checkpoint or the metrics are damaged.
            ValueError: if the checkpoint belongs to another training.
        """
        arguments = FitArguments(batches, epochs, validation, test)
        with self._interrupts() as interrupts:
            return run_to_end(self.resume_steps(arguments, interrupts))

    def resume_steps(self, arguments: FitArguments, interrupts: Interrupts) -> Training:
        """Return `resume` as a generator that pauses before every batch; the caller handles signals."""
        positive_int("epochs", arguments.epochs)
        arguments.check()
        if self._source is None:
            raise ArgumentError(
                "folder", "a trainer without a `folder` has no checkpoint to resume from: pass `folder`"
            )
        with self._lock():
            self._restore(self._source)
            return (yield from self._train(arguments, interrupts))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the training: tensors, and values that JSON can carry, by flat names.

        Raises:
            FloatingPointError: if a weight is not finite.
        """
        optimizer = checkpoint.optimizer_state(self.optimizer)
        return checkpoint.model_state(self.model) | optimizer.tensors | {
            "tally": self.metrics.sums.cpu(),  # the names in the file are those of the first release
            "counts": self.metrics.counts(),
            "random.torch": torch.get_rng_state(),
            "random.epoch": self._epoch_rng_state,
            "random.estimator": self.generator.get_state(),
            "epoch": self.epoch,
            "batch": self.batch,
            "config": self.config,
            "best": self.best,
            "optimizer": optimizer.facts,
            "scheduler": checkpoint.scheduler_state(self.scheduler),
            "spent": self._seconds + time.monotonic() - self._since if self.batch else 0.0,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any], source: str | Path = "the state") -> None:
        """Restore what `state_dict` returned; the rows of earlier epochs are not part of it.

        Args:
            state: the state.
            source: name of its file, for errors.

        Raises:
            ValueError: if the state belongs to another model, optimizer or scheduler.
        """
        checkpoint.load_weights(self.model, state, source)
        checkpoint.load_optimizer(self.optimizer, state, state["optimizer"])
        checkpoint.load_scheduler(self.scheduler, state["scheduler"])
        torch.set_rng_state(state["random.torch"])
        self.generator.set_state(state["random.estimator"])
        self._start_epoch(done=state["epoch"])
        self.batch, self._epoch_rng_state, self.best = state["batch"], state["random.epoch"], state["best"]
        self._seconds = state["spent"]
        self.metrics.load_state(state["tally"], state["counts"])

    def _train(self, arguments: FitArguments, interrupts: Interrupts) -> Training:
        self.processes.broadcast_state(self.model)
        with self._reporting(arguments):
            try:
                while self.epoch < arguments.epochs:
                    self._since = time.monotonic()
                    with self._located():
                        yield from self._train_epoch(arguments.batches, interrupts)
                        self._finish_epoch(self._evaluate_epoch(arguments, interrupts))
                    self.processes.sync(interrupts)
                    interrupts.raise_if_requested()
            except Interrupted:
                self.processes.barrier()  # a launcher ends all processes when one ends: wait until the checkpoint is written
                raise
        return self.rows

    def _train_epoch(self, batches: BatchIterable, interrupts: Interrupts) -> Steps:
        """Train on the remaining batches of an epoch."""
        left, self._epoch_rng_state = remaining_batches(batches, self.epoch, self.batch, self._epoch_rng_state)
        for batch in left:
            x, y = as_batch(batch)
            result = yield x, y
            if result is None:
                self._train_batch(x, y, interrupts)
            else:
                self.optimizer.step()
                response = result.response if is_measured(self.batch) else None
                self.metrics.add(result.loss, result.solution, y.to(self.device), self.model.cost, response)
                self._latest = x, y
            self.batch += 1
            for callback in self.callbacks:
                callback.on_batch_end(self.epoch + 1, self.batch, self.metrics)
            if interrupts.requested is not None:
                self._save()
                interrupts.raise_if_requested()
            if self.folder is not None and time.monotonic() - self._saved >= self.checkpoint_every:
                self._save()
        if not self.batch:
            raise ArgumentError(
                "batches",
                f"`batches` has no batch for epoch {self.epoch + 1}: pass an iterable that can be iterated again every epoch, "
                "such as a list, a DataLoader or `Batches`",
            )

    def _train_batch(self, x: Tensor, y: Tensor, interrupts: Interrupts) -> None:
        """Take one optimizer step for each loss of the estimator."""
        x, y, weight = self.processes.shard(x, y)
        x, y = x.to(self.device), y.to(self.device)
        self._latest = (x, y) if weight else self._latest
        solutions: list[Solution] = []
        first: Tensor | None = None
        responses: list[Response] = []
        on_nudged_phase = responses.append if is_measured(self.batch) else ignore_response
        own: dict[str, Any] = {"on_nudged_phase": on_nudged_phase} if self._takes_nudged_callback else {}
        losses = partial(
            self.estimator, self.model, x, y, on_free_phase=solutions.append, generator=self.generator, **own
        )
        for loss in self.processes.average_gradients(losses, self.optimizer, weight, self._position()):
            self.optimizer.step()
            first = loss if first is None else first
        response = responses[0] if responses else None
        measured = (first, solutions[0] if solutions else None, y, self.model.cost, response)
        self.processes.add_batch(self.metrics, measured if first is not None and weight else None, interrupts)  # type: ignore[arg-type]

    def _position(self) -> Position:
        return Position(self.seed, self.epoch, self.batch)

    @contextmanager
    def _located(self) -> Iterator[None]:
        """Add epoch and batch to the message of a FloatingPointError."""
        try:
            yield
        except FloatingPointError as error:
            raise FloatingPointError(f"epoch {self.epoch + 1}, batch {self.batch + 1}: {error}") from None

    def _evaluate_epoch(self, arguments: FitArguments, interrupts: Interrupts) -> Row:
        """Evaluate and return the row of the epoch."""
        scores, rng_state = {"train": self.metrics.score()}, torch.get_rng_state()
        try:
            for name, batches in (("validation", arguments.validation), ("test", arguments.test)):
                if batches is not None:
                    scores[name] = self._evaluate(batches, interrupts)
        except Interrupted:
            torch.set_rng_state(rng_state)  # a resumed training repeats the evaluation from its start
            self._save()
            raise
        extra = (
            dict(self.diagnostics(self.model, self.estimator)) if self.diagnostics and self.processes.is_rank0 else {}
        )
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        row = make_row(self.epoch + 1, scores, rates, self._seconds + time.monotonic() - self._since)
        return self.processes.broadcast(row | extra)

    def _evaluate(self, batches: BatchIterable, interrupts: Interrupts) -> Score:
        """Evaluate on the samples of all processes; a signal is noticed between two batches."""
        parts = self.processes.shard_batches(self._interruptible(batches, interrupts), self._position())
        with self.processes.share_failure():
            return evaluate(self.model, parts, partial(self.processes.sync, interrupts))

    def _interruptible(self, batches: BatchIterable, interrupts: Interrupts) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches:
            self.processes.sync(interrupts)
            interrupts.raise_if_requested()
            yield as_batch(batch)

    def _finish_epoch(self, row: Row) -> None:
        """Log the row, save the weights if they are the best so far, and start the next epoch."""
        with self.processes.share_failure():
            if not self._has_finite_cost():
                raise FloatingPointError(
                    "the cost is not finite after the last batch of the epoch: the training diverged; lower the learning rate"
                )
        self._latest = None
        weights, best = checkpoint.model_state(self.model), selection_metric(row)
        improved = self.best is None or best["value"] < self.best["value"]
        if self.folder is not None:
            if improved:
                checkpoint.write(self.folder.best, weights, best | {"config": self.config})
            self.folder.append(row)
        self.best = best if improved else self.best
        self.rows.append(row)
        classes = self.model.cost.width(self.model.network.populations[-1].shape)
        warn_if_stuck(self.rows, classes, self.metrics.samples)
        warn_if_saturated(self.rows)
        if self._response_means is not None and self.model.dynamics.comes_to_rest:
            warn_if_not_at_rest(self.rows, self._response_means)
        self._step_scheduler()
        self._start_epoch(done=self.epoch + 1)
        self._save()
        for callback in self.callbacks:
            callback.on_epoch_end(row)

    def _start_epoch(self, done: int) -> None:
        """Set the position to the first batch after ``done`` epochs."""
        self.epoch, self.batch = done, 0
        self.metrics = Metrics(self.device)
        self._epoch_rng_state = torch.get_rng_state()
        self._seconds = 0.0  # spent on this epoch before the training was resumed

    def _step_scheduler(self) -> None:
        if self.scheduler is None:
            return
        with catch_warnings():  # a resumed optimizer may not have stepped in this process, which torch warns of
            filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            self.scheduler.step()

    def _save(self) -> None:
        """Write the checkpoint, if there is a folder and the weights are good: weights that have diverged replace no others."""
        self._saved = time.monotonic()
        if self.folder is None or not self._has_finite_cost():
            return
        state = self.state_dict()
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        checkpoint.write(
            self.folder.last, tensors, {name: value for name, value in state.items() if name not in tensors}
        )

    def _has_finite_cost(self) -> bool:
        """Return whether the latest batch has a finite cost at the present weights; nothing is drawn from torch's generators."""
        if self._latest is None:
            return True
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            return has_finite_cost(self.model, *self._latest)

    def _restore(self, folder: RunFolder) -> None:
        """Load the checkpoint and the rows that it covers."""
        tensors, facts = checkpoint.read(folder.last)
        checkpoint.check_training_state(tensors, facts, folder.last)
        if not same_config(facts["config"], self.config):
            raise ValueError(
                f"{folder.last} was written with another configuration: restore {folder.config.name} as it was"
            )
        done = facts["epoch"]
        rows = folder.rows(done)[:done]
        self.load_state_dict(tensors | facts, folder.last)
        if self.folder is not None:
            checkpoint.check_replaceable(folder.best)  # now, not after the epoch that improves on it
            folder.truncate(done)  # last: a refused resume leaves the folder as it was
        self.rows = rows

    def _lock(self) -> Any:
        return nullcontext() if self.folder is None else self.folder.lock()

    def _interrupts(self) -> Interrupts:
        return Interrupts(distributed=self.processes.size > 1)

    @contextmanager
    def _reporting(self, arguments: FitArguments) -> Iterator[None]:
        size = len(arguments.batches) if hasattr(arguments.batches, "__len__") else None  # type: ignore[arg-type]
        for callback in self.callbacks:
            callback.on_fit_start(arguments.epochs, size, self.rows)
        try:
            yield
        finally:
            for callback in self.callbacks:
                callback.on_fit_end()


def _response_means(model: Model, estimator: NudgedEstimator, row: Row) -> ResponseMeans:
    """Return the response of an epoch to its nudges."""
    return ResponseMeans(
        row["residual"],
        row["nudged_residual"],
        row["nudged_distance"],
        row["nudge"],
        estimator.phases["nudged_steps"].steps,
        sum(prod(p.shape) for p in model.network.relaxing),
        torch.finfo(next(model.parameters()).dtype).eps,
        plain_steps=not estimator.continual and estimator.phases["nudged_steps"].accelerate is None,
    )
