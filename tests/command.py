"""Call the command line within this process, and look at what it leaves on disk."""

import io
import re
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from eqprop.cli import main

ESCAPES = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Answer:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    def done(self) -> str:
        """Return the output of a command that succeeded without errors or warnings."""
        assert (self.code, self.err) == (0, ""), self
        return self.out

    def complaint(self) -> str:
        """Return the error about a mistake on the command line, as one line if it is in a box of tyro's."""
        assert (self.code, self.out) == (2, ""), self
        if self.err.startswith("eqprop: "):
            return self.error()
        assert "Traceback" not in self.err
        assert "For full helptext" in self.err
        lines = [line.strip("│╭╰╮╯─ ") for line in self.err.splitlines()]
        return " ".join(line for line in lines if line.strip("-"))

    def error(self) -> str:
        """Return an error of eqprop's own: at most three readable lines."""
        lines = self.err.splitlines()
        assert 1 <= len(lines) <= 3, self.err
        assert max(map(len, lines)) <= 400, self.err
        assert lines[0].startswith("eqprop: ")
        return self.err


class Output(io.TextIOWrapper):
    """A text stream in memory, which may claim to be a terminal."""

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
    """Call ``eqprop`` with these words, split at spaces."""
    out, err = Output(encoding, terminal=terminal), Output("utf-8")
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([part for word in words for part in word.split(" ")])
        except SystemExit as end:
            code = end.code or 0
    return Answer(code, out.text(), err.text())


def frames(shown: str) -> list[str]:
    """Return the lines that a terminal shows, without colors; a line that is redrawn appears again."""
    return [line.rstrip() for line in re.split(r"[\r\n]+", ESCAPES.sub("", shown)) if line.strip()]


def obstruct(folder: Path) -> None:
    """Create what cannot be a folder of results: ``full``, a folder with a file; ``file``; ``dangling``, a broken link."""
    (folder / "full").mkdir()
    (folder / "full" / "file").write_text("mine")
    (folder / "file").write_text("mine")
    (folder / "dangling").symlink_to("gone")


def files(folder: Path) -> dict[str, bytes | None]:
    """Return everything in a folder except the lock: the contents of files, and None for folders."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.name != ".lock"}
    return {name: path.read_bytes() if path.is_file() else None for name, path in sorted(found.items())}
