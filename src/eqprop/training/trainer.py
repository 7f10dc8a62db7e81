"""The trainer: any estimator's losses, any model, any iterable of ``(x, y)``, over epochs, with tests, metrics and checkpoints.

What a training is at a given moment is its weights, the optimizer's and the scheduler's state, the random streams (the
estimator's own and torch's default one on the CPU), and the number of epochs and batches done. All of it is in
``checkpoint/last.safetensors``, so a training that was killed at any moment and resumed goes on to the same bits as one that
was not.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from eqprop._core.checks import instance, non_negative, positive_int
from eqprop.estimators.base import Estimator, bind_estimator
from eqprop.models.model import Model
from eqprop.solvers.settle import Solution
from eqprop.training import checkpoint, snapshot
from eqprop.training.batch_steps import FitArguments, Steps, Training, run_to_end
from eqprop.training.diagnostics import Diagnostics
from eqprop.training.distributed.processes import SINGLE_PROCESS, Position, Processes
from eqprop.training.evaluation import evaluate
from eqprop.training.history import choose, make_row, warn_if_late, warn_if_stuck
from eqprop.training.metrics import Metrics, Score
from eqprop.training.progress.callbacks import Callback
from eqprop.training.rng import ESTIMATOR, generator
from eqprop.training.run_folder import Row, RunFolder
from eqprop.training.signals import Interrupted, Interrupts
from eqprop.training.stream import Samples, remaining_batches

__all__ = ["Trainer"]


class Trainer:
    """Trains a model, tests it every epoch, and keeps enough on disk to go on after a kill.

    Args:
        model: what is trained, on its device; batches are moved there.
        estimator: where the gradients come from.
        optimizer: any of `torch.optim` that needs no closure.
        scheduler: of `torch.optim.lr_scheduler`, stepped once an epoch; not `ReduceLROnPlateau`, which wants a measure.
        folder: for metrics and checkpoints; without one nothing is written.
        seed: of what the estimator draws.
        reports: who is told of batches and epochs.
        checkpoint_every: seconds between checkpoints within an epoch; there is one at the end of every epoch in any case.
        config: what decides the training, as text. It is kept in every checkpoint, and `resume` refuses another one's.
        probe: looks at model and estimator after every epoch; what it gives stands in the epoch's row.
        processes: those that train together, each with a trainer of the same arguments and the same batches; see `joined`. The
            first alone writes, reports and probes; the others must be able to read the folder.

    Raises:
        ValueError: if an argument is not what it must be.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 3], settle=5)
    >>> batches = [(torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1]))]
    >>> trainer = Trainer(model, ep.EquilibriumProp(5, 3, 0.1), torch.optim.SGD(model.parameters(), lr=0.1))
    >>> [row["epoch"] for row in trainer.fit(batches, epochs=2, test=batches)]
    [1, 2]
    """

    def __init__(
        self,
        model: Model,
        estimator: Estimator,
        optimizer: Optimizer,
        *,
        scheduler: LRScheduler | None = None,
        folder: str | Path | None = None,
        seed: int = 0,
        reports: Sequence[Callback] = (),
        checkpoint_every: float = 60.0,
        config: str | None = None,
        probe: Diagnostics | None = None,
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        self.model = instance("model", model, Model)
        self.optimizer = instance("optimizer", optimizer, Optimizer)
        self.estimator = bind_estimator(estimator, model, optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ValueError("`scheduler` is a ReduceLROnPlateau, which wants a measure every epoch: take another one")
        self.scheduler = scheduler
        self.source = None if folder is None else RunFolder(Path(folder))
        self.folder = self.source if processes.first else None
        self.reports = tuple(reports) if processes.first else ()
        self.checkpoint_every = non_negative("checkpoint_every", checkpoint_every)
        self.config = config
        self.probe = probe
        self.seed, self.generator = seed, generator(seed, ESTIMATOR)
        self.device = next(model.parameters()).device
        self.processes = processes
        processes.admit(estimator, self.device)
        self.rows: list[Row] = []
        self.best: dict[str, Any] | None = None
        self.start_epoch(done=0)
        self._since = self._saved = time.monotonic()

    def fit(
        self, batches: Samples, epochs: int, *, validation: Samples | None = None, test: Samples | None = None
    ) -> list[Row]:
        """Train from the model's present weights.

        Args:
            batches: iterated once an epoch. `Batches` gives each epoch an order of its own; another iterable that draws
                its order should do so from torch's default generator, whose state is part of every checkpoint.
            epochs: how many in total, those that this trainer has done before included.
            validation: batches to test on after every epoch, which decide what is best.
            test: batches to test on after every epoch, which decide nothing.

        Returns:
            One row an epoch, as in ``metrics.jsonl``.

        Raises:
            ValueError: if a batch does not fit the model, or an epoch has none.
            FileExistsError: if the folder holds a training already.
            BlockingIOError: if another process holds the folder.
            FloatingPointError: if a state or a weight is not finite; the last checkpoint is from before.
            Lost: if another process ended or does not answer; the last checkpoint is whole.
            Interrupted: if Ctrl-C or a terminate signal came and the checkpoint was written.
            OSError: if a file cannot be written; the last checkpoint is whole.
        """
        course = FitArguments(batches, epochs, validation, test)
        with self._hearing() as interrupts:
            return run_to_end(self.fit_steps(course, interrupts))

    def fit_steps(self, course: FitArguments, interrupts: Interrupts) -> Training:
        """`fit`, batch by batch, under signals that the caller has an ear for."""
        positive_int("epochs", course.epochs)
        if self.folder is not None:
            self.folder.last.parent.mkdir(parents=True, exist_ok=True)
        with self._held():
            if self.folder is not None:
                if self.folder.begun and (self.epoch, self.batch) == (0, 0):
                    raise FileExistsError(
                        f"{self.folder.path} already holds a training: resume it, or name another folder"
                    )
                self.folder.truncate(self.epoch)
            self._save()
            return (yield from self._train(course, interrupts))

    def resume(
        self, batches: Samples, epochs: int, *, validation: Samples | None = None, test: Samples | None = None
    ) -> list[Row]:
        """Go on from the folder's checkpoint; arguments, result and errors as in `fit`.

        Raises:
            FileNotFoundError: if the folder has no checkpoint.
            DamagedError: if the checkpoint or the metrics are not what was written.
            ValueError: if the checkpoint is another training's.
        """
        course = FitArguments(batches, epochs, validation, test)
        with self._hearing() as interrupts:
            return run_to_end(self.resume_steps(course, interrupts))

    def resume_steps(self, course: FitArguments, interrupts: Interrupts) -> Training:
        """`resume`, batch by batch, under signals that the caller has an ear for."""
        positive_int("epochs", course.epochs)
        if self.source is None:
            raise ValueError("a trainer without a `folder` has nothing to resume from: name the one to go on with")
        with self._held():
            self._restore(self.source)
            return (yield from self._train(course, interrupts))

    def _train(self, course: FitArguments, interrupts: Interrupts) -> Training:
        self.processes.broadcast_state(self.model)
        with self._reporting(course):
            try:
                while self.epoch < course.epochs:
                    self._since = time.monotonic()
                    with self._located():
                        yield from self._pass(course.batches, interrupts)
                        self._finish(self._row(course, interrupts))
                    self.processes.sync(interrupts)
                    interrupts.raise_if_requested()
            except Interrupted:
                self.processes.wait()  # a launcher ends all when one has ended: not before the checkpoint is written
                raise
        return self.rows

    def _pass(self, batches: Samples, interrupts: Interrupts) -> Steps:
        """The rest of an epoch.

        Raises:
            ValueError: if there is no batch in it.
        """
        left, self.drawn = remaining_batches(batches, self.epoch, self.batch, self.drawn)
        for x, y in left:
            learned = yield x, y
            if learned is None:
                self._learn(x, y, interrupts)
            else:
                self.optimizer.step()
                self.metrics.add(*learned, y.to(self.device), self.model.cost)
            self.batch += 1
            for report in self.reports:
                report.batch(self.epoch + 1, self.batch, self.metrics)
            if interrupts.asked is not None:
                self._save()
                interrupts.raise_if_requested()
            if self.folder is not None and time.monotonic() - self._saved >= self.checkpoint_every:
                self._save()
        if not self.batch:
            raise ValueError(
                f"`batches` has no batch for epoch {self.epoch + 1}: give what can be iterated anew every epoch, "
                "as a list, a DataLoader or `Batches`"
            )

    def _learn(self, x: Tensor, y: Tensor, interrupts: Interrupts) -> None:
        """One batch: as many optimizer steps as the estimator has losses."""
        x, y, weight = self.processes.share(x, y)
        x, y = x.to(self.device), y.to(self.device)
        seen: list[Solution] = []
        first: Tensor | None = None
        losses = partial(self.estimator, self.model, x, y, on_free_phase=seen.append, generator=self.generator)
        for loss in self.processes.gradients(losses, self.optimizer, weight, self._moment()):
            self.optimizer.step()
            first = loss if first is None else first
        part = (first, seen[0] if seen else None, y, self.model.cost) if first is not None and weight else None
        self.processes.count(self.metrics, part, interrupts)

    def _moment(self) -> Position:
        return Position(self.seed, self.epoch, self.batch)

    @contextmanager
    def _located(self) -> Iterator[None]:
        """What is not finite is told with the place where it was noticed."""
        try:
            yield
        except FloatingPointError as error:
            raise FloatingPointError(f"epoch {self.epoch + 1}, batch {self.batch + 1}: {error}") from None

    def _row(self, course: FitArguments, interrupts: Interrupts) -> Row:
        scores, drawn = {"train": self.metrics.score()}, torch.get_rng_state()
        try:
            for name, samples in (("validation", course.validation), ("test", course.test)):
                if samples is not None:
                    scores[name] = self._test(samples, interrupts)
        except Interrupted:
            torch.set_rng_state(drawn)  # the tests begin anew
            self._save()
            raise
        more = dict(self.probe(self.model, self.estimator)) if self.probe and self.processes.first else {}
        rates = [group["lr"] for group in self.optimizer.param_groups]
        row = make_row(self.epoch + 1, scores, rates, self.spent + time.monotonic() - self._since)
        return self.processes.broadcast(row | more)

    def _test(self, samples: Samples, interrupts: Interrupts) -> Score:
        """As `evaluate`, until a signal is to be obeyed."""
        parts = self.processes.parts(self._watched(samples, interrupts), self._moment())
        with self.processes.failing():
            return evaluate(self.model, parts, partial(self.processes.sync, interrupts))

    def _watched(self, samples: Samples, interrupts: Interrupts) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in samples:
            self.processes.sync(interrupts)
            interrupts.raise_if_requested()
            yield batch

    def _finish(self, row: Row) -> None:
        """Close an epoch: log it, keep the weights if they are the best yet, go over to the next."""
        weights, best = checkpoint.weights(self.model), choose(row)
        better = self.best is None or best["value"] < self.best["value"]
        if self.folder is not None:
            if better:
                checkpoint.write(self.folder.best, weights, best)
            self.folder.log(row)
        self.best = best if better else self.best
        self.rows.append(row)
        classes = self.model.cost.width(self.model.network.populations[-1].shape)
        warn_if_stuck(self.rows, classes, self.metrics.samples)
        warn_if_late(self.rows)
        self._step_scheduler()
        self.start_epoch(done=self.epoch + 1)
        self._save()
        for report in self.reports:
            report.epoch(row)

    def start_epoch(self, done: int) -> None:
        """Stand before the first batch after so many epochs."""
        self.epoch, self.batch = done, 0
        self.metrics = Metrics(self.device)
        self.drawn = torch.get_rng_state()
        self.spent = 0.0

    def _step_scheduler(self) -> None:
        if self.scheduler is None:
            return
        with catch_warnings():  # torch misses the optimizer's steps where the last of them was before a kill
            filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            self.scheduler.step()

    def _save(self) -> None:
        """Write the checkpoint, if there is a folder."""
        self._saved = now = time.monotonic()
        if self.folder is None:
            return
        spent = self.spent + now - self._since if self.batch else 0.0
        checkpoint.write(self.folder.last, *snapshot.trainer_state(self, spent))

    def _restore(self, folder: RunFolder) -> None:
        """Become what the checkpoint was."""
        tensors, facts = checkpoint.read(folder.last)
        if facts["config"] != self.config:
            raise ValueError(
                f"{folder.last} was made with another configuration: put {folder.config.name} back as it was"
            )
        rows = folder.truncate(facts["epoch"]) if self.folder else folder.rows(facts["epoch"])[: facts["epoch"]]
        snapshot.load_trainer_state(self, tensors, facts, folder.last)
        self.rows = rows

    def _held(self) -> Any:
        return nullcontext() if self.folder is None else self.folder.lock()

    def _hearing(self) -> Interrupts:
        return Interrupts(patient=self.processes.size > 1)

    @contextmanager
    def _reporting(self, course: FitArguments) -> Iterator[None]:
        size = len(course.batches) if hasattr(course.batches, "__len__") else None  # type: ignore[arg-type]
        for report in self.reports:
            report.begin(course.epochs, size, self.rows)
        try:
            yield
        finally:
            for report in self.reports:
                report.end()
