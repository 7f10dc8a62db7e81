"""``eqprop export FOLDER --to FILE.nir``: write a trained spiking model for neuromorphic hardware and its simulators."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from eqprop._core.checks import positive
from eqprop.cli.commands.evaluate import one_run
from eqprop.cli.console import echo
from eqprop.cli.errors import report_full_disk
from eqprop.cli.options import parse
from eqprop.spiking.nir import installed, write_nir
from eqprop.training.session import load

__all__ = ["Export", "main"]


@dataclass(frozen=True)
class Export:
    """Write the spiking model of a run folder as a graph of NIR, the neuromorphic intermediate representation.

    Args:
        folder: a run folder.
        to: the file to write, such as model.nir; nothing may be there.
        which: the weights of the last epoch or batch, or of the best epoch by validation, else training, error.
        tick: how long a tick is in NIR's unit of time, which many take for seconds.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    to: Path
    which: Literal["last", "best"] = "last"
    tick: float = 1.0

    def __post_init__(self) -> None:
        positive("tick", self.tick)


def main(words: list[str]) -> int:
    """Write the file, and say so."""
    options = parse(Export, words, "eqprop export")
    installed()
    free(options.to)
    model = load(one_run(options.folder), options.which)
    with report_full_disk(options.to, "export again"):
        write_nir(model, options.to, options.tick)
    echo(f"{options.to}: a NIR graph to be stepped for {model.settle.steps} ticks of {options.tick:g}, from zero")
    return 0


def free(path: Path) -> None:
    """See that a file can go there.

    Raises:
        FileExistsError: if there is something.
        FileNotFoundError: if there is no folder for it.
    """
    if path.is_symlink() or path.exists():
        raise FileExistsError(f"{path} is there already: name another file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}: make it, or name another file")
