"""Faults of the file system at a chosen step: a kill, a full disk, or another process that comes in between."""

import errno
import io
import os
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest

WRITING = ("mkdir", "replace", "open", "fsync")
"""Steps that need room on the disk."""


class KilledError(BaseException):
    """The process ended here; what it does afterwards reaches no disk."""


class Steps:
    """Counts the steps that change files below a folder, and acts before one of them.

    Args:
        folder: the folder.
        at: number of the step to act before, from 1; 0 for none.
        act: called with the kind of the step and its path.
    """

    def __init__(self, folder: Path, at: int = 0, act: Callable[[str, str], None] = lambda kind, path: None):
        self.folder, self.at, self.act = os.path.abspath(folder), at, act
        self.kinds: list[str] = []
        self.thread = threading.get_ident()
        self.inside = False

    def before(self, kind: str, path: str) -> None:
        outside = not os.path.abspath(path).startswith(self.folder)
        if self.inside or outside or threading.get_ident() != self.thread:
            return
        self.kinds.append(kind)
        if len(self.kinds) == self.at:
            self.inside = True  # steps of the action itself do not count
            try:
                self.act(kind, path)
            finally:
                self.inside = False

    @contextmanager
    def counted(self):
        """Count, and act, within this context."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("mkdir", "replace", "unlink", "rmdir", "rename"):
                patch.setattr(os, name, self._wrapped(name, getattr(os, name)))
            os_open, io_open, fsync = os.open, io.open, os.fsync

            def open_number(path, flags, *more, **options):
                if flags & os.O_CREAT and isinstance(path, str | Path):
                    self.before("open", str(path))
                return os_open(path, flags, *more, **options)

            def open_file(path, mode="r", *more, **options):
                if mode[0] in "wxa" and isinstance(path, str | Path):
                    self.before("open", str(path))
                return io_open(path, mode, *more, **options)

            def sync(number):
                self.before("fsync", os.readlink(f"/proc/self/fd/{number}"))
                fsync(number)

            patch.setattr(os, "open", open_number)
            patch.setattr(io, "open", open_file)
            patch.setattr(os, "fsync", sync)
            yield self

    def _wrapped(self, name: str, original: Callable) -> Callable:
        def step(path, *more, **options):
            self.before(name, str(path))
            return original(path, *more, **options)

        return step


class Kill(Steps):
    """Ends the process before a step, and refuses all later steps, as a kill does; half of what is being written is lost."""

    def __init__(self, folder: Path, at: int):
        super().__init__(folder, at, self.end)
        self.dead = False

    def before(self, kind: str, path: str) -> None:
        if self.dead:
            raise KilledError
        super().before(kind, path)

    def end(self, kind: str, path: str) -> None:
        self.dead = True
        if kind == "fsync":
            os.truncate(path, os.path.getsize(path) // 2)
        raise KilledError


class FullDisk(Steps):
    """Has no room for a step, nor for any later one of the same kind if it lasts."""

    def __init__(self, folder: Path, at: int, *, lasts: bool):
        super().__init__(folder)
        self.first, self.lasts = at, lasts

    def before(self, kind: str, path: str) -> None:
        super().before(kind, path)
        here = len(self.kinds)
        if kind in WRITING[:1] + WRITING[2:] and (here == self.first or (self.lasts and here > self.first)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
