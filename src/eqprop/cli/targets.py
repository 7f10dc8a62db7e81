"""The first word of ``gdu`` and ``tune``, which names a recipe or a run folder, and the folders that results are written to."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from textwrap import fill

from eqprop._core.checks import ArgumentError
from eqprop.cli.errors import DISK_ERRORS, UsageError, unknown
from eqprop.cli.figures import drawable
from eqprop.models.model import Model
from eqprop.training import checkpoint
from eqprop.training.run_folder import RunFolder

__all__ = [
    "can_draw",
    "check_creatable",
    "check_folder_name",
    "check_vacant",
    "check_writable",
    "load_weights",
    "new_folder",
    "numbered_folder",
    "results_folder",
    "split_target",
    "trained_folder",
]


MAX_NAME = 200
"""Bytes of a run's name; a folder's may have 255, and numbers and words such as "compare" are added."""


def split_target(words: list[str], command: str, known: Sequence[str]) -> tuple[str, list[str]]:
    """Return the name of a recipe or of a run folder, and the remaining words.

    Raises:
        UsageError: if there is neither of that name.
        SystemExit: after ``--help``.
    """
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(_usage(command, known))
        raise SystemExit(0 if words else 2)
    name, rest = words[0], words[1:]
    if name.startswith("-"):
        raise UsageError(f"the recipe comes first: `eqprop {command} RECIPE [OPTIONS]`, got {name!r}")
    if name not in known and not Path(name).is_dir():
        raise unknown("recipe or run folder", name, known, f"`eqprop {command} --help` lists the recipes")
    return name, rest


def _usage(command: str, known: Sequence[str]) -> str:
    """Return the help that is shown when no recipe is named."""
    recipes = fill(f"recipes: {', '.join(known)}", 100, break_on_hyphens=False)
    return (
        f"usage: eqprop {command} RECIPE [OPTIONS]\n       eqprop {command} RUN_FOLDER [OPTIONS]\n\n{recipes}\n"
        "RUN_FOLDER: a trained run; its last weights are used instead of initial ones\n\n"
        f"`eqprop {command} RECIPE --help` lists the options, with that recipe's values\n"
    )


def trained_folder(name: str, known: Sequence[str]) -> Path | None:
    """Return the run folder that a first word names, or None if it names a recipe."""
    return None if name in known else Path(name)


def load_weights(model: Model, folder: Path) -> str:
    """Load the last weights of a run folder into a model, and return which they are.

    Raises:
        ValueError: if they are the weights of another model, or the checkpoint is damaged.
        FileNotFoundError: if there are none yet.
    """
    place = RunFolder(folder)
    path = place.last
    tensors, facts = checkpoint.read(path)
    checkpoint.check_training_facts(facts, path)
    place.check_config(facts, path)
    checkpoint.load_weights(model, tensors, path)
    return f"trained, epoch {facts['epoch']}"


def numbered_folder(name: str) -> Path:
    """Create the first of ``runs/NAME``, ``runs/NAME-2``, … that does not exist, also where several processes do so."""
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


def check_folder_name(name: str) -> None:
    """Check the name of a run, after which its folder is called.

    Raises:
        ArgumentError: if a folder cannot have it.
    """
    if name.strip() in ("", ".", "..") or "/" in name or not name.isprintable():
        raise ArgumentError("name", f"`name` must be a plain name without a /, got {name!r}")
    if len(name.encode()) > MAX_NAME:
        raise ArgumentError("name", f"`name` must have at most {MAX_NAME} bytes, got {name!r}")


def new_folder(out: Path | None, name: str) -> Path:
    """Return a new folder for results: the one given, else `numbered_folder`.

    Raises:
        FileExistsError: if the folder is not empty.
        OSError: if it cannot be created.
    """
    if out is None:
        return numbered_folder(name)
    check_vacant(out)
    out.mkdir(parents=True, exist_ok=True)
    return out


@contextmanager
def results_folder(out: Path | None, name: str) -> Iterator[Path]:
    """Create a new folder before its results are computed; remove it again if the computation fails before it writes any.

    Args:
        out: the folder; None for `numbered_folder` of the name.
        name: see ``out``.

    Raises:
        FileExistsError: if the folder is not empty.
        OSError: if it cannot be created or written to.
    """
    check_creatable(out or Path("runs"))
    above = [path for path in (out or Path("runs", name)).parents if not path.exists()]
    is_new = out is None or not out.exists()
    folder = new_folder(out, name)
    created = [folder] * is_new + above
    try:
        check_writable(folder)
        yield folder
    except BaseException:
        with suppress(OSError):  # the first of them that is not empty stays, and those above it
            for path in created:
                path.rmdir()
        raise


def check_writable(folder: Path) -> None:
    """Check that a file can be created in a folder.

    Raises:
        OSError: if not.
    """
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno in DISK_ERRORS:
            return  # reported, with advice, by what writes the results
        raise type(error)(error.errno, f"{error.strerror}: name another folder", str(folder)) from None


def check_vacant(out: Path | None) -> None:
    """Check, before results are computed, that a folder is empty or can be created.

    Raises:
        FileExistsError: if it is not empty.
        OSError: if it cannot be created.
    """
    if out is None:
        return
    check_creatable(out)
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty: name another folder")


def check_creatable(out: Path) -> None:
    """Check that a folder exists or can be created.

    Raises:
        FileExistsError, NotADirectoryError, PermissionError: if not.
    """
    above = next(path for path in (out, *out.parents) if path.is_symlink() or path.exists())
    if not above.is_dir():
        kind = FileExistsError if above == out else NotADirectoryError
        raise kind(f"{out}: {above} is not a folder: name another one")
    if not os.access(above, os.W_OK):
        raise PermissionError(f"{out}: {above} is not writable: name another folder")


def can_draw(wanted: bool = True) -> bool:
    """Return whether figures are drawn; prints how to install matplotlib if they are wanted and it is missing."""
    if wanted and not drawable():
        sys.stderr.write("eqprop: no pictures without matplotlib: pip install 'eqprop[plot]'\n")
    return wanted and drawable()
