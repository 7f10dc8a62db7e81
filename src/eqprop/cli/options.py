"""Parse words into the dataclass of a command, and name options in error messages.

tyro reports what is wrong with the words themselves: an unknown option, a missing value. What is wrong with a value is reported
in one line, ``eqprop: --estimator.beta must be non-zero, got 0.0``. For this, tyro fills in *drafts*: subclasses of the
dataclasses without the checks in ``__post_init__``. `parse` then builds the real objects from the drafts, one by one, and so
knows to which option each error belongs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import tyro

from eqprop._core.checks import ArgumentError
from eqprop.cli.constructors import REGISTRY, Rejected, find_parser
from eqprop.cli.errors import UsageError

__all__ = ["DATA_ROOT", "DEVICE", "HIDE_DEFAULT", "name_options", "parse"]

T = TypeVar("T")

DEVICE = tyro.conf.arg(metavar="DEVICE")

HIDE_DEFAULT = tyro.conf.arg(help_behavior_hint="")
"""Marks an option whose default is not a value, so that the help shows none."""

DATA_ROOT = tyro.conf.arg(name="data.root", help_behavior_hint="")
"""Marks the option --data.root of commands that have no other options of the data."""


def parse(kind: type[T], words: Sequence[str], prog: str, default: T | None = None) -> T:
    """Return the options of a command.

    Args:
        kind: dataclass of the options.
        words: the command line after the command.
        prog: the command, for the help.
        default: the options that hold where the words say nothing.

    Raises:
        UsageError: if an option has a value that it cannot take.
        SystemExit: after ``--help``, or after tyro reported an error.
    """
    draft = _draft_defaults(kind) if default is None else _draft(default)
    with REGISTRY:
        draft = tyro.cli(type(draft), prog=prog, args=words, default=draft, config=(tyro.conf.AvoidSubcommands,))
    return _build(draft)


@contextmanager
def name_options(options: object) -> Iterator[None]:
    """Report an argument that turns out to be wrong later, as it does not fit the data, as a mistake in its option.

    Raises:
        UsageError: in place of an `ArgumentError` about one of the options.
    """
    try:
        yield
    except ArgumentError as error:
        if (message := _message(error, options)) is None:
            raise
        raise UsageError(message) from None


@cache
def _draft_class(kind: type) -> type:
    """Return a subclass of a dataclass whose constructor checks nothing."""
    body = {"__post_init__": lambda self: None, "__doc__": kind.__doc__, "__module__": kind.__module__, "drafted": kind}
    return type(kind.__name__, (kind,), body)


def _draft(value: Any) -> Any:
    """Return the draft of an object: itself and, recursively, those of its fields that are dataclasses with options."""
    kind = getattr(value, "drafted", type(value))
    hints = get_type_hints(kind)
    values = {field.name: getattr(value, field.name) for field in fields(kind) if field.init}
    nested = {n for n, v in values.items() if is_dataclass(v) and find_parser(hints[n]) is None}
    return _draft_class(kind)(**{n: _draft(v) if n in nested else v for n, v in values.items()})


def _draft_defaults(kind: type) -> Any:
    """Return the draft of a class at its defaults; where a field has none, tyro demands it."""
    required = {
        field.name: tyro.MISSING
        for field in fields(kind)
        if field.default is MISSING and field.default_factory is MISSING
    }
    return _draft(_draft_class(kind)(**required)) if required else _draft(kind())


def _build(draft: Any, prefix: str = "") -> Any:
    """Return the real object of a draft."""
    if not hasattr(draft, "drafted"):
        return draft
    values = {}
    for name, option, value in _options(draft, prefix):
        if isinstance(value, Rejected):
            reason = value.message.removeprefix(f"`{name}` ")
            raise UsageError(f"{option} {reason}" if reason.startswith("must ") else f"{option}: {reason}")
        values[name] = _build(value, option.removeprefix("--"))
    try:
        return draft.drafted(**values)
    except ValueError as error:
        message = _message(error, draft, prefix) or str(error)
        for name, option, _ in _options(draft, prefix):
            message = message.replace(f"`{name}`", option)
        raise UsageError(message) from None


def _options(value: Any, prefix: str = "") -> list[tuple[str, str, Any]]:
    """Return name, option and value of every field of an object, in which other objects may be nested."""
    found = []
    hints = get_type_hints(type(value), include_extras=True)
    for field in fields(value):
        marks = get_args(hints[field.name])[1:] if get_origin(hints[field.name]) is Annotated else ()
        name = next((mark.name for mark in marks if getattr(mark, "name", None) is not None), field.name)
        positional = tyro.conf.Positional in marks
        path = ".".join(part for part in (prefix, name.replace("_", "-")) if part)
        found.append((field.name, name.upper() if positional else f"--{path}", getattr(value, field.name)))
    return found


def _all_options(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield option and value of every field of an object and of the objects in it."""
    for _, option, nested in _options(value, prefix):
        if is_dataclass(nested) and not isinstance(nested, type):
            yield from _all_options(nested, option.removeprefix("--"))
        yield option, nested


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _message(error: ValueError, value: object, prefix: str = "") -> str | None:
    """Return the message of an error with the option in place of its argument, or None if no single option gives that argument."""
    argument = getattr(error, "argument", None)
    if argument is None:
        return None
    path, message = argument.lower().replace("_", "-").split("."), str(error)
    found = {o: v for o, v in _all_options(value, prefix) if o.lower().strip("-").split(".")[-len(path) :] == path}
    if len(found) > 1:  # such as the names of the run and of its data: the message quotes the value
        quoted = {word.strip(",.;:") for word in message.split()}
        found = {option: v for option, v in found.items() if quoted & {repr(v), *map(repr, v if _is_list(v) else ())}}
    if len(found) != 1:
        return None
    (option,) = found
    named = message.replace(f"`{argument}`", option)
    return named if option in named else f"{option}: {message}"
