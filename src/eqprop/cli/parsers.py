"""What a word of the command line means: numbers, steps, sizes, coders, preparations of samples; and the word for each.

Readers raise ValueError, beginning with "must", as the option goes before it; each of the ``_text`` gives the word back.
"""

from difflib import get_close_matches
from typing import Literal

from eqprop._core.checks import positive
from eqprop.data.augmentation import Augment, Normalize
from eqprop.solvers.anderson import Anderson
from eqprop.solvers.schedules import Asynchronous, Schedule, Synchronous
from eqprop.solvers.settle import Settle
from eqprop.spiking import OSA, Bernoulli, Coder, Decay, SigmaDelta

__all__ = [
    "CODERS", "STEPS", "augmentation", "augmentation_text", "coder", "coder_text", "folder", "normalization",
    "normalization_text", "pair", "real", "size", "size_text", "steps", "steps_text", "whole",
]  # fmt: skip

LARGEST = 2**63 - 1
"""What torch counts with."""


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


def normalization(word: str) -> Normalize | None:
    """``0.13:0.31`` are mean and standard deviation; each is one number, or one a channel with commas between them."""
    if word == "None":
        return None
    parts = [part.split(",") for part in word.split(":")]
    if len(parts) != 2 or not all(parts[0] + parts[1]):
        raise ValueError(f"must be MEAN:STD, each a number or one a channel with commas between them, got {word!r}")
    return Normalize(*(tuple(map(real, part)) for part in parts))


def normalization_text(value: Normalize | None) -> str:
    """The word for it."""
    return "None" if value is None else ":".join(",".join(map(str, part)) for part in (value.mean, value.std))


def folder(word: str) -> str:
    """A folder's name, which is not empty: that would be the present folder, unawares."""
    if not word:
        raise ValueError("must name a folder, got ''")
    return word


def pair(word: str) -> tuple[int, int]:
    """``0-2`` joins population 0 to population 2."""
    pre, dash, post = word.partition("-")
    if not (pre and dash and post):
        raise ValueError(f"must be PRE-POST, such as 0-2, got {word!r}")
    return whole(pre), whole(post)
