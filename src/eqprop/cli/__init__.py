"""The command line: ``eqprop COMMAND``, also as ``python -m eqprop COMMAND``.

Exit codes: 0, done; 1, a training failed (it diverged, or its disk is full); 2, a mistake of the caller, told in at most three
lines, and nothing was created; 130, Ctrl-C, and 143, the terminate signal, after the checkpoint was written.
"""

import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module

__all__ = ["main"]

COMMANDS = {
    "train": "train a recipe, or go on with a run",
    "evaluate": "test a trained model",
    "compare": "train a recipe by EP and by BPTT from the same weights",
    "recipes": "list the recipes, with what was published of them",
    "data": "list the data sets and where they are, or fetch one",
    "export": "write a trained spiking model as a NIR graph, for neuromorphic hardware and its simulators",
    "plot": "draw the pictures of a run, or of several",
    "gdu": "hold EP's updates against BPTT's gradients, step by step",
    "tune": "find the shortest phases whose gradient agrees with BPTT's",
    "bench": "measure what training steps and free phases cost: time, memory, and the arithmetic in them",
    "reproduce": "do the figures and the table of a paper, and write an account of them",
}
"""Every command, in a module of its name; none is loaded before it is called."""

SEVERAL = ("train", "compare")
"""Those that several processes, started by torchrun, do together."""

USAGE = "usage: eqprop COMMAND …\n\n" + "\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items())
USAGE += "\n\neqprop COMMAND --help tells more; eqprop --version tells the version\n"

TRACEBACK = "EQPROP_TRACEBACK"
"""Set to 1, this environment variable shows where an error came from."""


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; see the module for the exit codes."""
    from eqprop.training.signals import Interrupted

    words = list(sys.argv[1:] if words is None else words)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = Warner()
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(errors="replace")  # a question mark is better than a traceback
            code = dispatch(words)
            sys.stdout.flush()
            return code
    except Interrupted as stop:
        return 128 + stop.signal
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 128 + signal.SIGINT
    except BrokenPipeError:  # whoever read our output has gone
        mute()
        return 128 + signal.SIGPIPE
    except OSError as error:  # the last words found no room
        mute()
        sys.stderr.write(f"eqprop: standard output: {error.strerror}\n")
        return 1


def dispatch(words: list[str]) -> int:
    """Find the command and call it with the rest of the words."""
    from eqprop.cli.errors import ReportedElsewhere, failure
    from eqprop.training.distributed.gloo import launched

    rank, size = launched()
    if rank > 0 and words[:1] not in [[name] for name in SEVERAL]:
        return 0  # the first process answers
    if not words or words[0] in ("-h", "--help", "help"):
        (sys.stdout if words else sys.stderr).write(USAGE)
        return 0 if words else 2
    if words[0] == "--version":
        from eqprop.version import __version__

        sys.stdout.write(f"eqprop {__version__}\n")
        return 0
    try:
        return command(words[0], size)(words[1:])
    except ReportedElsewhere as told:
        return told.code
    except BrokenPipeError:
        raise
    except Exception as error:
        message, code = failure(error)
        if code is None or os.environ.get(TRACEBACK) == "1":
            raise
        sys.stderr.write(f"eqprop: {message}\n")
        return code


def command(name: str, processes: int = 1) -> Callable[[list[str]], int]:
    """The function of a command.

    Raises:
        UsageError: if there is none of that name, or it is not for so many processes.
    """
    from eqprop.cli.errors import UsageError, unknown

    if name not in COMMANDS:
        raise unknown("command", name, list(COMMANDS), "`eqprop --help` lists them")
    if processes > 1 and name not in SEVERAL:
        raise UsageError(f"`eqprop {name}` is not for {processes} processes: start it without torchrun")
    return import_module(f"eqprop.cli.commands.{name}").main


def mute() -> None:
    """Let what is still in the buffer of standard output go nowhere, or Python complains of it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Warner:
    """Tells a warning in one line, and once; where in the code it arose is of no use to the caller."""

    def __init__(self) -> None:
        self.broadcast: set[str] = set()

    def __call__(self, message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
        """In place of `warnings.showwarning`."""
        if str(message) not in self.broadcast:
            self.broadcast.add(str(message))
            sys.stderr.write(f"eqprop: warning: {message}\n")
