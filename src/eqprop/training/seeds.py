"""Runs that differ in their seed alone, in a folder each, trained at once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from eqprop.models.model import Model
from eqprop.training.batch_steps import FitArguments
from eqprop.training.batched_seeds import Outcome, SeedTraining, train_batched, unsupported_reason
from eqprop.training.config.run import Run
from eqprop.training.dataset import Splits, load_splits
from eqprop.training.progress.callbacks import Callback
from eqprop.training.rng import REST, IsolatedRNG
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import begun_on, is_finished, note_other, prepare_with, read_run, threads
from eqprop.training.signals import Interrupts

__all__ = ["alike", "train_seeds"]


def alike(run: Run) -> str:
    """What runs that can be trained at once have in common, as text."""
    return replace(run, seed=0).to_json()


def train_seeds(
    folders: Sequence[str | Path],
    *,
    device: torch.device | str | None = None,
    root: str | None = None,
    reports: Mapping[Path, Sequence[Callback]] | None = None,
    checkpoint_every: float = 60.0,
) -> dict[Path, Outcome]:
    """Begin the runs of several folders, or go on where each stopped: as `proceed` with one after the other, up to round-off.

    To the bit it is that of the same folders, wherever they were stopped; those that are finished are left as they are.

    Args:
        folders: made by `start`; their runs differ in the seed alone.
        device: where to train; None: the kind that the first run began on.
        root: folder to look for the data in first.
        reports: who is told of batches and epochs, by folder.
        checkpoint_every: seconds between checkpoints within an epoch.

    Returns:
        By folder what each came to that was not finished: its rows, or the FloatingPointError of one that diverged, whose last
        checkpoint is from before.

    Raises:
        ValueError: if the runs differ in more than their seed or cannot be trained at once, or all are finished.
        Others: as `proceed`; the last checkpoint of every run is whole.
    """
    places = [RunFolder(Path(folder)) for folder in folders]
    runs = [read_run(place.path) for place in places]
    check(runs)
    if all(done := [is_finished(place) for place in places]):
        raise ValueError(f"{', '.join(map(str, folders))} are finished: train in other folders")
    device = begun_on(places[0]) if device is None else device
    data = replace(runs[0].data, root=root)
    parts = moved(load_splits(data), device)
    with threads(runs[0].threads), Interrupts() as interrupts:
        lanes = []
        for place, run, over in zip(places, runs, done, strict=True):
            told = reports[place.path] if reports else ()
            lanes.append(None if over else lane(place, run, parts, device, told, checkpoint_every, interrupts))
        outcomes = train_batched(lanes, lambda n: spare(runs[n], device))
    return {place.path: outcome for place, outcome in zip(places, outcomes, strict=True) if outcome is not None}


def check(runs: Sequence[Run]) -> None:
    """Raise ValueError unless the runs can be trained at once."""
    if len({alike(run) for run in runs}) != 1:
        raise ValueError("`folders` must hold runs that differ in their seed alone: `proceed` with one after the other")
    if reason := unsupported_reason(runs[0]):
        raise ValueError(f"these runs cannot be trained at once: {reason}; `proceed` with one after the other")


def moved(parts: Splits, device: torch.device | str) -> Splits:
    """The samples on the device, for all runs."""
    train, validation, test = (part and (part[0].to(device), part[1].to(device)) for part in parts)
    assert train
    assert test
    return train, validation, test


def lane(
    place: RunFolder,
    run: Run,
    parts: Splits,
    device: torch.device | str,
    reports: Sequence[Callback],
    checkpoint_every: float,
    interrupts: Interrupts,
) -> SeedTraining:
    """One of the trainings, at its beginning or where it stopped."""
    if place.begun:
        note_other(place, device)
    session = prepare_with(run, lambda: parts, device)
    trainer = session.trainer(place.path, reports, checkpoint_every)
    course = FitArguments(session.train, run.epochs, session.validation, session.test)
    go = trainer.resume_steps if place.begun else trainer.fit_steps
    return SeedTraining(trainer, go(course, interrupts), IsolatedRNG(run.seed, REST))


def spare(run: Run, device: torch.device | str) -> Model:
    """A model of a run, which learns nothing."""
    return run.build().to(device).requires_grad_(False)
