"""The command line, called within this process: what it answers, and what it leaves on disk."""

import io
import re
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from eqprop.cli import main

ESCAPES = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Answer:
    """What a command came to."""

    code: int
    out: str
    err: str

    def done(self) -> str:
        """What it said, if it is done and has nothing to complain of."""
        assert (self.code, self.err) == (0, ""), self
        return self.out

    def complaint(self) -> str:
        """The error, if it tells of a mistake by the rules, and nothing else was said."""
        assert (self.code, self.out) == (2, ""), self
        return self.broadcast()

    def broadcast(self) -> str:
        """The error, if it has at most three lines that can be read."""
        lines = self.err.splitlines()
        assert 1 <= len(lines) <= 3, self.err
        assert max(map(len, lines)) <= 400, self.err
        assert lines[0].startswith("eqprop: ")
        return self.err


class Output(io.TextIOWrapper):
    """A file of text, or a terminal, that is kept in memory."""

    def __init__(self, encoding: str = "utf-8", *, terminal: bool = False):
        self.kept = io.BytesIO()
        super().__init__(self.kept, encoding=encoding, newline="")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def text(self) -> str:
        self.flush()
        return self.kept.getvalue().decode(self.encoding)


def call(*words: str, encoding: str = "utf-8", terminal: bool = False) -> Answer:
    """Call ``eqprop`` with these words; they are split at spaces."""
    out, err = Output(encoding, terminal=terminal), Output("utf-8")
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([part for word in words for part in word.split(" ")])
        except SystemExit as end:
            code = end.code or 0
    return Answer(code, out.text(), err.text())


def frames(shown: str) -> list[str]:
    """What a terminal shows, line by line, and again each time a line is drawn anew; without colors."""
    return [line.rstrip() for line in re.split(r"[\r\n]+", ESCAPES.sub("", shown)) if line.strip()]


def obstruct(folder: Path) -> None:
    """Put what may be in the way of results there: ``full``, a folder with a file; ``file``; ``dangling``, a link to nothing."""
    (folder / "full").mkdir()
    (folder / "full" / "file").write_text("mine")
    (folder / "file").write_text("mine")
    (folder / "dangling").symlink_to("gone")


def files(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, contents of files and None for folders; the lock, which is empty, apart."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.name != ".lock"}
    return {name: path.read_bytes() if path.is_file() else None for name, path in sorted(found.items())}
