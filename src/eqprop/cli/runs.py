"""Several runs in one folder: laid out first, then carried out one after the other, so that a kill loses none of them."""

import errno
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from eqprop._core.checks import non_negative
from eqprop.cli.console import download_progress, echo, reports, reports_of_seeds
from eqprop.cli.devices import as_device
from eqprop.cli.errors import Diverged, Failed
from eqprop.cli.figures import draw_run, drawable
from eqprop.models.convnet import ConvNet
from eqprop.spiking import Spiking
from eqprop.training.config.run import ModelSpec, Run
from eqprop.training.distributed.gloo import ProcessLostError
from eqprop.training.distributed.processes import SINGLE_PROCESS, Processes
from eqprop.training.progress.callbacks import TensorBoard
from eqprop.training.run_folder import RunFolder
from eqprop.training.seeds import config_without_seed, train_seeds, unsupported_reason
from eqprop.training.session import create_run, prepare_run, read_run, train_run
from eqprop.training.signals import Interrupted

__all__ = ["ExecutionOptions", "at_once", "carry_out", "lay_out", "runs_in"]

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a disk in the middle of a training."""


@dataclass(frozen=True)
class ExecutionOptions:
    """How a training is carried out; nothing here changes what comes of it.

    Args:
        device: where to train: "cpu", "cuda" or "cuda:1"; the CPU, or what a resumed run began on, where left out.
        checkpoint_every: seconds between checkpoints within an epoch; there is one after every epoch in any case.
        tensorboard: also write event files for TensorBoard (needs the extra eqprop[tensorboard]).
        plots: draw pictures at the end (needs the extra eqprop[plot]).
    """

    device: str | None = None
    checkpoint_every: float = 60.0
    tensorboard: bool = False
    plots: bool = True

    def __post_init__(self) -> None:
        if self.device is not None:
            as_device(self.device)
        non_negative("checkpoint_every", self.checkpoint_every)
        if self.tensorboard:
            TensorBoard(Path())  # says how to install it, now and not after the folders are made


def lay_out(
    runs: Mapping[str, Run], out: Path | None, name: str, means: ExecutionOptions, processes: Processes = SINGLE_PROCESS
) -> Path:
    """Check the runs, then make a folder for each.

    Args:
        runs: by the folder's name; "." stands for ``out`` itself.
        out: the folder of all; ``runs/NAME``, or the first of ``runs/NAME-2``, … that is free, if left out.
        name: see ``out``.
        means: how they are to be carried out.
        processes: by which; the first of them makes the folders.

    Raises:
        ValueError, FileNotFoundError, DataError: if a run cannot be carried out; nothing is created then.
        OSError: if a folder cannot be made or there is something in it; what was made is removed again.
    """
    device = means.device or "cpu"
    for run in runs.values():
        processes.check_estimator(run.estimator, device)
    return processes.run_on_rank0(lambda: folders_for(runs, out, name, device, processes))


def folders_for(runs: Mapping[str, Run], out: Path | None, name: str, device: str, processes: Processes) -> Path:
    """See `lay_out`."""
    first = next(iter(runs.values()))
    prepare_run(first, device, download_progress(first.data.name))
    new = out is None or not out.exists()
    top = claim(name) if out is None else out
    if not new and top.is_dir() and any(top.iterdir()) and "." not in runs:
        held = any(top.rglob("config.json"))
        hint = f"go on with `--resume {top}`, or name" if held else "name"
        raise FileExistsError(f"{top} is not empty: {hint} another folder")
    try:
        for part, run in runs.items():
            create_run(run, top / part, device, processes)
    except BaseException as error:
        if new and not isinstance(error, FileExistsError):
            shutil.rmtree(top, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise Failed(f"{error.filename}: {error.strerror}: make room, or name another folder") from None
        raise
    return top


def claim(name: str) -> Path:
    """A new folder ``runs/NAME``, or ``runs/NAME-2``, …; of several processes each gets its own."""
    for number in count(1):
        path = Path("runs", name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if path.parent.is_dir():
                continue
            raise
        return path
    raise AssertionError


def runs_in(folder: Path) -> list[Path]:
    """The run folders in a folder, itself included.

    Raises:
        FileNotFoundError: if there is none.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: name one that `eqprop train` or `eqprop compare` made")
    found = sorted(config.parent for config in folder.rglob("config.json"))
    if not found:
        raise FileNotFoundError(f"{folder} holds no run: there is no config.json in it")
    return found


def carry_out(
    groups: Sequence[Sequence[Path]],
    means: ExecutionOptions,
    root: str | None,
    top: Path,
    processes: Processes = SINGLE_PROCESS,
) -> None:
    """Begin or go on with each run that is not finished.

    Args:
        groups: folders of runs; those of a group, which differ in their seed, are trained at once.
        means: how.
        root: a folder to look for the data in first.
        top: the folder of all, for what is said.
        processes: by which.

    Raises:
        Diverged: if a training does; those at once with it have come to their end, those after it are not begun.
        Failed: if the disk is full, or another process is lost.
        Interrupted: if a signal stopped it.
        ValueError, OSError: if a folder holds no sound run; no other is begun then.
    """
    folders = [folder for group in groups for folder in group]
    for folder in folders:
        read_run(folder)  # every one is sound before the first begins
    done = {folder: RunFolder(folder).is_finished() and len(folders) > 1 for folder in folders}
    for group in groups:
        for folder in group:
            if done[folder]:
                echo(f"{folder} is finished")
        if all(done[folder] for folder in group):
            continue
        folder = group[0]
        try:
            if len(group) > 1:
                carry_on_at_once(group, means, root, top)
            else:
                carry_on(folder, means, root, processes)
        except KeyboardInterrupt as stop:
            ended = all(RunFolder(one).is_finished() for one in folders)
            resume, draw = (
                f"stopped; go on with `eqprop train --resume {top}`",
                f"trained; `eqprop plot {top}` draws it",
            )
            if processes.is_rank0:
                sys.stderr.write(f"{draw if ended else resume}\n")
            raise (stop if isinstance(stop, Interrupted) else Interrupted(signal.SIGINT)) from None
        except BrokenPipeError:
            sys.stderr.write(f"standard output has gone; go on with `eqprop train --resume {top}`\n")
            raise
        except ProcessLostError as error:
            again = f"torchrun … -m eqprop train --resume {top}"
            raise Failed(f"{folder}: {error}\nthe last checkpoint is whole: go on with `{again}`") from None
        except FloatingPointError as error:
            raise diverged(folder, error) from None
    if means.plots and not drawable() and processes.is_rank0:
        sys.stderr.write("eqprop: no pictures without matplotlib: pip install 'eqprop[plot]'\n")


def at_once(folders: Sequence[Path], processes: Processes) -> list[list[Path]]:
    """Groups of folders that are trained at once, in the order of the first of each; says why seeds of one run are not.

    Raises:
        ValueError: if a folder holds no sound run.
    """
    same: dict[str, list[Path]] = {}
    for folder in folders:
        same.setdefault(config_without_seed(read_run(folder)), []).append(folder)
    found = []
    for group in same.values():
        run = read_run(group[0])
        several = "several processes train one seed together" if processes.size > 1 else None
        reason = (several or unsupported_reason(run)) if len(group) > 1 else None
        if reason:
            echo(f"{run.name}, {run.method}: one seed after the other: {reason}")
        found += [[folder] for folder in group] if reason else [group]
    return found


def diverged(folder: Path, error: FloatingPointError) -> Diverged:
    """What is told of a training that met a number that is not finite."""
    kept = f"the weights from before are kept: `eqprop evaluate {folder}` tests them"
    advice = "lower the learning rate (--optimizer.rates), or look at beta and the data"
    return Diverged(folder, str(error), f"{advice}; {kept}")


def carry_on_at_once(folders: Sequence[Path], means: ExecutionOptions, root: str | None, top: Path) -> None:
    """Begin or go on with runs that differ in their seed, then draw each.

    Raises:
        Diverged: if one of them does; the others have come to their end.
    """
    runs = [read_run(folder) for folder in folders]
    caution(runs[0])
    told = reports_of_seeds(runs, folders, tensorboard=means.tensorboard)
    with room(top, f"`eqprop train --resume {top}`", "the last checkpoints are whole"):
        outcomes = train_seeds(
            folders, device=means.device, root=root, callbacks=told, checkpoint_every=means.checkpoint_every
        )
    lost = {folder: outcome for folder, outcome in outcomes.items() if isinstance(outcome, FloatingPointError)}
    for folder in outcomes.keys() - lost.keys() if means.plots and drawable() else ():
        with room(folder, f"`eqprop plot {folder}`", "it is trained, but its pictures could not be written"):
            draw_run(folder, means.device, root)
    for folder, error in [*lost.items()][1:]:
        echo(f"{folder}: the training diverged: {error}")
    for folder, error in lost.items():
        raise diverged(folder, error)


def carry_on(folder: Path, means: ExecutionOptions, root: str | None, processes: Processes) -> None:
    """Begin or go on with one run, then draw it."""
    run = read_run(folder)
    if processes.is_rank0:
        caution(run)
    told = reports(run.title, folder, tensorboard=means.tensorboard) if processes.is_rank0 else []
    with room(folder, f"`eqprop train --resume {folder}`", "the last checkpoint is whole"):
        train_run(
            folder,
            device=means.device,
            root=root,
            callbacks=told,
            checkpoint_every=means.checkpoint_every,
            processes=processes,
        )
    if means.plots and drawable() and processes.is_rank0:
        with room(folder, f"`eqprop plot {folder}`", "it is trained, but its pictures could not be written"):
            draw_run(folder, means.device, root)


def caution(run: Run) -> None:
    """Say what is not seen from the options alone."""
    twin = run.model.dynamics.differentiable_equivalent()
    if run.estimator.uses_rate_model and twin is not run.model.dynamics:
        echo(
            f"{run.method} trains through the network's twin, {twin}, since a spike has no gradient; tests take the spikes"
        )
    if pools_spikes(run.model):
        echo("max and softmax pooling of spikes mislead EP: take --model.dynamics.decode before, or --model.pool avg")


def pools_spikes(model: ModelSpec) -> bool:
    """Whether a pooling that is not linear is taken of spikes."""
    pooled = isinstance(model, ConvNet) and model.pool in ("max", "softmax")
    return pooled and isinstance(model.dynamics, Spiking) and model.dynamics.decode == "after"


@contextmanager
def room(folder: Path, again: str, kept: str) -> Iterator[None]:
    """A full disk stops a run, and it is said what is kept and how to go on."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise Failed(f"{folder}: {error.strerror}\n{kept}: make room, then {again}") from None
