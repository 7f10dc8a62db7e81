"""``eqprop export FOLDER --to FILE.nir``: export a trained spiking model for neuromorphic hardware and simulators."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from eqprop._core.checks import positive
from eqprop.cli.commands.evaluate import one_run
from eqprop.cli.console import echo
from eqprop.cli.errors import report_full_disk
from eqprop.cli.options import parse
from eqprop.cli.targets import check_writable
from eqprop.spiking.nir import import_nir, write_nir
from eqprop.training.session import load

__all__ = ["Export", "main"]


@dataclass(frozen=True)
class Export:
    """Write the spiking model of a run folder as a graph of NIR, the neuromorphic intermediate representation.

    Args:
        folder: a run folder.
        to: the file to write, such as model.nir; it must not exist.
        which: weights of the last checkpoint, or of the epoch with the lowest validation error (training error without a
            validation set).
        tick: duration of a tick in NIR's unit of time, often seconds.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    to: Path
    which: Literal["last", "best"] = "last"
    tick: float = 1.0

    def __post_init__(self) -> None:
        positive("tick", self.tick)


def main(words: list[str]) -> int:
    """Write the file and print how to run it."""
    options = parse(Export, words, "eqprop export")
    import_nir()
    _check_target(options.to)
    model = load(one_run(options.folder), options.which)
    with report_full_disk(options.to, "export again"):
        write_nir(model, options.to, options.tick)
    echo(f"{options.to}: a NIR graph; run it for {model.settle.steps} ticks of {options.tick:g} from the zero state")
    return 0


def _check_target(path: Path) -> None:
    """Check that a new file can be written to the path.

    Raises:
        FileExistsError: if the path exists.
        FileNotFoundError: if its folder does not exist.
    """
    if path.is_symlink() or path.exists():
        raise FileExistsError(f"{path} already exists: name another file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist: create it, or name another file")
    check_writable(path.parent)
