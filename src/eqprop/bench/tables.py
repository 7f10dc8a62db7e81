"""What was measured, as tables and as one file."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from eqprop.bench.candidates import BARE, LABELS
from eqprop.bench.measuring import Measured, Settled, Trained
from eqprop.bench.settling import METHODS
from eqprop.report import Table

__all__ = ["as_json", "notes", "setting", "tables"]

MIB = 2**20
NOTHING = "–"

TRAINING = """\
A training step, in milliseconds, and how many times as long it takes as the bare arithmetic: the products and convolutions that
EP's step cannot avoid. The recipe's own estimator has a star; everyone's step ends with one of plain SGD."""
SETTLING = "A step of the free phase, in milliseconds, and how many times as long it takes as its bare arithmetic."
RESIDUAL = (
    "To a residual of {residual:g} at the first weights: steps, and milliseconds. The recipe's own way has a star."
)
MEMORY = "Memory of a training step, in MiB: the most bytes of tensors alive at once, gradients included, weights and batch not."


def setting(found: Measured) -> str:
    """What was measured, in a cell.

    >>> from types import SimpleNamespace
    >>> setting(SimpleNamespace(recipe="p-1h", batch=20, threads=1))
    'p-1h, batch 20, 1 thread'
    """
    return f"{found.recipe}, batch {found.batch}, {found.threads} thread{'s' * (found.threads > 1)}"


def tables(found: Sequence[Measured], residual: float) -> dict[str, Table]:
    """By what they tell: training steps, steps of a free phase, phases down to a residual, memory."""
    steps = grid(found, LABELS, lambda m: m.training, slower, lambda m: m.own)
    phases = [[str(m.free_steps), str(m.nudged_steps)] for m in found]
    rows = [[row[0], *more, *row[1:]] for row, more in zip(steps.rows, phases, strict=True)]
    methods, own = (*METHODS, BARE), lambda m: m.own_method
    return {
        TRAINING: Table((steps.head[0], "T", "K", *steps.head[1:]), rows),
        SETTLING: grid(found, methods, lambda m: m.settling, slower, own),
        RESIDUAL.format(residual=residual): grid(found, tuple(METHODS), lambda m: m.settling, reached, own),
        MEMORY: grid(
            found, tuple(name for name in LABELS if name != BARE), lambda m: m.training, peak, lambda m: m.own
        ),
    }


def grid(
    found: Sequence[Measured],
    columns: Sequence[str],
    part: Callable[[Measured], Mapping[str, Any]],
    cell: Callable[[Any], str],
    own: Callable[[Measured], str],
) -> Table:
    """A line a setting, a column a contender or method; nothing where there is none."""

    def text(m: Measured, name: str) -> str:
        one = part(m).get(name)
        return NOTHING if one is None else cell(one) + " *" * (name == own(m))

    return Table(("setting", *columns), [[setting(m), *(text(m, name) for name in columns)] for m in found])


def slower(one: Trained | Settled) -> str:
    """ "3.78 (2.6)"; of the bare arithmetic its time alone."""
    return three(one.milliseconds) + (f" ({three(one.times_bare)})" if one.times_bare != 1 else "")


def reached(one: Settled) -> str:
    """ "9, 0.402", or that it did not get there."""
    return "not reached" if one.milliseconds_to is None else f"{one.steps}, {three(one.milliseconds_to)}"


def peak(one: Trained) -> str:
    """ "1.79"."""
    assert one.peak_bytes is not None
    return three(one.peak_bytes / MIB)


def three(figure: float) -> str:
    """Three digits, and no power of ten.

    >>> three(0.01234), three(1234.5), three(999.7)
    ('0.0123', '1234', '1000')
    """
    return f"{figure:.3g}" if figure < 999.5 else f"{figure:.0f}"


def notes(found: Sequence[Measured]) -> list[str]:
    """Why contenders and methods are not there: a line for each that some recipe lacks."""
    why: dict[tuple[str, str], list[str]] = {}
    for m in found:
        for name, reason in m.absent.items():
            recipes = why.setdefault((name, reason.partition(", got ")[0]), [])
            recipes.extend([m.recipe] if m.recipe not in recipes else [])
    return [f"no {name} of {', '.join(recipes)}: {reason}" for (name, reason), recipes in why.items()]


def as_json(command: str, environment: Mapping[str, Any], choices: Mapping[str, Any], found: Sequence[Measured]) -> str:
    """All of it: the command, what it ran on, what was chosen, and every figure."""
    facts = {"command": command, "environment": dict(environment), **choices, "rows": [asdict(m) for m in found]}
    return json.dumps(facts, indent=2, allow_nan=False) + "\n"
