"""Create several runs in one folder and train them, so that an interruption loses none of them."""

import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from eqprop._core.checks import non_negative
from eqprop.cli.console import create_callbacks, create_seed_callbacks, download_progress, echo
from eqprop.cli.errors import CommandFailedError, TrainingDivergedError, report_full_disk
from eqprop.cli.figures import DrawingFailedError, draw_run, drawable
from eqprop.cli.layout import create_folders
from eqprop.cli.parsers import as_device
from eqprop.cli.targets import can_draw
from eqprop.models.convnet import ConvNet
from eqprop.spiking import Spiking
from eqprop.training.config.run import Run
from eqprop.training.distributed.gloo import ProcessLostError
from eqprop.training.distributed.processes import SINGLE_PROCESS, Processes
from eqprop.training.progress.callbacks import TensorBoard
from eqprop.training.run_folder import RunFolder
from eqprop.training.seeds import config_without_seed, train_seeds, unsupported_reason
from eqprop.training.session import PreparedRun, check_training, prepare_run, train_run
from eqprop.training.signals import Interrupted

__all__ = ["MAX_SEEDS", "ExecutionOptions", "create_runs", "group_seeds", "train_runs"]

MAX_SEEDS = 1000
"""Seeds of one command."""


@dataclass(frozen=True)
class ExecutionOptions:
    """How a training is executed; none of this changes its results.

    Args:
        device: device to train on: "cpu", "cuda" or "cuda:1"; default: the CPU, or the device on which a resumed run began.
        checkpoint_every: seconds between checkpoints within an epoch; there is always one after each epoch.
        tensorboard: also write event files for TensorBoard (needs the extra eqprop[tensorboard]).
        plots: draw figures at the end (needs the extra eqprop[plot]).
    """

    device: Annotated[str | None, tyro.conf.arg(metavar="DEVICE", help_behavior_hint="")] = None
    checkpoint_every: float = 60.0
    tensorboard: bool = False
    plots: bool = True

    def __post_init__(self) -> None:
        if self.device is not None:
            as_device(self.device)
        non_negative("checkpoint_every", self.checkpoint_every)
        if self.tensorboard:
            TensorBoard(Path())  # raises, before any folder is created, if the package is missing


def create_runs(
    runs: Mapping[str, Run],
    out: Path | None,
    name: str,
    execution: ExecutionOptions,
    processes: Processes = SINGLE_PROCESS,
) -> tuple[Path, PreparedRun | None]:
    """Check the runs, then create a folder for each.

    Args:
        runs: by the name of the folder; "." stands for ``out`` itself.
        out: folder of all runs; default: the first of ``runs/NAME``, ``runs/NAME-2``, … that does not exist.
        name: see ``out``.
        execution: how the runs will be executed.
        processes: the processes that will train; rank 0 creates the folders.

    Returns:
        The folder that holds all of them, and the first run, prepared, on rank 0.

    Raises:
        ValueError, FileNotFoundError, DataError: if a run cannot be trained; nothing is created then.
        OSError: if a folder cannot be created or is not empty; whatever was created is removed.
        CommandFailedError: if the disk is full; whatever was created is removed.
    """
    device = execution.device or "cpu"
    for run in runs.values():
        processes.check_estimator(run.estimator, device)
    prepared: list[PreparedRun] = []  # not returned from `run_on_rank0`, which would send it to all processes

    def prepare_and_create() -> Path:
        first = next(iter(runs.values()))
        prepared.append(prepare_run(first, device, download_progress(first.data.name)))
        check_training(prepared[0])
        return create_folders(runs, out, name, device, processes)

    return processes.run_on_rank0(prepare_and_create), prepared[0] if prepared else None


def group_seeds(folders: Sequence[Path], processes: Processes) -> list[list[RunFolder]]:
    """Return the run folders in groups that are trained as one batched computation, in the order of the first of each.

    Prints why the seeds of a run are trained one after the other, if they are.

    Raises:
        ValueError: if a folder contains no valid run.
    """
    same: dict[str, list[RunFolder]] = {}
    for place in map(RunFolder, folders):
        same.setdefault(config_without_seed(place.run), []).append(place)
    groups = []
    for group in same.values():
        run = group[0].run
        distributed = "several processes train one seed together" if processes.size > 1 else None
        reason = (distributed or unsupported_reason(run)) if len(group) > 1 else None
        if reason:
            echo(f"{run.name}, {run.method}: one seed after the other: {reason}")
        groups += [[place] for place in group] if reason else [group]
    return groups


def train_runs(
    groups: Sequence[Sequence[RunFolder]],
    execution: ExecutionOptions,
    root: str | None,
    top: Path,
    processes: Processes = SINGLE_PROCESS,
    prepared: PreparedRun | None = None,
    again: str | None = None,
) -> int:
    """Start or resume every run that is not finished; return the exit code, 1 if figures could not be drawn.

    Args:
        groups: run folders; the runs of a group differ in the seed only and are trained together.
        execution: how the runs are executed.
        root: folder to look for the data in first.
        top: folder that holds all of them, for messages.
        processes: the processes that train.
        prepared: the run of the first folder, if it has been prepared.
        again: what to do after an interruption, for messages; default: resume ``top``.

    Raises:
        TrainingDivergedError: if a training diverges; the rest of its group is trained, later groups are not started.
        CommandFailedError: if the disk is full, or another process is lost.
        Interrupted: if a signal stopped the training.
        ValueError, OSError: if a folder contains no valid run; no other run is started then.
    """
    again = again or f"`eqprop train --resume {top}`"
    places = [place for group in groups for place in group]
    for place in places:
        _ = place.run  # read now: all must be valid before the first is trained
    finished = [place for place in places if len(places) > 1 and place.is_finished()]
    drawn = True
    for group in groups:
        for place in group:
            if place in finished:
                echo(f"{place.path} is finished")
        if not all(place in finished for place in group):
            drawn &= _train_group(group, places, execution, root, top, again, processes, prepared)
            prepared = None  # its model is trained now
    if processes.is_rank0:
        can_draw(execution.plots)  # says how to install matplotlib
    return 0 if drawn else 1


def _train_group(
    group: Sequence[RunFolder],
    places: Sequence[RunFolder],
    execution: ExecutionOptions,
    root: str | None,
    top: Path,
    again: str,
    processes: Processes,
    prepared: PreparedRun | None,
) -> bool:
    """Train one group, and say how to go on if it is stopped. Return whether its figures are drawn."""
    try:
        if len(group) > 1:
            return _train_batched(group, execution, root, top, again, prepared)
        return _train_one(group[0], execution, root, again, processes, prepared)
    except KeyboardInterrupt as stop:
        if processes.is_rank0 and all(place.is_finished() for place in places):
            sys.stderr.write(f"all runs are trained; draw their figures with `eqprop plot {top}`\n")
        elif processes.is_rank0:
            sys.stderr.write(f"stopped; go on with {again}\n")
        raise (stop if isinstance(stop, Interrupted) else Interrupted(signal.SIGINT)) from None
    except BrokenPipeError:
        sys.stderr.write(f"standard output was closed; go on with {again}\n")
        raise
    except ProcessLostError as error:
        advice = f"the last checkpoint is complete: go on with `torchrun … -m eqprop train --resume {top}`"
        raise CommandFailedError(f"{group[0].path}: {error}\n{advice}") from None
    except FloatingPointError as error:
        raise _diverged(group[0].path, error) from None


def _diverged(folder: Path, error: FloatingPointError) -> TrainingDivergedError:
    advice = "lower the learning rate (--optimizer.rates), or check beta and the data"
    kept = f"the last finite weights are kept: `eqprop evaluate {folder}` tests them"
    return TrainingDivergedError(folder, str(error), f"{advice}; {kept}")


def _train_batched(
    places: Sequence[RunFolder],
    execution: ExecutionOptions,
    root: str | None,
    top: Path,
    again: str,
    prepared: PreparedRun | None,
) -> bool:
    """Train runs that differ in their seed only as one batched computation, then draw each. Return whether all are drawn."""
    runs = [place.run for place in places]
    _print_notes(runs[0])
    callbacks = create_seed_callbacks(runs, [place.path for place in places], tensorboard=execution.tensorboard)
    with report_full_disk(top, again, "the last checkpoints are complete"):
        outcomes = train_seeds(
            places,
            prepared=prepared,
            device=execution.device,
            root=root,
            callbacks=callbacks,
            checkpoint_every=execution.checkpoint_every,
        )
    diverged = {folder: outcome for folder, outcome in outcomes.items() if isinstance(outcome, FloatingPointError)}
    trained = [place for place in places if place.path in outcomes.keys() - diverged.keys()]
    drawn = [_draw(place, execution, root) for place in trained]
    for folder, error in [*diverged.items()][1:]:
        echo(f"{folder}: the training diverged: {error}")
    for folder, error in diverged.items():
        raise _diverged(folder, error)
    return all(drawn)


def _train_one(
    place: RunFolder,
    execution: ExecutionOptions,
    root: str | None,
    again: str,
    processes: Processes,
    prepared: PreparedRun | None,
) -> bool:
    """Train one run, then draw it. Return whether it is drawn."""
    run, callbacks = place.run, []
    if processes.is_rank0:
        _print_notes(run)
        callbacks = create_callbacks(run.title, place.path, tensorboard=execution.tensorboard)
    with report_full_disk(place.path, again, "the last checkpoint is complete"):
        train_run(
            place,
            prepared=prepared,
            device=execution.device,
            root=root,
            callbacks=callbacks,
            checkpoint_every=execution.checkpoint_every,
            processes=processes,
        )
    return _draw(place, execution, root, prepared) if processes.is_rank0 else True


def _draw(place: RunFolder, execution: ExecutionOptions, root: str | None, prepared: PreparedRun | None = None) -> bool:
    """Draw a run; what goes wrong is reported at once, since other runs may follow. Return whether all went well."""
    if execution.plots and drawable():
        try:
            draw_run(place, execution.device, root, prepared)
        except DrawingFailedError as error:
            sys.stderr.write(f"eqprop: {error}\n")
            return False
    return True


def _print_notes(run: Run) -> None:
    """Print what the options alone do not show of a spiking network."""
    model = run.model
    rates = model.dynamics.differentiable_equivalent()
    if run.estimator.uses_rate_model and rates is not model.dynamics:
        echo(f"{run.method} trains the network of rates, {rates}, since spikes have no gradient; tests use spikes")
    if isinstance(model, ConvNet) and model.pool in ("max", "softmax"):
        dynamics = model.dynamics
        if isinstance(dynamics, Spiking) and dynamics.decode == "after":
            echo(f"{model.pool} pooling of spikes misleads EP: use --model.dynamics.decode before, or --model.pool avg")
