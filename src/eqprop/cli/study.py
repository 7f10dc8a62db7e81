"""Several runs in one folder: laid out first, then carried out one after the other, so that a kill loses none of them."""

import errno
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from eqprop.cli.errors import Failed
from eqprop.cli.pictures import draw_run
from eqprop.cli.show import download_progress, reports, say
from eqprop.training.folder import Folder
from eqprop.training.interrupts import Interrupted
from eqprop.training.run import Run
from eqprop.training.session import finished, prepare, proceed, read_run, start

__all__ = ["Means", "carry_out", "free_folder", "lay_out", "runs_in"]

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a disk in the middle of a training."""


@dataclass(frozen=True)
class Means:
    """How a training is carried out; nothing here changes what comes of it.

    Args:
        device: where to train: "cpu", "cuda" or "cuda:1".
        checkpoint_every: seconds between checkpoints within an epoch; there is one after every epoch in any case.
        tensorboard: also write event files for TensorBoard (needs the extra eqprop[tensorboard]).
        plots: draw pictures at the end (needs the extra eqprop[plot]).
    """

    device: str = "cpu"
    checkpoint_every: float = 60.0
    tensorboard: bool = False
    plots: bool = True

    def __post_init__(self) -> None:
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"`device` {self.device!r} is not there: {str(error).splitlines()[0]}") from None
        if not self.checkpoint_every >= 0:
            raise ValueError(f"`checkpoint_every` must be at least 0 seconds, got {self.checkpoint_every!r}")


def free_folder(name: str) -> Path:
    """``runs/NAME``, or the first of ``runs/NAME-2``, ``runs/NAME-3``, … that is not there."""
    number, path = 1, Path("runs", name)
    while path.exists():
        number += 1
        path = Path("runs", f"{name}-{number}")
    return path


def lay_out(runs: Mapping[str, Run], out: Path, means: Means) -> list[Path]:
    """Check the runs, then make a folder for each below ``out``; the name "." stands for ``out`` itself.

    Raises:
        ValueError, FileNotFoundError, DataError: if a run cannot be carried out; nothing is created then.
        FileExistsError: if there is something in a folder already.
    """
    first = next(iter(runs.values()))
    prepare(first, means.device, download_progress(first.data.name))
    if out.is_dir() and any(out.iterdir()) and "." not in runs:
        raise FileExistsError(f"{out} is not empty: go on with `--resume {out}`, or name another folder")
    for name, run in runs.items():
        start(run, out / name, means.device)
    return [out / name for name in runs]


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


def carry_out(folders: Sequence[Path], means: Means, root: str | None, top: Path) -> None:
    """Begin or go on with each run that is not finished.

    Raises:
        Failed: if a training diverges or its disk is full.
        Interrupted: if a signal stopped it.
    """
    for folder in folders:
        if finished(Folder(folder)) and len(folders) > 1:
            say(f"{folder} is finished")
            continue
        run = read_run(folder)
        told = reports(run.title, folder, tensorboard=means.tensorboard)
        try:
            proceed(folder, device=means.device, root=root, reports=told, checkpoint_every=means.checkpoint_every)
        except Interrupted:
            sys.stderr.write(f"stopped; go on with `eqprop train --resume {top}`\n")
            raise
        except FloatingPointError as error:
            kept = "the last checkpoint before that is kept"
            raise Failed(f"{folder}: the training diverged: {error}\n{kept}") from None
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            again = f"the last checkpoint is whole: make room, then `eqprop train --resume {top}`"
            raise Failed(f"{folder}: {error.strerror}\n{again}") from None
        if means.plots:
            draw_run(folder, means.device, root)
