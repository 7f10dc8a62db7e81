"""From words to typed options: tyro reads the dataclasses; what it says of a mistake is cut to three plain lines."""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import partial
from typing import TypeVar

import tyro

from eqprop.cli.constructors import REGISTRY
from eqprop.cli.errors import UsageError
from eqprop.cli.wording import OPTION, named, plain

__all__ = ["parse", "refusing"]

T = TypeVar("T")

CONFIG = (tyro.conf.AvoidSubcommands,)


def parse(kind: type[T], words: Sequence[str], prog: str, default: T | None = None) -> T:
    """The options of a command.

    Raises:
        UsageError: at most three lines that name the offending word.
        SystemExit: after ``--help``.
    """
    ask = partial(tyro.cli, kind, prog=prog, config=CONFIG, **({} if default is None else {"default": default}))
    try:
        return understood(ask, words)
    except ValueError as error:
        raise refusal(error, prog, offered(ask)) from None


@contextmanager
def refusing(kind: type[T], prog: str, default: T | None = None) -> Iterator[None]:
    """What goes wrong later for a value, since it does not fit the data or another value, is told like a mistake in it.

    Raises:
        UsageError: in the place of a ValueError that is about an option.
    """
    try:
        yield
    except ValueError as error:
        ask = partial(tyro.cli, kind, prog=prog, config=CONFIG, **({} if default is None else {"default": default}))
        known = offered(ask)
        if not OPTION.search(named(str(error), known)):
            raise
        raise refusal(error, prog, known) from None


def understood(ask: Callable[..., T], words: Sequence[str]) -> T:
    """What tyro makes of the words; it speaks to a page of ours, so that its errors look the same on any terminal.

    Raises:
        ValueError: with the message of tyro or of a constructor.
        SystemExit: after ``--help``.
    """
    said = page()
    try:
        with REGISTRY, redirect_stdout(page()), redirect_stderr(said):
            made = ask(args=list(words))
    except SystemExit as end:
        if end.code not in (0, None):
            raise ValueError(plain(read(said))) from None
    else:
        sys.stderr.write(read(said))  # warnings
        return made
    with REGISTRY:
        ask(args=list(words))  # the help once more, for the terminal
    raise SystemExit(0)


def page() -> io.TextIOWrapper:
    """A file in memory that takes every sign, and is no terminal."""
    return io.TextIOWrapper(io.BytesIO(), "utf-8", newline="")


def read(said: io.TextIOWrapper) -> str:
    """What is on a page."""
    said.seek(0)
    return said.read()


def offered(ask: Callable[..., object]) -> list[str]:
    """The options that the help names."""
    said = page()
    with REGISTRY, redirect_stdout(said), suppress(SystemExit):
        ask(args=["--help"])
    return OPTION.findall(read(said))


def refusal(error: ValueError, prog: str, known: Sequence[str]) -> UsageError:
    """The error of a command that has those options."""
    return UsageError(f"{named(str(error), known)}\nsee `{prog} --help`")
