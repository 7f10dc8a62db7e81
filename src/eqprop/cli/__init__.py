"""The command line: ``eqprop COMMAND``, also as ``python -m eqprop COMMAND``.

Exit codes: 0, success; 1, a training failed (it diverged, or the disk is full); 2, a mistake on the command line, after which
nothing was created; 130, Ctrl-C, and 143, the terminate signal, after a checkpoint was written.
"""

import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from unicodedata import category

__all__ = ["main"]

COMMANDS = {
    "train": "train a recipe, or resume a run",
    "evaluate": "test a trained model",
    "compare": "train a recipe by EP and by BPTT from the same weights",
    "recipes": "list the recipes with their published results",
    "data": "list the data sets and where they are, or fetch one",
    "export": "write a trained spiking model as a NIR graph, for neuromorphic hardware and its simulators",
    "plot": "draw the figures of one run or of several",
    "gdu": "compare EP's updates with BPTT's gradients, step by step",
    "tune": "find the shortest phases whose gradient agrees with BPTT's",
    "bench": "measure time, memory and arithmetic of training steps and free phases",
    "reproduce": "reproduce the figures and the table of a paper, with a report",
}
"""Every command, each in a module of its name in `eqprop.cli.commands`, which is imported only when the command is called."""

DISTRIBUTED = ("train", "compare")
"""Commands that torchrun may start in several processes."""

OLD_SPELLINGS = {"--optimiser": "--optimizer", "--data.normalise": "--data.normalize"}
"""Options as they were called before; they are still accepted."""

USAGE = "usage: eqprop COMMAND …\n\n" + "\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items())
USAGE += "\n\n`eqprop COMMAND --help` lists its options; `eqprop --version` prints the version\n"

TRACEBACK = "EQPROP_TRACEBACK"
"""Environment variable: set to 1, errors are shown with a traceback."""


def main(words: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        words: the command and its options; default: those of this process.
    """
    from eqprop.training.signals import Interrupted

    words = list(sys.argv[1:] if words is None else words)
    _replace_closed_streams()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _WarningPrinter()
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(errors="replace")  # an encoding without some character must not end a training
            code = _dispatch([_current_spelling(word) for word in words])
            sys.stdout.flush()
            return code
    except Interrupted as stop:
        return 128 + stop.signal
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of standard output has exited
        _discard_stdout()
        return 128 + signal.SIGPIPE
    except OSError as error:  # the last flush failed
        _discard_stdout()
        sys.stderr.write(f"eqprop: standard output: {error.strerror}\n")
        return 1


def _dispatch(words: list[str]) -> int:
    """Call the command that the first word names with the rest of the words."""
    from eqprop.cli.errors import ReportedElsewhereError, describe
    from eqprop.training.distributed.gloo import launched

    if not words or words[0] in ("-h", "--help", "help"):
        (sys.stdout if words else sys.stderr).write(USAGE)
        return 0 if words else 2
    if words[0] == "--version":
        from eqprop.version import __version__

        sys.stdout.write(f"eqprop {__version__}\n")
        return 0
    try:
        rank, size = launched()
    except ValueError as error:
        sys.stderr.write(f"eqprop: {error}\n")
        return 2
    if rank > 0 and words[:1] not in [[name] for name in DISTRIBUTED]:
        return 0  # rank 0 reports
    try:
        _check_characters(words)
        return _find_command(words[0], size)(words[1:])
    except ReportedElsewhereError as error:
        return error.code
    except BrokenPipeError:
        raise
    except Exception as error:
        message, code = describe(error)
        if code is None or os.environ.get(TRACEBACK) == "1":
            raise
        sys.stderr.write(f"eqprop: {message}\n")
        return code


def _check_characters(words: list[str]) -> None:
    """Refuse control characters, which messages would send on to the terminal.

    Raises:
        UsageError: if a word has one.
    """
    from eqprop.cli.errors import UsageError

    for word in words:
        if any(category(character) == "Cc" for character in word):
            raise UsageError(f"a word has a control character: {word[:100]!r}")


def _find_command(name: str, processes: int) -> Callable[[list[str]], int]:
    """Return the function of a command.

    Raises:
        UsageError: if there is no such command, or it cannot run in several processes.
    """
    from eqprop.cli.errors import UsageError, unknown

    if name not in COMMANDS:
        raise unknown("command", name, list(COMMANDS), "`eqprop --help` lists the commands")
    if processes > 1 and name not in DISTRIBUTED:
        raise UsageError(f"`eqprop {name}` cannot run in {processes} processes: start it without torchrun")
    return import_module(f"eqprop.cli.commands.{name}").main


def _current_spelling(word: str) -> str:
    """Return an option as it is called now; ``--optimiser.rates=0.1`` becomes ``--optimizer.rates=0.1``."""
    for old, new in OLD_SPELLINGS.items():
        if word == old or word.startswith((f"{old}.", f"{old}=")):
            return new + word.removeprefix(old)
    return word


def _replace_closed_streams() -> None:
    """Open the null device in the place of a standard stream that was closed, as by ``>&-``.

    Python has None there. Without this, the next file to be opened would also get the stream's number, and with it what other
    code writes to that stream.
    """
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if name in closed:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115
    if "stdout" in closed:
        sys.stderr.write("eqprop: warning: standard output is closed: only files are written, nothing is printed\n")


def _discard_stdout() -> None:
    """Send what is still buffered for standard output to nowhere, or Python reports a second error when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _WarningPrinter:
    """Prints each warning once, in one line, without its place in the code."""

    def __init__(self) -> None:
        self.printed: set[str] = set()

    def __call__(self, message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
        """Replace `warnings.showwarning`."""
        if str(message) not in self.printed:
            self.printed.add(str(message))
            sys.stderr.write(f"eqprop: warning: {message}\n")
