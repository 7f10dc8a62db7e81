"""Where data sets are looked for, in this order, and where they are put.

1. the `root` argument (``--data.root``),
2. the folder that the environment variable ``EQPROP_DATA`` names,
3. the user's cache: ``$XDG_CACHE_HOME/eqprop`` or ``~/.cache/eqprop``; ``~/Library/Caches/eqprop`` on macOS,
4. ``/usr/share/datasets`` for Fashion-MNIST, where Debian's package ``dataset-fashion-mnist`` puts it.

The first two are *named*: a person said that the data is there, so what is wrong there is an error and is never passed over
in silence. A download goes to the first named root, or to the cache if none was named. Below each, a set has its own folder::

    mnist/train-images-idx3-ubyte[.gz] …    fashion-mnist/…    cifar-10/cifar-10-batches-bin/data_batch_1.bin …
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eqprop.data.files import locate
from eqprop.data.sources import File, Source

__all__ = ["Location", "absent", "cache", "holding", "offline", "search", "target"]

ROOT, VARIABLE, CACHE, SYSTEM = "`root`", "EQPROP_DATA", "the cache", "a system package"

DEBIAN = Path("/usr/share/datasets")


@dataclass(frozen=True)
class Location:
    """A folder of data sets.

    Attributes:
        path: the folder.
        origin: who says that data is there.
    """

    path: Path
    origin: str

    @property
    def named(self) -> bool:
        """Whether a person chose it."""
        return self.origin in (ROOT, VARIABLE)

    @property
    def ours(self) -> bool:
        """Whether all that is in it was put there by this package."""
        return self.origin == CACHE

    def __str__(self) -> str:
        return f"{self.path} ({self.origin})"


def search(source: Source, root: str | os.PathLike[str] | None = None) -> Iterator[Location]:
    """The places to look for `source`, best first.

    Raises:
        ValueError: if `root` is empty.
        FileNotFoundError: if a named place is not an existing folder; when it is reached, no earlier.
    """
    yield from map(existing, named(root))
    if home := cache():
        yield Location(home, CACHE)
    if source.manager == "apt":
        yield Location(DEBIAN, SYSTEM)


def holding(source: Source, root: str | os.PathLike[str] | None = None) -> Location | None:
    """The first place that holds all of `source`, or, where it is a named one, any of it; None if there is no such place.

    Raises:
        ValueError, FileNotFoundError: as `search`.
    """
    for place in search(source, root):
        missing = len(absent(source, place))
        if missing == 0 or (place.named and missing < len(source.files)):
            return place
    return None


def absent(source: Source, place: Location) -> list[File]:
    """The files of `source` that a place does not have."""
    return [file for file in source.files if locate(source, place.path / source.folder, file) is None]


def target(root: str | os.PathLike[str] | None = None) -> Location:
    """Where a set is put: the first named root, else the cache; it need not exist.

    Raises:
        ValueError: if `root` is empty.
        FileNotFoundError: if no root was named and this user has no home.
    """
    for place in named(root):
        return place
    if home := cache():
        return Location(home, CACHE)
    raise FileNotFoundError("this user has no home folder to keep data in: name a folder by EQPROP_DATA")


def named(root: str | os.PathLike[str] | None) -> list[Location]:
    """The places that a person chose, best first."""
    if root is not None and not os.fspath(root):
        raise ValueError(f"`root` must name a folder, got {root!r}")
    chosen = ((root, ROOT), (os.environ.get("EQPROP_DATA"), VARIABLE))
    return [Location(Path(os.path.expanduser(path)), origin) for path, origin in chosen if path]


def existing(place: Location) -> Location:
    """The place itself, if it is a folder that can be listed."""
    try:
        os.scandir(place.path).close()
    except OSError as error:
        raise FileNotFoundError(f"{place} is no folder to read data from: {error.strerror or error}") from error
    return place


def cache() -> Path | None:
    """This user's cache folder; None for a user without a home."""
    if sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        chosen = os.environ.get("XDG_CACHE_HOME", "")
        base = chosen if os.path.isabs(chosen) else "~/.cache"
    path = Path(os.path.expanduser(base))
    return path / "eqprop" if path.is_absolute() else None


def offline() -> bool:
    """Whether the environment variable ``EQPROP_OFFLINE`` forbids downloads.

    Raises:
        ValueError: if it is neither yes nor no.
    """
    value = os.environ.get("EQPROP_OFFLINE", "").strip().lower()
    if value in ("1", "true", "yes", "on"):
        return True
    if value in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(f"`EQPROP_OFFLINE` must be 1 or 0, got {value!r}")
