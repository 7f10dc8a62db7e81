"""What a check is about: the first word of ``gdu`` and ``tune`` names a recipe, or the folder of a trained model."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill

from eqprop.cli.errors import Failed, UsageError, unknown
from eqprop.cli.figures import drawable
from eqprop.cli.runs import NO_ROOM, claim
from eqprop.models.model import Model
from eqprop.training import checkpoint
from eqprop.training.run_folder import RunFolder

__all__ = ["can_draw", "first_word", "makeable", "new_folder", "put_weights", "trained_folder", "vacant", "writing"]


def first_word(words: list[str], command: str, known: Sequence[str]) -> tuple[str, list[str]]:
    """The name of a recipe or of a folder, and the rest.

    Raises:
        UsageError: if there is neither of that name.
        SystemExit: after ``--help``.
    """
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(usage(command, known))
        raise SystemExit(0 if words else 2)
    name, rest = words[0], words[1:]
    if name.startswith("-"):
        raise UsageError(f"the recipe comes first: `eqprop {command} RECIPE [OPTIONS]`, got {name!r}")
    if name not in known and not Path(name).is_dir():
        raise unknown("recipe or run folder", name, known, f"`eqprop {command} --help` lists the recipes")
    return name, rest


def usage(command: str, known: Sequence[str]) -> str:
    """What ``--help`` says before a recipe is named."""
    return (
        f"usage: eqprop {command} RECIPE [OPTIONS]\n       eqprop {command} RUN_FOLDER [OPTIONS]\n\n"
        + fill(f"recipes: {', '.join(known)}", 100, break_on_hyphens=False)
        + "\n"
        "RUN_FOLDER: of a training; its last weights are taken in the place of newly drawn ones\n\n"
        f"`eqprop {command} RECIPE --help` lists the options, with that recipe's values\n"
    )


def trained_folder(name: str, known: Sequence[str]) -> Path | None:
    """The folder that a first word names, if it is no recipe."""
    return None if name in known else Path(name)


def put_weights(model: Model, folder: Path) -> str:
    """Give a model the last weights of a run folder, and say which these are.

    Raises:
        ValueError: if they are another model's, or the checkpoint is damaged.
        FileNotFoundError: if there are none yet.
    """
    path = RunFolder(folder).last
    tensors, facts = checkpoint.read(path)
    checkpoint.load_weights(model, tensors, path)
    return f"trained, epoch {facts['epoch']}"


def new_folder(out: Path | None, name: str) -> Path:
    """A new folder for results: ``runs/NAME`` or the next free number of it, where none is named.

    Raises:
        FileExistsError: if there is something in the folder that was named.
        OSError: if it cannot be made.
    """
    if out is None:
        return claim(name)
    vacant(out)
    out.mkdir(parents=True, exist_ok=True)
    return out


def vacant(out: Path | None) -> None:
    """See that nothing is where results are to go, before they are there to be lost.

    Raises:
        FileExistsError: if there is something.
        OSError: if no folder can be made there.
    """
    if out is None:
        return
    makeable(out)
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty: name another folder")


def makeable(out: Path) -> None:
    """See that results can go to a folder: that it is one, or that nothing but its absence is in the way.

    Raises:
        FileExistsError, NotADirectoryError, PermissionError: if they cannot.
    """
    above = next(path for path in (out, *out.parents) if path.is_symlink() or path.exists())
    if not above.is_dir():
        kind = FileExistsError if above == out else NotADirectoryError
        raise kind(f"{out}: {above} is no folder: name another one")
    if not os.access(above, os.W_OK):
        raise PermissionError(f"{out}: {above} must not be written to: name another folder")


def can_draw(wanted: bool = True) -> bool:
    """Whether pictures are drawn; where they are wanted and cannot be, it is said how to get them."""
    if wanted and not drawable():
        sys.stderr.write("eqprop: no pictures without matplotlib: pip install 'eqprop[plot]'\n")
    return wanted and drawable()


@contextmanager
def writing(folder: Path, again: str = "do it again in another folder") -> Iterator[None]:
    """Results are written; a full disk is told in a line.

    Raises:
        Failed: if there is no room.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise Failed(f"{folder}: {error.strerror}: make room, then {again}") from None
