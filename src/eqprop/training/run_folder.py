"""A run folder: what is where in it, who may write to it, and what it means that something is there.

config.json        the resolved run
environment.json   versions and hardware; no host name, user or path
metrics.jsonl      one row an epoch
checkpoint/        last.safetensors (all that goes on), best.safetensors (weights)
plots/
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eqprop._core.files import DamagedError, append_line, write_atomic
from eqprop.training.history import Row, read_rows

__all__ = ["Row", "RunFolder"]


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Args:
        path: of the folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The run, as JSON."""
        return self.path / "config.json"

    @property
    def environment(self) -> Path:
        """What it runs on."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, one line an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoint" / "last.safetensors"

    @property
    def best(self) -> Path:
        """The weights of the best epoch."""
        return self.path / "checkpoint" / "best.safetensors"

    @property
    def plots(self) -> Path:
        """Pictures."""
        return self.path / "plots"

    def make(self) -> "RunFolder":
        """Create the folder with its subfolders, or take an empty one.

        Raises:
            FileExistsError: if there is something in it.
            OSError: if it cannot be created.
        """
        if self.path.is_dir() and any(self.path.iterdir()):
            what = "a run" if self.config.exists() else "something else"
            hint = f"go on with `--resume {self.path}`, or " if self.config.exists() else ""
            raise FileExistsError(f"{self.path} already holds {what}: {hint}name another folder")
        self.path.mkdir(parents=True, exist_ok=True)
        self.last.parent.mkdir()  # of two processes one succeeds
        return self

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process; the hold ends with it, however it ends.

        Raises:
            BlockingIOError: if another process holds it.
        """
        import fcntl  # Linux and macOS have it; the rest of the library works without

        handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BlockingIOError(f"{self.path} is in use by another process: wait for it, or stop it") from None
            for draft in (*self.path.glob(".*.part"), *self.last.parent.glob(".*.part")):
                draft.unlink(missing_ok=True)  # of a kill in the middle of a write
            yield
        finally:
            os.close(handle)

    @property
    def begun(self) -> bool:
        """Whether a training has left anything here."""
        return any(path.exists() for path in (self.last, self.best, self.metrics))

    def rows(self, at_least: int = 0) -> list[Row]:
        """The rows of the metrics; a last line that a kill cut short is left out.

        Args:
            at_least: how many there must be, by what the checkpoint says.

        Raises:
            DamagedError: if there are fewer, or a line is not the row of its epoch.
        """
        rows = read_rows(self.metrics.read_bytes(), str(self.metrics)) if self.metrics.exists() else []
        if len(rows) < at_least:
            raise DamagedError(
                f"{self.metrics} is damaged: it has {len(rows)} rows, the checkpoint is of epoch {at_least}"
            )
        return rows

    def log(self, row: Row) -> None:
        """Append a row."""
        append_line(self.metrics, json.dumps(row, allow_nan=False))

    def truncate(self, epochs: int) -> list[Row]:
        """Drop what was logged after that many epochs, and return the rest; errors as in `rows`."""
        rows = self.rows(at_least=epochs)[:epochs]
        if self.metrics.exists():
            write_atomic(self.metrics, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
        return rows
