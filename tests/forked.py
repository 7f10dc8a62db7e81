"""What a process of its own does, forked from one that has loaded everything: a command as a person gives it, a training, a lock.

`small_team.another` starts it.
"""

import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from eqprop import EquilibriumProp
from eqprop.cli import main
from eqprop.data.sources import SOURCES
from eqprop.papers.registry import recipe
from eqprop.training import create_run, train_run
from eqprop.training.run_folder import RunFolder
from small_sets import small_mnist
from small_trainings import TRAIN, CallbackSpy, after, trainer

PRIVATE = ("PYTHONUNBUFFERED", "COLUMNS")
"""Of the environment, what would change how a command speaks."""

SAID, COMPLAINED = "said.txt", "complained.txt"
"""What a command wrote to standard output, and to standard error."""


def streams(*numbers: int) -> None:
    """Standard input, output and errors are these files, with the buffers that Python gives them."""
    for standard, number in enumerate(numbers):
        os.dup2(number, standard)
    sys.stdin, sys.stdout, sys.stderr = (open(n, "r" if n == 0 else "w", closefd=False) for n in range(3))  # noqa: SIM115


def command(words: Sequence[str], folder: Path) -> int:
    """``eqprop``, called in that folder; `SAID` and `COMPLAINED` there hold what it says. Its code."""
    os.chdir(folder)
    files = [os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for name in (SAID, COMPLAINED)]
    return called(words, os.open(os.devnull, os.O_RDONLY), *files)


def command_to_nobody(words: Sequence[str], folder: Path) -> int:
    """The same, but whoever read its output has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    return command_to(writing, words, folder)


def command_to_full_disk(words: Sequence[str], folder: Path) -> int:
    """The same, but there is no room for its output."""
    return command_to(os.open("/dev/full", os.O_WRONLY), words, folder)


def command_to(number: int, words: Sequence[str], folder: Path) -> int:
    """The same, but its output goes to that file."""
    os.chdir(folder)
    return called(words, os.open(os.devnull, os.O_RDONLY), number, os.open(COMPLAINED, os.O_WRONLY | os.O_CREAT))


def command_on_terminal(words: Sequence[str], folder: Path, terminal: str) -> int:
    """The same, on the terminal of that name, which is its own."""
    os.chdir(folder)
    os.setsid()
    os.environ["TERM"] = "xterm-256color"
    return called(words, *[os.open(terminal, os.O_RDWR)] * 3)


def torchrun(words: Sequence[str], folder: Path) -> None:
    """The same by two processes that torchrun starts, in a group of its own; raises if one of them fails."""
    from torch.distributed.run import main

    os.chdir(folder)
    os.setsid()
    streams(os.open(os.devnull, os.O_RDONLY), *[os.open(name, os.O_WRONLY | os.O_CREAT) for name in (SAID, COMPLAINED)])
    main(["--standalone", "--nproc-per-node", "2", "-m", "eqprop", *words])  # they meet at a free port


def called(words: Sequence[str], *numbers: int) -> int:
    """``eqprop`` with these streams, whose warnings are errors."""
    for name in PRIVATE:
        os.environ.pop(name, None)
    warnings.simplefilter("error")
    streams(*numbers)
    return main(words)


def digits(folder: Path, epochs: int) -> None:
    """Begin a training of the digits, or go on with it; a file beside the folder tells that it begins to train."""
    begins = CallbackSpy()
    begins.on_fit_start = lambda *numbers: folder.with_suffix(".begins").touch()
    original = recipe("digits")
    signs = EquilibriumProp(20, 10, beta=0.2, nudging="random-sign")
    run = replace(original, epochs=epochs, estimator=signs, data=replace(original.data, validation=100))
    if not RunFolder(folder).config.exists():
        create_run(run, folder)
    train_run(folder, callbacks=[begins], checkpoint_every=0.02)


def killed_on_small_mnist(folder: Path, batches: int, root: str) -> None:
    """Begin a run of a few images, which lie there, and be killed when so many batches are done."""
    small = small_mnist()
    SOURCES[small.source.name] = small.source
    os.environ["EQPROP_DATA"] = root
    kill = after(batches, lambda: os.kill(os.getpid(), signal.SIGKILL))
    train_run(folder, callbacks=[kill], checkpoint_every=0.0)


def holding(folder: Path) -> None:
    """Hold a folder, and say so by a file beside it."""
    with RunFolder(folder).lock():
        folder.with_suffix(".held").touch()
        time.sleep(100)


def capped(folder: Path) -> None:
    """Train an epoch, and one more where no file may be longer than 1000 bytes."""
    third = trainer(folder)
    third.fit(TRAIN, 1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    third.fit(TRAIN, 2)


def appears(path: Path, words: str = "") -> bool:
    """Wait until a file is there, and these words in it."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if path.exists() and words in path.read_text():
            return True
        time.sleep(0.002)
    return False
