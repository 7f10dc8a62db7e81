"""The parser of every type of field, as tyro asks for them. What the words mean is in `eqprop.cli.parsers`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from eqprop.activations import Activation, as_activation
from eqprop.cli.parsers import (
    CODERS,
    STEPS,
    format_augment,
    format_coder,
    format_normalize,
    format_step_size,
    format_steps,
    parse_augment,
    parse_coder,
    parse_edge,
    parse_float,
    parse_folder,
    parse_int,
    parse_normalize,
    parse_step_size,
    parse_steps,
)  # fmt: skip
from eqprop.connections.pooling import PoolName
from eqprop.data.augmentation import Augment, Normalize
from eqprop.solvers.settle import Settle
from eqprop.spiking import OSA, Coder, Decay

__all__ = ["REGISTRY", "Rejected", "find_parser"]

T = TypeVar("T")
Parser = PrimitiveConstructorSpec[Any]


@dataclass(frozen=True)
class Rejected:
    """Stands for a value that its parser refused, until the option that it belongs to is known."""

    message: str


def _optional(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    """Let a parser also accept the word None."""
    return lambda word: None if word == "None" else parse(word)


def _word(metavar: str, parse: Callable[[str], Any], format_: Callable[[Any], str] = str) -> Parser:
    """Return the parser of a value that is one word."""
    return _parser(metavar, 1, lambda words: parse(words[0]), lambda value: [format_(value)])


def _words(
    metavar: str,
    parse: Callable[[str], Any],
    nargs: int | Literal["*"] = "*",
    *,
    format_: Callable[[Any], str] = str,
    empty: object = Rejected("must name at least one value"),
    scalar: bool = False,
) -> Parser:
    """Return the parser of a list of words.

    Args:
        metavar: how the help writes the words.
        parse: reads one word.
        nargs: number of words.
        format_: writes one word.
        empty: value of the word None; a list without words is refused.
        scalar: a single word stands for itself, not for a list of one.
    """

    def parse_words(words: Sequence[str]) -> Any:
        if list(words) == ["None"] and not isinstance(empty, Rejected):
            return empty
        if not words:
            raise ValueError("must name at least one value")
        values = tuple(map(parse, words))
        return values[0] if scalar and len(values) == 1 else values

    def format_words(value: Any) -> list[str]:
        if value is None:
            return ["None"]
        return [format_(part) for part in (value if isinstance(value, Sequence) else [value])] or ["None"]

    return _parser(metavar, nargs, parse_words, format_words)


def _parser(
    metavar: str,
    nargs: int | Literal["*"],
    parse: Callable[[Any], Any],
    format_: Callable[[Any], list[str]],
    choices: tuple[str, ...] | None = None,
) -> Parser:
    """Return tyro's record of a parser; what the parser refuses becomes `Rejected`."""

    def parse_or_reject(words: list[str]) -> Any:
        try:
            return parse(words)
        except ValueError as error:
            return Rejected(str(error))

    return PrimitiveConstructorSpec(nargs, metavar, parse_or_reject, lambda value: True, format_, choices=choices)


def _activation(word: str) -> str:
    try:
        return as_activation(word).name
    except ValueError as error:  # of the argument of `as_activation`, which is another than the option's
        raise ValueError(str(error).removeprefix("`activation` ")) from None


def _activation_name(value: object) -> str:
    return getattr(value, "name", str(value))


PARSERS: dict[frozenset[Any], Parser] = {
    frozenset(types): parser
    for *types, parser in (
        (int, _word("INT", parse_int)),
        (int, NoneType, _word("{None}|INT", _optional(parse_int))),
        (float, _word("FLOAT", parse_float)),
        (Sequence[int], _words("INT INT ...", parse_int, empty=())),
        (Sequence[float], _words("FLOAT FLOAT ...", parse_float)),
        (tuple[float, float], _words("FLOAT FLOAT", parse_float, 2)),
        (tuple[int, int, int], _words("INT INT INT", parse_int, 3)),
        (int, Sequence[int], _words("INT [INT ...]", parse_int, scalar=True)),
        (float, Sequence[float], _words("FLOAT [FLOAT ...]", parse_float, scalar=True)),
        (float, Sequence[float], NoneType, _words("RATE [RATE ...]", parse_float, empty=None)),
        (Sequence[tuple[int, int]], _words("PRE-POST ...", parse_edge, format_=lambda e: f"{e[0]}-{e[1]}", empty=())),
        (int, Settle, _word(STEPS, _optional(parse_steps), format_steps)),
        (int, Settle, NoneType, _word(STEPS, _optional(parse_steps), format_steps)),
        (float, Decay, _word("{NUMBER|START/t^POWER}", parse_step_size, format_step_size)),
        (float, Decay, OSA, _word("{NUMBER|START/t^POWER|osa:TARGET}", parse_step_size, format_step_size)),
        (Coder, _word(f"{{{','.join(CODERS)}}}", parse_coder, format_coder)),
        (Augment, NoneType, _word("{pad|edge}:PIXELS[,flip]", parse_augment, format_augment)),
        (Normalize, NoneType, _word("MEAN[,...]:STD[,...]", parse_normalize, format_normalize)),
        (str, Activation, _word("NAME", _activation, _activation_name)),
        (str, Activation, NoneType, _word("NAME", _optional(_activation), _activation_name)),
        (Path, _word("FOLDER", lambda word: Path(parse_folder(word)))),
        (Path, NoneType, _word("FOLDER", lambda word: Path(parse_folder(word)))),
        (str, NoneType, _word("FOLDER", parse_folder)),
    )
}
"""The parser of every type of field: the members of the type, then the parser."""


def find_parser(kind: object) -> Parser | None:
    """Return the parser of a type, or None for a type that tyro handles, such as a dataclass."""
    members = frozenset(get_args(kind)) if get_origin(kind) in (Union, UnionType) else frozenset({kind})
    literals = [member for member in members if get_origin(member) is Literal]
    if len(members) == 2 and NoneType in members and literals:
        # None means that the option is left out; only a pooling, which a recipe may set, is removed by the word None
        words = tuple(map(str, get_args(literals[0]))) + ("None",) * (literals[0] == PoolName)
        return _parser(f"{{{','.join(words)}}}", 1, lambda given: _optional(str)(given[0]), lambda v: [str(v)], words)
    return PARSERS.get(members)


REGISTRY = ConstructorRegistry()
"""Tells tyro of the parsers."""


@REGISTRY.primitive_rule
def _rule(info: PrimitiveTypeInfo) -> Parser | None:
    return find_parser(info.type)
