"""Trainings side by side: of each its next batch, of all one computation.

Trainings of one run under several seeds each stop at their next batch (`eqprop.training.batch_steps`). Their networks side by side
(`eqprop.connections.batched`) learn from all of these batches at once, and each training goes on with its own gradients, its own cost and its
own free phase. All else, optimizer, tests, metrics, checkpoints, signals, is its own affair, as if it were alone.

What it learns must not hang on the others. So there always are as many networks side by side as there are seeds, and each stands
in the place of its seed: where a training wants a batch of another size, is over or has diverged, a spare takes its place. Then a
training gets the same numbers, to the bit, whether or not the others are as far as it is, as after a kill.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from eqprop._core.state import iter_tensors, map_tensors
from eqprop.dynamics.energy import EnergyDescent
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators.base import Estimator
from eqprop.models.batched import batch_models
from eqprop.models.batched import unsupported_reason as model_unsupported_reason
from eqprop.models.model import Model
from eqprop.solvers.settle import Solution
from eqprop.training.batch_steps import BatchResult, Training
from eqprop.training.config.run import Run
from eqprop.training.history import Row
from eqprop.training.signals import Interrupted
from eqprop.training.trainer import Trainer

__all__ = ["Outcome", "SeedTraining", "train_batched", "unsupported_reason"]

Batch = tuple[Tensor, Tensor]

Outcome = list[Row] | FloatingPointError
"""What a training comes to: its rows, or how it diverged."""


def unsupported_reason(run: Run) -> str | None:
    """Why trainings of a run under several seeds cannot be computed at once, if they cannot: for people.

    They can where no sample has a say in what is done with the others, and nothing is drawn on the way.
    """
    if reason := run.estimator.batching_unsupported_reason():
        return reason
    if type(run.model.dynamics) not in (Prototypical, EnergyDescent):
        return f"{type(run.model.dynamics).__name__} dynamics may draw at random"
    return model_unsupported_reason(run.build())


@dataclass
class SeedTraining:
    """One of the trainings.

    Args:
        trainer: whose training it is.
        training: that, at its beginning.
        aside: a context in which torch's default generator is this training's own.

    Attributes:
        wants: the batch that it stands at; None once it is over.
        outcome: what it came to.
    """

    trainer: Trainer
    training: Training
    isolated_rng: AbstractContextManager[None]
    wants: Batch | None = None
    outcome: Outcome | Interrupted | None = None

    def go(self, learned: BatchResult | None) -> None:
        """On to the next batch, or to the end."""
        self.wants = None
        try:
            with self.isolated_rng:
                x, y = self.training.send(learned)
                self.wants = x.to(self.trainer.device), y.to(self.trainer.device)
        except StopIteration as end:
            self.outcome = end.value
        except (FloatingPointError, Interrupted) as stop:
            self.outcome = stop


def train_batched(lanes: Sequence[SeedTraining | None], spare: Callable[[int], Model]) -> list[Outcome | None]:
    """Train side by side until all are over; one that diverges loses itself alone.

    Args:
        lanes: in the order of their seeds; None in the place of one that has nothing to do.
        spare: a model that may stand in the place of that number.

    Returns:
        What each came to, in the order of ``lanes``.

    Raises:
        Interrupted: if a signal stopped them, when the last has written its checkpoint.
        Others: as `Trainer.fit`, from any of them; the last checkpoints of the rest are whole.
    """
    there = {place: lane for place, lane in enumerate(lanes) if lane is not None}
    crew = BatchedTrainer({place: lane.trainer for place, lane in there.items()}, len(lanes), spare)
    try:
        for lane in there.values():
            lane.go(None)
        while wanted := {place: lane.wants for place, lane in there.items() if lane.wants is not None}:
            learned = crew.learn(wanted)
            for place in wanted:
                there[place].go(learned[place])
    finally:
        for lane in there.values():
            lane.training.close()
    outcomes = [None if lane is None else lane.outcome for lane in lanes]
    for outcome in outcomes:
        if isinstance(outcome, Interrupted):
            raise outcome
    return outcomes  # type: ignore[return-value]


class BatchedTrainer:
    """The networks of several trainers, side by side.

    Args:
        trainers: by place.
        size: number of places.
        spare: a model that may stand in the place of that number.
    """

    def __init__(self, trainers: Mapping[int, Trainer], size: int, spare: Callable[[int], Model]) -> None:
        self.trainers, self.size = trainers, size
        self.spare = cache(spare)
        self.joint = cache(self._joint)
        self.estimator: Estimator = next(iter(trainers.values())).estimator

    def learn(self, wanted: Mapping[int, Batch]) -> dict[int, BatchResult | None]:
        """What each learns from its batch; None where it had better find out alone what is wrong."""
        learned: dict[int, BatchResult | None] = {}
        for size in dict.fromkeys(len(x) for x, _ in wanted.values()):
            alike = {place: batch for place, batch in wanted.items() if len(batch[0]) == size}
            try:
                learned |= self._together(alike)
            except FloatingPointError:
                learned |= dict.fromkeys(alike) if len(alike) == 1 else self._apart(alike)
        return learned

    def _apart(self, wanted: Mapping[int, Batch]) -> dict[int, BatchResult | None]:
        return {place: found for one in wanted.items() for place, found in self.learn(dict([one])).items()}

    def _together(self, wanted: Mapping[int, Batch]) -> dict[int, BatchResult]:
        """Of batches of one size."""
        model, seen = self.joint(frozenset(wanted)), []
        some = next(iter(wanted.values()))
        x, y = (torch.cat(part) for part in zip(*(wanted.get(n, some) for n in range(self.size)), strict=True))
        for loss in self.estimator(model, x, y, on_free_phase=seen.append):
            for place in wanted:
                self.trainers[place].optimizer.zero_grad()
            (self.size * loss).backward()  # of a mean over all samples, and each wants that over its own
        with torch.no_grad():
            output = seen[0].output
            costs = model.cost.value(output, model.cost.encode(y, output)).view(self.size, -1).mean(1)
        parts = divided(seen[0], self.size)
        return {place: BatchResult(costs[place], parts[place]) for place in wanted}

    def _joint(self, places: frozenset[int]) -> Model:
        return batch_models([self.trainers[n].model if n in places else self.spare(n) for n in range(self.size)])


def divided(solution: Solution, n: int) -> list[Solution]:
    """The solutions of each of ``n`` parts of a batch."""
    whole = (solution.state, solution.activity, (solution.output, solution.residual))
    chunks = {id(t): t.chunk(n) for t in iter_tensors(whole)}
    parts = []
    for r in range(n):
        state, activity, (output, residual) = map_tensors(lambda t, r=r: chunks[id(t)][r], whole)
        parts.append(replace(solution, state=state, activity=activity, output=output, residual=residual))
    return parts
