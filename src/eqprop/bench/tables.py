"""Measurements as tables, notes and JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from eqprop._core.measured_json import dump_measured
from eqprop.bench.candidates import BARE, LABELS
from eqprop.bench.measuring import Measurement, PhaseCost, StepCost
from eqprop.bench.settling import METHODS
from eqprop.report import Table

__all__ = ["as_json", "describe_setting", "list_absent", "make_tables"]

MIB = 2**20
ABSENT = "–"

TRAINING = """\
Training step: milliseconds, and in brackets the time divided by that of the bare arithmetic (the products and convolutions that
EP's step cannot avoid). * marks the recipe's own estimator. Every step includes an update by plain SGD."""
SETTLING = "Step of the free phase: milliseconds, and in brackets the time divided by that of its bare arithmetic."
RESIDUAL = "Free phase to a residual of {residual:g} with the initial weights: steps, milliseconds. * marks the recipe's method."
MEMORY = "Memory of a training step in MiB: peak of live tensors, with gradients, without weights and batch."


def describe_setting(found: Measurement) -> str:
    """Return the recipe, batch size and number of threads as text.

    >>> from types import SimpleNamespace
    >>> describe_setting(SimpleNamespace(recipe="p-1h", batch=20, threads=1))
    'p-1h, batch 20, 1 thread'
    """
    return f"{found.recipe}, batch {found.batch}, {found.threads} thread{'s' * (found.threads > 1)}"


def make_tables(found: Sequence[Measurement], residual: float) -> dict[str, Table]:
    """Return tables by caption: training steps, steps of a free phase, free phases to a residual, memory."""
    steps = _make_table(found, LABELS, lambda m: m.training, _format_time, lambda m: m.own)
    phases = [[str(m.free_steps), str(m.nudged_steps)] for m in found]
    rows = [[row[0], *more, *row[1:]] for row, more in zip(steps.rows, phases, strict=True)]
    methods = tuple(METHODS)
    stored = tuple(name for name in LABELS if name != BARE)
    return {
        TRAINING: Table((steps.head[0], "T", "K", *steps.head[1:]), rows),
        SETTLING: _make_table(found, (*methods, BARE), lambda m: m.settling, _format_time, lambda m: m.own_method),
        RESIDUAL.format(residual=residual): _make_table(
            found, methods, lambda m: m.settling, _format_steps, lambda m: m.own_method
        ),
        MEMORY: _make_table(found, stored, lambda m: m.training, _format_memory, lambda m: m.own),
    }


def _make_table(
    found: Sequence[Measurement],
    columns: Sequence[str],
    part: Callable[[Measurement], Mapping[str, Any]],
    format_cell: Callable[[Any], str],
    own: Callable[[Measurement], str],
) -> Table:
    """Return a table with a row for each setting and a column for each candidate or method."""

    def text(m: Measurement, name: str) -> str:
        cost = part(m).get(name)
        return ABSENT if cost is None else format_cell(cost) + " *" * (name == own(m))

    return Table(("setting", *columns), [[describe_setting(m), *(text(m, name) for name in columns)] for m in found])


def _format_time(cost: StepCost | PhaseCost) -> str:
    """ "3.78 (2.6)", or the time alone for the bare arithmetic."""
    times_bare = f" ({_format_number(cost.times_bare)})" if cost.times_bare != 1 else ""
    return _format_number(cost.milliseconds) + times_bare


def _format_steps(cost: PhaseCost) -> str:
    """ "9, 0.402"."""
    return "not reached" if cost.milliseconds_to is None else f"{cost.steps}, {_format_number(cost.milliseconds_to)}"


def _format_memory(cost: StepCost) -> str:
    assert cost.peak_bytes is not None
    return _format_number(cost.peak_bytes / MIB)


def _format_number(value: float) -> str:
    """Three digits, without a power of ten.

    >>> _format_number(0.01234), _format_number(1234.5), _format_number(999.7)
    ('0.0123', '1234', '1000')
    """
    return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"


def list_absent(found: Sequence[Measurement]) -> list[str]:
    """Return one line for each candidate or method that was not measured, with the recipes and the reason."""
    recipes_by_reason: dict[tuple[str, str], list[str]] = {}
    for m in found:
        for name, reason in m.absent.items():
            recipes = recipes_by_reason.setdefault((name, reason.partition(", got ")[0]), [])
            recipes.extend([m.recipe] if m.recipe not in recipes else [])
    return [f"no {name} for {', '.join(recipes)}: {reason}" for (name, reason), recipes in recipes_by_reason.items()]


def as_json(
    command: str, environment: Mapping[str, Any], options: Mapping[str, Any], found: Sequence[Measurement]
) -> str:
    """Return the command, the environment, the options and every figure as JSON."""
    facts = {"command": command, "environment": dict(environment), **options, "rows": [asdict(m) for m in found]}
    return dump_measured(facts)
