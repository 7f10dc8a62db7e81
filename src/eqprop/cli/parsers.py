"""Parsers: how a word of the command line becomes a value, and how a value becomes the word that a help shows.

A new option is a new field of the dataclass that holds its value, such as `Run` or `ExecutionOptions`; tyro finds it there, with
its help. Only a field of a new type needs more: a parser and a formatter here, and a row in `eqprop.cli.constructors.PARSERS`.

A parser raises ValueError with a message that begins with "must": `eqprop.cli.options` puts the option before it.
"""

from difflib import get_close_matches
from typing import Literal

import torch

from eqprop._core.checks import ArgumentError, positive
from eqprop.data.augmentation import Augment, Normalize
from eqprop.solvers.anderson import Anderson
from eqprop.solvers.schedules import Asynchronous, Schedule, Synchronous
from eqprop.solvers.settle import Settle
from eqprop.spiking import OSA, Bernoulli, Coder, Decay, SigmaDelta

__all__ = [
    "CODERS",
    "STEPS",
    "as_device",
    "format_augment",
    "format_coder",
    "format_normalize",
    "format_step_size",
    "format_steps",
    "parse_augment",
    "parse_coder",
    "parse_edge",
    "parse_float",
    "parse_folder",
    "parse_int",
    "parse_normalize",
    "parse_step_size",
    "parse_steps",
]


def parse_int(word: str) -> int:
    """Return a whole number that torch can count with."""
    try:
        number = int(word)
    except ValueError:
        raise ValueError(f"must be a whole number, got {word!r}") from None
    if abs(number) >= 2**63:
        raise ValueError(f"must be a whole number below 2**63, got {word}")
    return number


def parse_float(word: str) -> float:
    """Return a number."""
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"must be a number, got {word!r}") from None


SCHEDULES: dict[str, Schedule] = {"async": Asynchronous()}
"""Words for schedules other than the default one."""

STEPS = "STEPS[:TOL][:async][:andersonM][:meanM]"
EXAMPLES = "30, 100:1e-4, 60:async, 60:anderson5 or 25:mean6"


def parse_steps(word: str) -> int | Settle:
    """Return the length of a phase, with its tolerance, schedule, acceleration and averaging.

    >>> parse_steps("30")
    30
    >>> parse_steps("100:1e-4:async").tol
    0.0001
    """
    number, *choices = word.split(":")
    average = choices.pop().removeprefix("mean") if choices and choices[-1].startswith("mean") else "1"
    window = choices.pop().removeprefix("anderson") if choices and choices[-1].startswith("anderson") else None
    schedule = SCHEDULES[choices.pop()] if choices and choices[-1] in SCHEDULES else Synchronous()
    if len(choices) > 1 or not all((number, *choices, average)):
        raise ValueError(f"must be {STEPS}, such as {EXAMPLES}, got {word!r}")
    if ":" not in word:
        return parse_int(number)
    tol = _parse_tolerance(choices[0]) if choices else None
    accelerate = None if window is None else Anderson(parse_int(window)) if window else Anderson()
    return Settle(parse_int(number), tol, schedule, average=parse_int(average), accelerate=accelerate)


def _parse_tolerance(word: str) -> float:
    """Return a tolerance; a misspelled schedule or acceleration may stand in its place."""
    if near := get_close_matches(word.rstrip("0123456789"), [*SCHEDULES, "anderson"], 1):
        raise ValueError(f"must be {STEPS}, got {word!r}: did you mean {near[0]!r}?")
    return positive("tolerance", parse_float(word))


def format_steps(value: int | Settle | None) -> str:
    """Return the word that `parse_steps` reads as this value.

    >>> format_steps(Settle(100, tol=1e-4))
    '100:0.0001'
    """
    if not isinstance(value, Settle):
        return str(value)
    words = [str(value.steps)] + ([] if value.tol is None else [str(value.tol)])
    words += [word for word, schedule in SCHEDULES.items() if schedule == value.schedule]
    if value.accelerate is not None:
        plain = value.accelerate == Anderson(value.accelerate.window)
        words.append(f"anderson{value.accelerate.window}" if plain else str(value.accelerate))
    return ":".join(words + ([f"mean{value.average}"] if value.average > 1 else []))


def parse_step_size(word: str) -> float | Decay | OSA:
    """Return a step size: ``0.5`` is constant, ``1/t^0.75`` decays with the tick, ``osa:0.03`` adapts.

    >>> parse_step_size("1/t")
    Decay(start=1.0, power=1.0)
    """
    if word == "osa":
        return OSA()
    start, decays, power = (f"{word}^1" if word.endswith("/t") else word).partition("/t^")
    try:
        if word.startswith("osa:"):
            return OSA(float(word.removeprefix("osa:")))
        return Decay(float(start), float(power)) if decays else float(word)
    except ArgumentError:
        raise
    except ValueError:
        raise ValueError(f"must be NUMBER, START/t^POWER or osa:TARGET, got {word!r}") from None


def format_step_size(value: float | Decay | OSA) -> str:
    """Return the word that `parse_step_size` reads as this value."""
    if isinstance(value, OSA):
        return f"osa:{value.target}"
    return f"{value.start}/t^{value.power}" if isinstance(value, Decay) else str(value)


CODERS: dict[str, Coder] = {"sigma-delta": SigmaDelta(), "bernoulli": Bernoulli()}


def parse_coder(word: str) -> Coder:
    """Return a coder by its name."""
    if word not in CODERS:
        near = get_close_matches(word, CODERS, 1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"must be one of {', '.join(CODERS)}, got {word!r}{hint}")
    return CODERS[word]


def format_coder(value: Coder) -> str:
    """Return the name of a coder."""
    return next((word for word, coder in CODERS.items() if coder == value), str(value))


BORDERS: dict[str, Literal["black", "edge"]] = {"pad": "black", "edge": "edge"}


def parse_augment(word: str) -> Augment | None:
    """Return an augmentation: ``pad:4`` and ``edge:4`` shift images, ``flip`` mirrors them, ``pad:4,flip`` does both.

    >>> parse_augment("pad:4,flip")
    Augment(pad=4, flip=True, border='black')
    """
    if word == "None":
        return None
    match [part.split(":") for part in word.split(",")]:
        case [["flip"]]:
            return Augment(0, flip=True)
        case [["pad" | "edge" as border, pixels], *rest] if rest in ([], [["flip"]]):
            return Augment(parse_int(pixels), flip=bool(rest), border=BORDERS[border])
    raise ValueError(f"must be pad:PIXELS or edge:PIXELS, flip, or both as pad:4,flip, got {word!r}")


def format_augment(value: Augment | None) -> str:
    """Return the word that `parse_augment` reads as this value."""
    if value is None:
        return "None"
    shift = f"{'pad' if value.border == 'black' else 'edge'}:{value.pad}"
    return f"{shift},flip" if value.flip else shift


def parse_normalize(word: str) -> Normalize | None:
    """Return a normalization: mean and standard deviation, each one number or one a channel.

    >>> parse_normalize("0.13:0.31")
    Normalize(mean=(0.13,), std=(0.31,))
    """
    if word == "None":
        return None
    parts = [part.split(",") for part in word.split(":")]
    if len(parts) != 2 or not all(parts[0] + parts[1]):
        raise ValueError(f"must be MEAN:STD, each a number or one a channel with commas between them, got {word!r}")
    return Normalize(*(tuple(map(parse_float, part)) for part in parts))


def format_normalize(value: Normalize | None) -> str:
    """Return the word that `parse_normalize` reads as this value."""
    return "None" if value is None else ":".join(",".join(map(str, part)) for part in (value.mean, value.std))


def parse_edge(word: str) -> tuple[int, int]:
    """Return the two populations of a connection: ``0-2`` connects population 0 to population 2."""
    pre, dash, post = word.partition("-")
    if not (pre and dash and post):
        raise ValueError(f"must be PRE-POST, such as 0-2, got {word!r}")
    return parse_int(pre), parse_int(post)


def parse_folder(word: str) -> str:
    """Return the name of a folder; an empty one would silently mean the working directory."""
    if not word:
        raise ValueError("must name a folder, got ''")
    return word


def as_device(name: str) -> str:
    """Return the name of a device that PyTorch finds: the CPU, or a GPU by its number.

    Raises:
        ArgumentError: for any other device.

    >>> as_device("cpu")
    'cpu'
    """
    kind, _, number = name.partition(":")
    if not (name in ("cpu", "cuda") or (kind == "cuda" and number.isdecimal() and len(number) <= 4)):
        raise ArgumentError("device", f"`device` must be cpu, cuda or cuda:N, got {name!r}")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if int(number or 0) >= count:
        found = f"{count or 'no'} CUDA device{'s' * (count > 1)}"
        remedy = "use cuda:N with a smaller N, or cpu" if count else "use cpu"
        message = f"`device` must be a device of this machine, got {name!r}: PyTorch finds {found}; {remedy}"
        raise ArgumentError("device", message)
    return name
