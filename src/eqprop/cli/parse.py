"""From words to typed options: tyro reads the dataclasses; what it says of a mistake is cut to three plain lines."""

import contextlib
import io
import sys
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from eqprop.activations import Activation, as_activation
from eqprop.cli.errors import UsageError
from eqprop.settle import Settle

__all__ = ["parse"]

T = TypeVar("T")

RULE = ("─", "╰")
WIDTH = 200


def parse(kind: type[T], words: Sequence[str], prog: str, default: T | None = None, help: str | None = None) -> T:
    """The options of a command.

    Raises:
        UsageError: at most three lines that name the offending word.
        SystemExit: after ``--help``.
    """
    said = io.StringIO()
    extra: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with REGISTRY, contextlib.redirect_stderr(said):
            return tyro.cli(kind, prog=prog, args=list(words), description=help, config=CONFIG, **extra)
    except SystemExit as end:
        if end.code in (0, None):
            sys.stderr.write(said.getvalue())
            raise
        raise UsageError(plain(said.getvalue(), prog)) from None


def plain(box: str, prog: str) -> str:
    """What a tyro error says, without its box: the message, the nearest option, where the help is."""
    body = [line.strip("│ ") for line in box.splitlines() if not line.startswith("╭")]
    rules = [n for n, line in enumerate(body) if line[:1] in RULE] or [len(body)]
    message = " ".join(body[: rules[0]]).removeprefix("Error parsing run.").removeprefix("Error parsing ")
    hint = next((after.split()[0] for line, after in pairwise(body[rules[0] :]) if line.startswith("Perhaps")), "")
    hint = f"; did you mean {hint}?" if hint else ""
    return f"{textwrap.shorten(message, WIDTH, placeholder=' …')}{hint}\nsee `{prog} --help`"


def members(kind: object) -> set[object]:
    """The classes of a union."""
    return set(get_args(kind)) if get_origin(kind) in (Union, UnionType) else set()


REGISTRY = ConstructorRegistry()
CONFIG = (tyro.conf.AvoidSubcommands, tyro.conf.UsePythonSyntaxForLiteralCollections)


@REGISTRY.primitive_rule
def steps(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """``30`` are steps; ``100:1e-4`` are at most 100, fewer once the residual is below 1e-4."""
    if Settle not in members(info.type):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="STEPS[:TOL]",
        instance_from_str=lambda words: as_steps(words[0]),
        is_instance=lambda value: value is None or isinstance(value, int | Settle),
        str_from_instance=lambda value: [as_text(value)],
    )


def as_steps(word: str) -> int | Settle | None:
    """What ``STEPS[:TOL]`` stands for."""
    if word == "None":
        return None
    number, _, tolerance = word.partition(":")
    return Settle(int(number), float(tolerance)) if tolerance else int(number)


def as_text(value: int | Settle | None) -> str:
    """The word for it."""
    return f"{value.steps}:{value.tol}" if isinstance(value, Settle) and value.tol is not None else str(value)


@REGISTRY.primitive_rule
def activation(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """An activation by its name."""
    if Activation not in members(info.type):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="NAME",
        instance_from_str=lambda words: None if words[0] == "None" else as_activation(words[0]).name,
        is_instance=lambda value: value is None or isinstance(value, str | Activation),
        str_from_instance=lambda value: [getattr(value, "name", str(value))],
    )


@REGISTRY.primitive_rule
def rates(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """One learning rate, or one a connection."""
    if members(info.type) != {float, Sequence[float]}:
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="RATE [RATE ...]",
        instance_from_str=lambda words: tuple(float(word) for word in words),
        is_instance=lambda value: isinstance(value, float | Sequence),
        str_from_instance=lambda value: [str(rate) for rate in value],
    )
