"""Which words of the command line stand for a field, by its type.

tyro reads the dataclasses and asks these rules first. What a word means: `eqprop.cli.parsers`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from eqprop.activations import Activation, as_activation
from eqprop.cli.parsers import (
    CODERS,
    STEPS,
    augmentation,
    augmentation_text,
    coder,
    coder_text,
    folder,
    normalization,
    normalization_text,
    pair,
    real,
    size,
    size_text,
    steps,
    steps_text,
    whole,
)  # fmt: skip
from eqprop.connections.pooling import PoolName
from eqprop.data.augmentation import Augment, Normalize
from eqprop.solvers.settle import Settle
from eqprop.spiking import OSA, Coder, Decay

__all__ = ["REGISTRY"]

REGISTRY = ConstructorRegistry()

Spec = PrimitiveConstructorSpec[Any]


def members(kind: object) -> set[object]:
    """The classes of a union, or the class itself."""
    return set(get_args(kind)) if get_origin(kind) in (Union, UnionType) else {kind}


def single(metavar: str, read: Callable[[str], Any], *kinds: type, text: Callable[[Any], str] = str) -> Spec:
    """What is one word."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: isinstance(value, kinds),
        str_from_instance=lambda value: [text(value)],
    )


def several(metavar: str, read: Callable[[str], Any], nargs: int | Literal["*"] = "*", *, none: bool = False) -> Spec:
    """What is several words; where ``none``, the word "None" stands for none at all."""
    return PrimitiveConstructorSpec(
        nargs=nargs,
        metavar=metavar,
        instance_from_str=lambda words: () if none and words == ["None"] else tuple(map(read, named(words))),
        is_instance=lambda value: isinstance(value, Sequence),
        str_from_instance=lambda value: [f"{part}" for part in value] or ["None"],
    )


def one_or_several(metavar: str, read: Callable[[str], Any]) -> Spec:
    """One word for all, or one for each."""
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]) if len(words) == 1 else tuple(map(read, named(words))),
        is_instance=lambda value: isinstance(value, int | float | Sequence),
        str_from_instance=lambda value: [f"{part}" for part in (value if isinstance(value, Sequence) else [value])],
    )


def pairs() -> Spec:
    """Pairs of populations; the word "None" stands for none."""
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="PRE-POST ...",
        instance_from_str=lambda words: () if words == ["None"] else tuple(map(pair, named(words))),
        is_instance=lambda value: isinstance(value, Sequence),
        str_from_instance=lambda value: [f"{pre}-{post}" for pre, post in value] or ["None"],
    )


def rates_or_none() -> Spec:
    """Learning rates, or the word "None"."""
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="RATE [RATE ...]",
        instance_from_str=lambda words: None if words == ["None"] else tuple(map(real, words)),
        is_instance=lambda value: value is None or isinstance(value, Sequence),
        str_from_instance=lambda value: ["None"] if value is None else [f"{part}" for part in value],
    )


def named(words: Sequence[str]) -> Sequence[str]:
    """The words of a list, which names something; an option that is to name nothing is left out."""
    if not words:
        raise ValueError("must name at least one value")
    return words


@REGISTRY.primitive_rule
def numbers(info: PrimitiveTypeInfo) -> Spec | None:
    """A number, or two, or a list."""
    if info.type is int:
        return single("INT", whole, int)
    if members(info.type) == {int, NoneType}:
        return single("{None}|INT", lambda word: None if word == "None" else whole(word), int, NoneType)
    if info.type is float:
        return single("FLOAT", real, float, int)
    if info.type == Sequence[int]:
        return several("INT INT ...", whole, none=True)
    if info.type == Sequence[float]:
        return several("FLOAT FLOAT ...", real)
    if get_origin(info.type) is tuple and get_args(info.type) == (float, float):
        return several("FLOAT FLOAT", real, 2)
    if get_origin(info.type) is tuple and get_args(info.type) == (int, int, int):
        return several("INT INT INT", whole, 3)
    if info.type == Sequence[tuple[int, int]]:
        return pairs()
    if members(info.type) == {int, Sequence[int]}:  # one for all convolutions, or one for each
        return one_or_several("INT [INT ...]", whole)
    if members(info.type) == {float, Sequence[float]}:  # one for all connections, or one for each
        return one_or_several("FLOAT [FLOAT ...]", real)
    return rates_or_none() if members(info.type) == {float, Sequence[float], NoneType} else None


@REGISTRY.primitive_rule
def phases(info: PrimitiveTypeInfo) -> Spec | None:
    """How long to settle."""
    wanted = Settle in members(info.type)
    return single(STEPS, steps, int, Settle, NoneType, text=steps_text) if wanted else None


@REGISTRY.primitive_rule
def spikes(info: PrimitiveTypeInfo) -> Spec | None:
    """How far a tick goes, and what makes its spikes."""
    found = members(info.type)
    if Decay in found:
        rules = "{NUMBER|START/t^POWER|osa:TARGET}" if OSA in found else "{NUMBER|START/t^POWER}"
        return single(rules, size, float, int, Decay, OSA, text=size_text)
    return single(f"{{{','.join(CODERS)}}}", coder, Coder, text=coder_text) if found == {Coder} else None


@REGISTRY.primitive_rule
def preparations(info: PrimitiveTypeInfo) -> Spec | None:
    """What is done to samples."""
    if Augment in members(info.type):
        return single("{pad|edge}:PIXELS[,flip]", augmentation, Augment, NoneType, text=augmentation_text)
    if Normalize in members(info.type):
        return single("MEAN[,...]:STD[,...]", normalization, Normalize, NoneType, text=normalization_text)
    return None


@REGISTRY.primitive_rule
def activations(info: PrimitiveTypeInfo) -> Spec | None:
    """An activation by its name."""
    if Activation not in members(info.type):
        return None
    return single(
        "NAME",
        lambda word: None if word == "None" else as_activation(word).name,
        *(str, Activation, NoneType),
        text=lambda value: getattr(value, "name", str(value)),
    )


@REGISTRY.primitive_rule
def folders(info: PrimitiveTypeInfo) -> Spec | None:
    """A folder, or none; text that may be left out is one too."""
    found = members(info.type)
    if Path in found:
        return single("FOLDER", lambda word: Path(folder(word)), Path, NoneType)
    return single("FOLDER", folder, str, NoneType) if found == {str, NoneType} else None


@REGISTRY.primitive_rule
def choices(info: PrimitiveTypeInfo) -> Spec | None:
    """One of some words, or nothing; that is said by leaving the option out, except of a pooling, which a recipe may have."""
    found = members(info.type)
    literals = [kind for kind in found if get_origin(kind) is Literal]
    if NoneType not in found or len(literals) != 1 or len(found) != 2:
        return None
    words = tuple(map(str, get_args(literals[0]))) + ("None",) * (literals[0] == PoolName)
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{{{','.join(words)}}}",
        instance_from_str=lambda given: None if given[0] == "None" else given[0],
        is_instance=lambda value: value is None or value in words,
        str_from_instance=lambda value: [str(value)],
        choices=words,
    )
