"""What a word of the command line stands for, kind by kind, and what is said of one that stands for nothing.

tyro reads the dataclasses and asks these rules first; an error here begins with "must", as the option goes before it.
"""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from eqprop.acceleration import Anderson
from eqprop.activations import Activation, as_activation
from eqprop.checks import positive
from eqprop.data.augment import Augment
from eqprop.data.normalise import Normalise
from eqprop.order import Asynchronous, Schedule, Synchronous
from eqprop.pooling import PoolName
from eqprop.settle import Settle
from eqprop.spiking import OSA, Bernoulli, Coder, Decay, SigmaDelta

__all__ = ["REGISTRY"]

REGISTRY = ConstructorRegistry()

LARGEST = 2**63 - 1
"""What torch counts with."""

Spec = PrimitiveConstructorSpec[Any]


def members(kind: object) -> set[object]:
    """The classes of a union, or the class itself."""
    return set(get_args(kind)) if get_origin(kind) in (Union, UnionType) else {kind}


def whole(word: str) -> int:
    """A whole number."""
    try:
        number = int(word)
    except ValueError:
        raise ValueError(f"must be a whole number, got {word!r}") from None
    if abs(number) > LARGEST:
        raise ValueError(f"must be a whole number below 2**63, got {word}")
    return number


def real(word: str) -> float:
    """A number."""
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"must be a number, got {word!r}") from None


ORDERS: dict[str, Schedule] = {"async": Asynchronous()}
"""The word for each schedule that is not the ordinary one."""

MEAN = "mean"
"""Goes before the number of last steps that are averaged."""

MIXED = "anderson"
"""Goes before the number of last differences that an acceleration mixes."""

STEPS = "STEPS[:TOL][:async][:andersonM][:meanM]"
"""How a phase is written."""


def steps(word: str) -> int | Settle | None:
    """``30`` are steps; ``100:1e-4`` are at most 100, fewer once the residual is below 1e-4; ``60:async`` are sweeps; of
    ``25:mean6`` the last six are averaged; ``60:1e-4:anderson5`` mixes the last five differences."""
    if word == "None":
        return None
    number, *choices = word.split(":")
    late = choices.pop()[len(MEAN) :] if choices and choices[-1].startswith(MEAN) else "1"
    mixed = choices.pop()[len(MIXED) :] if choices and choices[-1].startswith(MIXED) else None
    order = ORDERS[choices.pop()] if choices and choices[-1] in ORDERS else Synchronous()
    if len(choices) > 1 or not all((number, *choices, late)):
        raise ValueError(f"must be {STEPS}, such as 30, 100:1e-4, 60:async, 60:anderson5 or 25:mean6, got {word!r}")
    if ":" not in word:
        return whole(number)
    mix = None if mixed is None else Anderson(whole(mixed)) if mixed else Anderson()
    return Settle(whole(number), tolerance(choices[0]) if choices else None, order, average=whole(late), accelerate=mix)


def tolerance(word: str) -> float:
    """A tolerance, which stands where the name of a schedule might."""
    if near := get_close_matches(word.rstrip("0123456789"), [*ORDERS, MIXED], 1):
        raise ValueError(f"must be {STEPS}, got {word!r}: did you mean {near[0]!r}?")
    return positive("tolerance", real(word))


def steps_text(value: int | Settle | None) -> str:
    """The word for it."""
    if not isinstance(value, Settle):
        return str(value)
    order = [word for word, schedule in ORDERS.items() if schedule == value.schedule]
    late = [f"{MEAN}{value.average}"] if value.average > 1 else []
    mix = value.accelerate
    late += [] if mix is None else [f"{MIXED}{mix.window}" if mix == Anderson(mix.window) else str(mix)]
    return ":".join([str(value.steps), *([] if value.tol is None else [str(value.tol)]), *order, *late])


def size(word: str) -> float | Decay | OSA:
    """``0.5`` is constant; ``1/t^0.75`` decays with the tick; ``osa:0.03`` finds its own."""
    if word == "osa":
        return OSA()
    start, decays, power = (f"{word}^1" if word.endswith("/t") else word).partition("/t^")
    try:
        if word.startswith("osa:"):
            numbers = [float(word.removeprefix("osa:"))]
        else:
            numbers = [float(start), float(power)] if decays else [float(word)]
    except ValueError:
        raise ValueError(f"must be NUMBER, START/t^POWER or osa:TARGET, got {word!r}") from None
    if decays:
        return Decay(*numbers)
    return OSA(*numbers) if word.startswith("osa") else numbers[0]


def size_text(value: float | Decay | OSA) -> str:
    """The word for it."""
    if isinstance(value, OSA):
        return f"osa:{value.target}"
    return f"{value.start}/t^{value.power}" if isinstance(value, Decay) else str(value)


CODERS: dict[str, Coder] = {"sigma-delta": SigmaDelta(), "bernoulli": Bernoulli()}
"""The word for each coder."""


def coder(word: str) -> Coder:
    """A coder by its name."""
    if word not in CODERS:
        near = get_close_matches(word, CODERS, 1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"must be one of {', '.join(CODERS)}, got {word!r}{hint}")
    return CODERS[word]


def coder_text(value: Coder) -> str:
    """The word for it."""
    return next((word for word, one in CODERS.items() if one == value), str(value))


BORDERS: dict[str, Literal["black", "edge"]] = {"pad": "black", "edge": "edge"}
"""The border of an image that is moved, by the word for it."""


def augmentation(word: str) -> Augment | None:
    """``pad:4`` moves, ``edge:4`` too, ``flip`` mirrors, ``pad:4,flip`` does both."""
    if word == "None":
        return None
    match [part.split(":") for part in word.split(",")]:
        case [["flip"]]:
            return Augment(0, flip=True)
        case [["pad" | "edge" as border, pixels], *rest] if rest in ([], [["flip"]]):
            return Augment(whole(pixels), flip=bool(rest), border=BORDERS[border])
    raise ValueError(f"must be pad:PIXELS or edge:PIXELS, flip, or both as pad:4,flip, got {word!r}")


def augmentation_text(value: Augment | None) -> str:
    """The word for it."""
    if value is None:
        return "None"
    moved = f"{'pad' if value.border == 'black' else 'edge'}:{value.pad}"
    return f"{moved},flip" if value.flip else moved


def normalisation(word: str) -> Normalise | None:
    """``0.13:0.31`` are mean and standard deviation; each is one number, or one a channel with commas between them."""
    if word == "None":
        return None
    parts = [part.split(",") for part in word.split(":")]
    if len(parts) != 2 or not all(parts[0] + parts[1]):
        raise ValueError(f"must be MEAN:STD, each a number or one a channel with commas between them, got {word!r}")
    return Normalise(*(tuple(map(real, part)) for part in parts))


def normalisation_text(value: Normalise | None) -> str:
    """The word for it."""
    return "None" if value is None else ":".join(",".join(map(str, part)) for part in (value.mean, value.std))


def folder(word: str) -> str:
    """A folder's name, which is not empty: that would be the present folder, unawares."""
    if not word:
        raise ValueError("must name a folder, got ''")
    return word


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


def pair(word: str) -> tuple[int, int]:
    """``0-2`` joins population 0 to population 2."""
    pre, dash, post = word.partition("-")
    if not (pre and dash and post):
        raise ValueError(f"must be PRE-POST, such as 0-2, got {word!r}")
    return whole(pre), whole(post)


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
    if Normalise in members(info.type):
        return single("MEAN[,...]:STD[,...]", normalisation, Normalise, NoneType, text=normalisation_text)
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
