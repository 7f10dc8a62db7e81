"""Load data sets by name: `load` finds or downloads one, `fetch` only puts it on disk.

What `load` does depends on the location (`eqprop.data.locations`):

- The data set is complete: read it and compare the checksum of every file.
- No file exists: continue with the next location. After the last one, download, unless ``EQPROP_OFFLINE=1``.
- Some files are missing: in a named location, download the others or, offline, raise an error that names them. Elsewhere,
  continue as if there were none.
- A file is damaged: in a named location or a system package, raise an error. In the cache, download it again and warn or,
  offline, raise an error.

`fetch` replaces damaged files in any location.
"""

import shlex
import warnings
from contextlib import closing
from importlib.resources import files as resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from eqprop.data.digits import load_digits
from eqprop.data.files import DataError, Progress, is_intact, locate, read, write
from eqprop.data.locations import (
    ROOT,
    SYSTEM,
    Location,
    Root,
    check_root,
    find_location,
    is_offline,
    missing_files,
    search,
    target_location,
)
from eqprop.data.sources import File, Source, source_of
from eqprop.data.split import Samples, Split

__all__ = ["fetch", "load"]


def load(name: str, root: Root = None, progress: Progress | None = None) -> Split:
    """Load a data set from the first location that has it; download it if there is none.

    Args:
        name: one of `NAMES`.
        root: folder of data sets to search first; a download goes there.
        progress: called as ``progress(done, total)`` with the bytes of each file; `total` is None if unknown.

    Returns:
        ``(train, test)``, each ``(x, y)``: ``x (n, *shape_of(name))`` float32 from 0 to 1, ``y (n,)`` int64.

    Raises:
        ValueError: if there is no such data set, or `root` or ``EQPROP_OFFLINE`` has no valid value.
        FileNotFoundError: if a named location is not a folder, or the data set is nowhere and downloads are forbidden.
        DataError: if a file is damaged or the download fails.

    >>> (x, y), test = load("digits")
    >>> x.shape, len(test[1])
    (torch.Size([1437, 64]), 360)
    """
    source = source_of(name)
    if not source.files:
        check_root(root)
        return load_digits()
    location = find_location(source, root)
    if location is None or missing_files(source, location):
        return _read_split(source, _download_missing(source, root, progress))
    try:
        return _read_split(source, location)
    except DataError as damage:
        if not location.is_cache or is_offline():
            raise
        warnings.warn(f"{str(damage).splitlines()[0]}; downloading {name} again", stacklevel=2)
        return _read_split(source, _download_missing(source, root, progress))


def fetch(name: str, root: Root = None, progress: Progress | None = None) -> Path:
    """Put a data set on disk. Intact files are kept, damaged ones are replaced.

    Args:
        name: one of `NAMES`.
        root: folder of data sets to write to, created if necessary; None: ``EQPROP_DATA``, else the user's cache.
        progress: as for `load`.

    Returns:
        The folder of the files (for the digits, which are shipped with the package, their file).

    Raises:
        ValueError: if there is no such data set, or `root` is empty.
        FileNotFoundError: if no location was named and this user has no home folder.
        DataError: if the download fails, the folder cannot be written to, or ``EQPROP_OFFLINE`` forbids downloads.
    """
    source = source_of(name)
    if not source.files:
        return Path(str(resources("eqprop.data").joinpath("digits.csv.gz")))
    location = target_location(root)
    _download(source, location, progress, replace=True)
    return location.path / source.folder


def _download_missing(source: Source, root: Root, progress: Progress | None) -> Location:
    """Download the missing files of a data set and return their location."""
    if is_offline():
        raise FileNotFoundError(_not_found_message(source, root))
    location = target_location(root)
    _download(source, location, progress, replace=location.is_cache)
    return location


def _download(source: Source, location: Location, progress: Progress | None, *, replace: bool) -> None:
    """Download what is missing. A damaged file is replaced, or an error if `replace` is False."""
    wanted = [file for file in source.files if _needs_download(source, location, file, replace=replace)]
    if not wanted:
        return
    if is_offline():
        raise DataError(f"{source.name} was not downloaded because EQPROP_OFFLINE is set\nset EQPROP_OFFLINE=0")
    # imported here: `http` and `tarfile` are slow to import, and most programs never download
    from eqprop.data.download import download

    with closing(download(source, wanted, progress)) as found:
        for file, content in found:
            write(location.path / source.folder / source.stored_names(file)[0], content)


def _needs_download(source: Source, location: Location, file: File, *, replace: bool) -> bool:
    path = locate(source, location.path / source.folder, file)
    if path is None or replace:
        return path is None or not is_intact(path, file)
    _read_file(source, location, file)  # raises if it is damaged
    return False


def _not_found_message(source: Source, root: Root) -> str:
    """Say where a data set was looked for, or which of its files are missing, and how to get it; three lines."""
    if location := find_location(source, root):
        missing = ", ".join(file.name for file in missing_files(source, location))
        problem = f"{source.name} in {location} lacks {missing}"
    else:
        problem = f"{source.name} was not found in {', '.join(map(str, search(source, root)))}"
    first = f"{source.folder}/{source.stored_names(source.files[0])[0]}"
    return (
        f"{problem}, and EQPROP_OFFLINE forbids downloads\n"
        f"get it with `EQPROP_OFFLINE=0 {_fetch_command(source, target_location(root))}`,\n"
        f"or set EQPROP_DATA to a folder that holds {first} …"
    )


def _fetch_command(source: Source, location: Location) -> str:
    variable = f"EQPROP_DATA={shlex.quote(str(location.path))} " if location.origin == ROOT else ""
    return f"{variable}eqprop data fetch {source.name}"


def _repair_command(source: Source, location: Location) -> str:
    if location.origin == SYSTEM:
        return f"apt-get install --reinstall {source.debian_package}"
    return _fetch_command(source, location)


def _read_split(source: Source, location: Location) -> Split:
    """Read and check a data set on disk."""
    train, test = (
        _to_tensors(source.decode([_read_file(source, location, file) for file in part]), source.shape)
        for part in (source.train, source.test)
    )
    return Split(train, test)


def _read_file(source: Source, location: Location, file: File) -> bytes:
    """Read and check one file; an error says how to repair it."""
    folder = location.path / source.folder
    try:
        return read(locate(source, folder, file) or folder / file.name, file)
    except DataError as error:
        command = _repair_command(source, location)
        raise DataError(f"{error}\nreplace it with `{command}`, or delete it") from error


def _to_tensors(parts: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]], shape: tuple[int, ...]) -> Samples:
    """Join parts and convert pixels from 0 to 255 to float32 from 0 to 1, and classes to int64."""
    x = np.empty((sum(len(classes) for _, classes in parts), *shape), np.float32)
    start = 0
    for images, classes in parts:  # divide directly into the result: no intermediate float copy of a large set
        stop = start + len(classes)
        np.divide(images.reshape(-1, *shape), 255, out=x[start:stop], dtype=np.float32)
        start = stop
    y = np.concatenate([classes for _, classes in parts]).astype(np.int64)
    return torch.from_numpy(x), torch.from_numpy(y)
