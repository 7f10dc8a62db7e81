"""Where data sets are looked for, where downloads go, and a survey of what is there.

Locations are searched in this order:

1. the `root` argument (``--data.root``),
2. the folder in the environment variable ``EQPROP_DATA``,
3. the user's cache: ``$XDG_CACHE_HOME/eqprop`` or ``~/.cache/eqprop``; ``~/Library/Caches/eqprop`` on macOS,
4. ``/usr/share/datasets`` for Fashion-MNIST, where Debian's package ``dataset-fashion-mnist`` installs it.

The first two are *named* by the user, so a damaged file there is an error and the search does not continue. A download goes
to the first named location, or to the cache if there is none. Each data set has its own folder in a location::

    mnist/train-images-idx3-ubyte[.gz] …    fashion-mnist/…    cifar-10/cifar-10-batches-bin/data_batch_1.bin …
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eqprop._core.checks import ArgumentError
from eqprop.data.files import DataError, locate, read
from eqprop.data.sources import SOURCES, File, Source

__all__ = [
    "Entry",
    "Location",
    "Root",
    "check_root",
    "find_location",
    "is_offline",
    "missing_files",
    "search",
    "survey",
    "target_location",
]

Root = str | os.PathLike[str] | None

ROOT, VARIABLE, CACHE, SYSTEM = "`root`", "EQPROP_DATA", "the cache", "a system package"

DEBIAN = Path("/usr/share/datasets")


@dataclass(frozen=True)
class Location:
    """A folder of data sets.

    Attributes:
        path: the folder.
        origin: where the path comes from: `ROOT`, `VARIABLE`, `CACHE` or `SYSTEM`.
    """

    path: Path
    origin: str

    @property
    def is_named(self) -> bool:
        """Whether the user named this folder."""
        return self.origin in (ROOT, VARIABLE)

    @property
    def is_cache(self) -> bool:
        """Whether this is the cache, whose files all come from this package and can be replaced."""
        return self.origin == CACHE

    def __str__(self) -> str:
        return f"{self.path} ({self.origin})"


@dataclass(frozen=True)
class Entry:
    """State of one data set on this machine.

    Attributes:
        name: one of `NAMES`.
        state: ``"shipped"``, ``"found"``, ``"missing"``, ``"incomplete: …"`` or ``"corrupt: …"``, in one line.
        path: folder of the files; None if the data set is missing or shipped with the package.
        samples: number of training and test samples.
        shape: shape of one sample.
    """

    name: str
    state: str
    path: Path | None
    samples: tuple[int, int]
    shape: tuple[int, ...]


def survey(root: Root = None) -> list[Entry]:
    """Report the state of every data set. Reads and checks every file that `load` would use; downloads nothing.

    Args:
        root: folder of data sets to search first.

    Raises:
        ValueError: if `root` is empty.
        FileNotFoundError: if a named location is not a folder.

    >>> survey()[0].state
    'shipped'
    """
    return [_entry(source, root) for source in SOURCES.values()]


def _entry(source: Source, root: Root) -> Entry:
    if not source.files:
        return Entry(source.name, "shipped", None, source.sizes, source.shape)
    if (location := find_location(source, root)) is None:
        return Entry(source.name, "missing", None, source.sizes, source.shape)
    path = location.path / source.folder
    return Entry(source.name, _state(source, location), path, source.sizes, source.shape)


def _state(source: Source, location: Location) -> str:
    """Describe a data set of which at least one file exists."""
    for file in source.files:
        if path := locate(source, location.path / source.folder, file):
            try:
                read(path, file)
            except DataError as error:
                return f"corrupt: {error}"
    missing = ", ".join(file.name for file in missing_files(source, location))
    return f"incomplete: no {missing}" if missing else "found"


def search(source: Source, root: Root = None) -> Iterator[Location]:
    """Yield the locations to search for `source`, in order.

    Raises:
        ValueError: if `root` is empty.
        FileNotFoundError: if a named location is not a folder; raised when the iterator reaches it.
    """
    for location in _named_locations(root):
        _check_folder(location)
        yield location
    if home := cache_folder():
        yield Location(home, CACHE)
    if source.debian_package:
        yield Location(DEBIAN, SYSTEM)


def find_location(source: Source, root: Root = None) -> Location | None:
    """Return the first location with all files of `source`, or with any of them if the location is named; else None.

    Raises:
        ValueError, FileNotFoundError: as `search`.
    """
    for location in search(source, root):
        missing = len(missing_files(source, location))
        if missing == 0 or (location.is_named and missing < len(source.files)):
            return location
    return None


def missing_files(source: Source, location: Location) -> list[File]:
    """Return the files of `source` that do not exist in a location."""
    return [file for file in source.files if locate(source, location.path / source.folder, file) is None]


def target_location(root: Root = None) -> Location:
    """Return where downloads go: the first named location, else the cache. The folder need not exist.

    Raises:
        ValueError: if `root` is empty.
        FileNotFoundError: if no location was named and this user has no home folder.
    """
    for location in _named_locations(root):
        return location
    if home := cache_folder():
        return Location(home, CACHE)
    raise FileNotFoundError("this user has no home folder for a cache: set EQPROP_DATA to a folder for the data")


def check_root(root: Root) -> None:
    """Check the argument of a data set that needs no files: a wrong path is a mistake all the same.

    Raises:
        ValueError, FileNotFoundError: as `search`.
    """
    for location in _named_locations(root):
        if location.origin == ROOT:
            _check_folder(location)


def cache_folder() -> Path | None:
    """Return this user's cache folder; None for a user without a home folder."""
    if sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        chosen = os.environ.get("XDG_CACHE_HOME", "")
        base = chosen if os.path.isabs(chosen) else "~/.cache"
    path = Path(os.path.expanduser(base))  # left as it is ("~/…", relative) where there is no home folder
    return path / "eqprop" if path.is_absolute() else None


def is_offline() -> bool:
    """Return whether the environment variable ``EQPROP_OFFLINE`` forbids downloads.

    Raises:
        ValueError: if its value is not a yes or a no.
    """
    value = os.environ.get("EQPROP_OFFLINE", "").strip().lower()
    if value in ("1", "true", "yes", "on"):
        return True
    if value in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(f"`EQPROP_OFFLINE` must be 1 or 0, got {value!r}")


def _named_locations(root: Root) -> list[Location]:
    """Return the locations that the user named, in order."""
    if root is not None and not isinstance(root, str | os.PathLike):
        raise ArgumentError("root", f"`root` must be a path, got an object of class {type(root).__name__}")
    if root is not None and not os.fspath(root):
        raise ArgumentError("root", f"`root` must name a folder, got {root!r}")
    chosen = ((root, ROOT), (os.environ.get("EQPROP_DATA"), VARIABLE))
    return [Location(Path(os.path.expanduser(path)), origin) for path, origin in chosen if path]


def _check_folder(location: Location) -> None:
    """Raise FileNotFoundError unless a location is a folder that can be listed."""
    try:
        os.scandir(location.path).close()
    except OSError as error:
        raise FileNotFoundError(f"{location} is not a readable folder: {error.strerror or error}") from error
