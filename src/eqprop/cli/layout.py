"""The folders of several runs. A manifest, ``runs.json``, is written before the first of them and holds every run.

A kill may come while the folders are created. The manifest then says which runs are missing, and `complete_runs` creates them
when the runs are resumed. Folders of earlier versions have no manifest; their runs are those that are there.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from warnings import warn

from eqprop._core.available_memory import is_out_of_memory
from eqprop._core.checks import ArgumentError
from eqprop._core.files import DamagedError, write_atomic
from eqprop.cli.console import echo
from eqprop.cli.errors import DISK_ERRORS, CommandFailedError, describe
from eqprop.cli.targets import numbered_folder
from eqprop.training.config.run import Run
from eqprop.training.distributed.processes import SINGLE_PROCESS, Processes
from eqprop.training.run_folder import MANIFEST, RunFolder
from eqprop.training.session import create_run

__all__ = ["complete_runs", "create_folders", "find_runs", "missing_runs", "remove_unless_started"]

_LEVELS = 2
"""Folders between a manifest and its runs: METHOD/seed-N."""


@dataclass(frozen=True)
class Manifest:
    """What the folder of several runs will hold.

    Args:
        runs: by the path of the run folder, relative to the folder of the manifest.
        device: kind of device that the runs are created for: "cpu" or "cuda".
    """

    runs: Mapping[str, Run]
    device: str

    def to_json(self) -> str:
        """Return the text of the file."""
        runs = {part: json.loads(run.to_json()) for part, run in self.runs.items()}
        return json.dumps({"device": self.device, "runs": runs}, indent=1) + "\n"

    @classmethod
    def read(cls, file: Path) -> "Manifest":
        """Read the file.

        Raises:
            DamagedError: if it is not a manifest.
        """
        try:
            facts = json.loads(file.read_bytes())
            runs = {_inside(part): Run.from_json(json.dumps(run)) for part, run in facts["runs"].items()}
            return cls(runs, facts["device"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            reason = " ".join(str(error).split())[:200]
            advice = "restore it, or remove it to resume only the runs that are there"
            raise DamagedError(f"{file} is not a list of runs ({reason}): {advice}") from None


def _inside(part: str) -> str:
    """Return a relative path that does not leave its folder."""
    path = PurePosixPath(part)
    if path.is_absolute() or ".." in path.parts or not path.parts or len(path.parts) > _LEVELS:
        raise ValueError(f"{part!r} is not the place of a run")
    return part


def create_folders(runs: Mapping[str, Run], out: Path | None, name: str, device: str, processes: Processes) -> Path:
    """Create a folder for each run; after an error, whatever was created is removed.

    Args:
        runs: by the name of the folder; "." alone stands for ``out`` itself.
        out: folder of all runs; default: `numbered_folder` of ``name``.
        name: see ``out``.
        device: device of the runs.
        processes: the processes that will train.

    Raises:
        FileExistsError: if the folder is not empty; nothing is changed.
        CommandFailedError: if the disk is full.
    """
    top = numbered_folder(name) if out is None else out
    try:
        with _report_disk():
            if list(runs) == ["."]:
                create_run(runs["."], top, device, processes)
                return top
            with RunFolder(top).creation():
                write_atomic(top / MANIFEST, Manifest(runs, device.partition(":")[0]).to_json())
                for part, run in runs.items():
                    create_run(run, top / part, device, processes)
    except BaseException:
        if out is None:
            with suppress(OSError):
                top.rmdir()
        raise
    return top


@contextmanager
def _report_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        message = f"{error.filename}: {error.strerror}: make room, or name another folder"
        raise CommandFailedError(message) from None


def find_runs(folder: Path) -> list[Path]:
    """Return the run folders in a folder, itself included.

    Raises:
        FileNotFoundError: if there is none.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: name one that `eqprop train` or `eqprop compare` created")
    found = sorted(config.parent for config in folder.rglob("config.json"))
    if not found:
        killed = any(folder.iterdir()) and RunFolder(folder).is_unused()
        why = "the command that created it was killed: give it again" if killed else "there is no config.json in it"
        raise FileNotFoundError(f"{folder} contains no run: {why}")
    return found


def missing_runs(folder: Path) -> list[Path]:
    """Return the run folders in a folder that a manifest names and that have not been created.

    Raises:
        DamagedError: if a manifest in the folder is damaged.
    """
    return [top / part for top, manifest in _manifests(folder) for part in _missing(top, manifest, folder)]


def complete_runs(folder: Path, device: str | None, processes: Processes = SINGLE_PROCESS) -> None:
    """Create the runs that a killed command left out of a folder; with several processes, only one calls this.

    Args:
        folder: folder of several runs, or one of the run folders.
        device: device of the runs; None for the one that they were to be created for.
        processes: the processes that will train.

    Raises:
        DamagedError: if a manifest is damaged, or the folder of a missing run holds files.
        BlockingIOError: if another process is creating them.
        ArgumentError: if they were to be created for a GPU and this machine has none.
        CommandFailedError: if the disk is full.
    """
    manifests = _manifests(folder)
    if not manifests:
        _warn_of_unfinished(folder)
    for top, manifest in manifests:
        if not _missing(top, manifest, folder):
            continue
        with RunFolder(top).lock(), _report_disk():
            for part, run in _missing(top, manifest, folder).items():  # again: the lock is held only now
                _create_missing(run, top / part, device, manifest.device, processes)


def _warn_of_unfinished(folder: Path) -> None:
    """Warn of run folders that an earlier version, which wrote no manifest, was killed in."""
    for checkpoints in sorted(folder.rglob("checkpoint")):
        if checkpoints.parent != folder and not RunFolder(checkpoints.parent).config.exists():
            warn(
                f"{checkpoints.parent} holds no run: the command that created it was killed; runs after it may be missing too, "
                "and only those that are there are trained",
                stacklevel=2,
            )


def _create_missing(run: Run, folder: Path, device: str | None, planned: str, processes: Processes) -> None:
    if not RunFolder(folder).is_unused():
        advice = "restore it, or remove the folder to train this run anew"
        raise DamagedError(f"{folder} holds files, but its config.json is missing: {advice}")
    try:
        create_run(run, folder, device or planned, processes)
    except ArgumentError as error:
        if device is not None or error.argument != "device":
            raise
        message = (
            f"{folder} is to be trained on {planned!r}, which PyTorch does not find here: continue with --device cpu"
        )
        raise ArgumentError("device", message) from None
    echo(f"{folder} was missing and is created now")


def _missing(top: Path, manifest: Manifest, folder: Path) -> dict[str, Run]:
    """Return the runs of a manifest at or below a folder that have no ``config.json``."""
    wanted = {part: run for part, run in manifest.runs.items() if folder in (top / part, *(top / part).parents)}
    return {part: run for part, run in wanted.items() if not RunFolder(top / part).config.exists()}


def _manifests(folder: Path) -> list[tuple[Path, Manifest]]:
    """Return the manifests in a folder, and the one above it that names it or a run in it, each with its folder."""
    found = [(file.parent, Manifest.read(file)) for file in sorted(folder.rglob(MANIFEST))]
    for top in [*folder.parents][:_LEVELS]:
        with suppress(DamagedError):  # somebody else's file of that name
            found.append((top, Manifest.read(top / MANIFEST)))
    return found


@contextmanager
def remove_unless_started(folders: Sequence[Path], top: Path, processes: Processes = SINGLE_PROCESS) -> Iterator[None]:
    """Remove the folders of new runs if their training is refused, or does not fit into memory, before anything was trained.

    Args:
        folders: run folders that this command has created.
        top: folder that holds all of them.
        processes: the processes that train; rank 0 removes.
    """
    try:
        yield
    except Exception as error:
        refused = describe(error)[1] == 2 or is_out_of_memory(error)
        if processes.is_rank0 and refused and not any(RunFolder(folder).has_started for folder in folders):
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
            for name in (MANIFEST, ".lock"):
                (top / name).unlink(missing_ok=True)
            above = {path for folder in folders for path in folder.parents if top in (path, *path.parents)}
            with suppress(OSError):
                for path in sorted(above, reverse=True):  # subfolders before the folders that hold them
                    path.rmdir()
        raise
