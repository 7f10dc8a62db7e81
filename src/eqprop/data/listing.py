"""What is where: the list that ``eqprop data`` prints."""

import os
from dataclasses import dataclass
from pathlib import Path

from eqprop.data.errors import DataError
from eqprop.data.files import locate, read
from eqprop.data.locations import Location, absent, holding
from eqprop.data.sources import SOURCES, Source

__all__ = ["Entry", "survey"]


@dataclass(frozen=True)
class Entry:
    """What is known of one data set on this machine.

    Attributes:
        name: one of `NAMES`.
        state: ``"shipped"``, ``"found"``, ``"missing"``, ``"incomplete: …"`` or ``"corrupt: …"``; one line.
        path: the folder of its files; None if it is missing or shipped.
        samples: the number of training and of test samples.
        shape: of one sample.
    """

    name: str
    state: str
    path: Path | None
    samples: tuple[int, int]
    shape: tuple[int, ...]


def survey(root: str | os.PathLike[str] | None = None) -> list[Entry]:
    """What is where, for every data set; reads and checks every file that `load` would, downloads nothing.

    Args:
        root: a folder of data sets, searched first.

    Raises:
        ValueError: if `root` is empty.
        FileNotFoundError: if a named root is not a folder.

    >>> survey()[0].state
    'shipped'
    """
    return [entry(source, root) for source in SOURCES.values()]


def entry(source: Source, root: str | os.PathLike[str] | None) -> Entry:
    """What is known of one source."""
    if not source.files:
        return Entry(source.name, "shipped", None, source.sizes, source.shape)
    if (place := holding(source, root)) is None:
        return Entry(source.name, "missing", None, source.sizes, source.shape)
    return Entry(source.name, state(source, place), place.path / source.folder, source.sizes, source.shape)


def state(source: Source, place: Location) -> str:
    """The state of a set of which at least one file is there."""
    for file in source.files:
        if path := locate(source, place.path / source.folder, file):
            try:
                read(path, file)
            except DataError as error:
                return f"corrupt: {error}"
    missing = ", ".join(file.name for file in absent(source, place))
    return f"incomplete: no {missing}" if missing else "found"
