"""A run folder: its files, its lock, and the run that it holds.

config.json        the run
environment.json   versions and hardware; no host name, user or path
metrics.jsonl      one row per epoch
checkpoint/        last.safetensors (the whole training state), best.safetensors (weights)
plots/
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from eqprop._core.checks import ArgumentError
from eqprop._core.files import DamagedError, append_line, parse_json, read_regular, write_atomic
from eqprop._core.warn import warn_user
from eqprop.training import checkpoint
from eqprop.training.config.run import Run, first_difference, same_config
from eqprop.training.history import Row, read_rows

__all__ = ["MANIFEST", "Row", "RunFolder"]

MANIFEST = "runs.json"
"""File of a folder of several runs; `eqprop.cli.layout` writes it before the first run."""

_TEMPORARY = re.compile(r"\.[\w.]+\.[0-9a-f]{8}\.part")  # names of `write_atomic`

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Error numbers of file systems without locks."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Args:
        path: path of the folder.
    """

    path: Path

    @classmethod
    def of(cls, folder: "str | Path | RunFolder") -> "RunFolder":
        """Return ``folder`` as a RunFolder."""
        if not isinstance(folder, str | PathLike | RunFolder):
            raise ArgumentError("folder", f"`folder` must be a path, got an object of class {type(folder).__name__}")
        return folder if isinstance(folder, cls) else cls(Path(folder))  # type: ignore[arg-type]

    @property
    def config(self) -> Path:
        """File of the run, as JSON."""
        return self.path / "config.json"

    @property
    def environment(self) -> Path:
        """File of the versions and the hardware that the run began with."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """File of the rows: one JSON object per line and epoch."""
        return self.path / "metrics.jsonl"

    @property
    def last(self) -> Path:
        """The last checkpoint."""
        return self.path / "checkpoint" / "last.safetensors"

    @property
    def best(self) -> Path:
        """The weights of the best epoch."""
        return self.path / "checkpoint" / "best.safetensors"

    @property
    def plots(self) -> Path:
        """Folder of the plots."""
        return self.path / "plots"

    def create(self) -> "RunFolder":
        """Create the folder with its subfolders; one that `is_unused` may exist.

        Raises:
            FileExistsError: if it holds anything else.
            OSError: if it cannot be created.
        """
        self.check_unused()
        self.last.parent.mkdir(parents=True, exist_ok=True)
        return self

    @contextmanager
    def creation(self) -> Iterator[None]:
        """Create the folder and lock it while it is filled; after an error it is as before.

        Raises:
            FileExistsError: if it exists and is not `is_unused`; nothing is changed.
            BlockingIOError: if another process is filling it; nothing is changed.
            OSError: if it cannot be created.
        """
        self.check_unused()
        created = [path for path in (self.path, *self.path.parents) if not path.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with self.lock():
                self.check_unused()  # another process may have filled it before this one had the lock
                try:
                    yield
                except BaseException:
                    self._empty()
                    raise
        except BaseException:
            for path in created:
                with suppress(OSError):  # not empty if another process took it
                    path.rmdir()
            raise

    def _empty(self) -> None:
        """Remove everything from a folder that was unused before this process filled it."""
        for path in self.path.iterdir():
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def is_unused(self) -> bool:
        """Return whether the folder is missing, empty, or holds only what a creation that was killed leaves behind."""
        return not self.path.is_dir() or all(map(self._is_leftover, self.path.iterdir()))

    def _is_leftover(self, path: Path) -> bool:
        if path == self.last.parent:
            return path.is_dir() and all(_TEMPORARY.fullmatch(part.name) for part in path.iterdir())
        if path == self.environment:
            with suppress(DamagedError):
                return {"eqprop", "torch", "threads"} <= self.read_environment().keys()
            return False
        is_lock = path.name == ".lock" and path.is_file() and not path.stat().st_size
        return is_lock or _TEMPORARY.fullmatch(path.name) is not None

    def check_unused(self) -> None:
        """Check that a run can be created here.

        Raises:
            FileExistsError: if the folder is not `is_unused`; it says what the folder holds and how to continue a run.
        """
        if self.is_unused():
            return
        several = (MANIFEST, "seed-*/config.json", "*/seed-*/config.json")
        if self.config.exists():
            held, hint = "a run", f"continue it with `--resume {self.path}`, or use"
        elif any(found for name in several for found in self.path.glob(name)):
            held, hint = "runs", f"continue them with `--resume {self.path}`, or use"
        else:
            held, hint = "files", "use"
        raise FileExistsError(f"{self.path} already holds {held}: {hint} another folder")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder for this process; the system releases the lock when the process ends.

        Raises:
            BlockingIOError: if another process holds the lock.
        """
        import fcntl  # not on Windows, where the rest of the library works

        handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BlockingIOError(f"{self.path} is in use by another process: wait for it, or stop it") from None
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                warn_user(f"{self.path} cannot be locked ({error.strerror}): train it in one process at a time")
            for part in (*self.path.glob(".*.part"), *self.last.parent.glob(".*.part")):
                part.unlink(missing_ok=True)  # left by a process that was killed while it wrote
            yield
        finally:
            os.close(handle)

    @cached_property
    def run(self) -> Run:
        """The run; ``config.json`` is read once.

        Raises:
            FileNotFoundError: if the folder holds no run.
            ValueError: if the file is not valid.
        """
        if not self.config.exists():
            hint = ": build the model of this training and call `Trainer.resume`" if self.has_started else ""
            raise FileNotFoundError(f"{self.path} holds no run: there is no {self.config.name} in it{hint}")
        try:
            return Run.from_json(read_regular(self.config).decode())
        except DamagedError:
            raise
        except ValueError as error:
            raise ValueError(f"{self.config} is not a run's configuration: {error}") from None

    @property
    def has_started(self) -> bool:
        """Whether a training has written anything here."""
        return any(path.exists() for path in (self.last, self.best, self.metrics))

    def is_finished(self) -> bool:
        """Return whether all epochs are done, by the header of the last checkpoint.

        Raises:
            DamagedError: if the checkpoint cannot be read.
        """
        return self.last.exists() and self.epochs_done() >= self.run.epochs

    def epochs_done(self) -> int:
        """Return the number of epochs that the last checkpoint has done, by its header.

        Raises:
            DamagedError: if the checkpoint cannot be read.
            ValueError: if it belongs to another run.
        """
        facts = checkpoint.read_facts(self.last)
        checkpoint.check_training_facts(facts, self.last)
        self.check_config(facts, self.last)
        return int(facts["epoch"])

    def check_config(self, facts: Mapping[str, Any], path: Path) -> None:
        """Check that a checkpoint was written by the run of this folder; files of early versions do not say.

        Raises:
            ValueError: if it was written by another run, or ``config.json`` was changed.
        """
        written = facts.get("config")
        if isinstance(written, str) and not same_config(written, self.run.to_json()):
            raise ValueError(
                f"{path} was written with another configuration than {self.config}"
                f"{first_difference(written, self.run.to_json())}: restore the file that was changed"
            )

    def read_environment(self) -> dict[str, Any]:
        """Return the versions and the hardware that the run began with.

        Raises:
            DamagedError: if the file is missing or damaged.
        """
        try:
            return dict(parse_json(read_regular(self.environment)))
        except (OSError, ValueError, TypeError):
            raise DamagedError(f"{self.environment} is missing or damaged") from None

    def rows(self, at_least: int = 0) -> list[Row]:
        """Return the rows of the metrics file; a last line that a kill cut short is left out.

        Args:
            at_least: number of epochs that the checkpoint has done.

        Raises:
            DamagedError: if there are fewer rows, or a line is not the row of its epoch.
        """
        rows = read_rows(read_regular(self.metrics), str(self.metrics)) if self.metrics.exists() else []
        if len(rows) < at_least:
            raise DamagedError(
                f"{self.metrics} is damaged: it has {len(rows)} rows, the checkpoint is of epoch {at_least}"
            )
        return rows

    def append(self, row: Row) -> None:
        """Append a row to the metrics file."""
        append_line(self.metrics, json.dumps(row, allow_nan=False))

    def truncate(self, epochs: int) -> list[Row]:
        """Remove the rows after that many epochs and return the rest; errors as in `rows`."""
        rows = self.rows(at_least=epochs)[:epochs]
        if self.metrics.exists():
            write_atomic(self.metrics, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
        return rows
