"""Free phases by several methods: time per step, and steps until no unit changes by more than a residual."""

from collections.abc import Callable
from dataclasses import replace

import torch

from eqprop.bench.arithmetic import make_bare_step, settling_parts
from eqprop.bench.candidates import BARE, Task
from eqprop.bench.timing import Step
from eqprop.models.model import Model, relax
from eqprop.solvers.anderson import Anderson
from eqprop.solvers.phase import init_phase
from eqprop.solvers.schedules import Asynchronous
from eqprop.solvers.settle import Settle, settle

__all__ = ["METHODS", "STEPS", "count_steps", "find_method", "make_phase_steps", "supported_methods"]

METHODS = {
    "sync": Settle(1),
    "async": Settle(1, schedule=Asynchronous()),
    "anderson": Settle(1, accelerate=Anderson()),
    "async+anderson": Settle(1, schedule=Asynchronous(), accelerate=Anderson()),
}
"""Synchronous steps and asynchronous sweeps, plain and with Anderson acceleration."""

STEPS = 20
"""Steps that are timed as one unit."""


def supported_methods(model: Model) -> tuple[dict[str, Settle], dict[str, str]]:
    """Return the methods that the model's dynamics support, and for each other method the reason why not."""
    supported, unsupported = {}, {}
    for name, method in METHODS.items():
        try:
            method.check_dynamics(model.network, model.dynamics)
        except ValueError as error:
            unsupported[name] = str(error)
        else:
            supported[name] = method
    return supported, unsupported


def find_method(phase: Settle) -> str:
    """Return the name of the method that a phase uses."""
    same = replace(METHODS["sync"], schedule=phase.schedule, accelerate=phase.accelerate and Anderson())
    return next(name for name, method in METHODS.items() if method == same)


def make_phase_steps(task: Task) -> dict[str, Step]:
    """Return for each method a function that takes ``STEPS`` free steps from the initial state; "bare" runs their arithmetic."""
    model = task.model()
    x, _ = task.samples(model)
    with torch.no_grad():
        phase, start = init_phase(model.network, model.dynamics, x)

    def make_step(method: Settle) -> Callable[[], object]:
        steps = replace(method, steps=STEPS)
        return torch.no_grad()(lambda: settle(phase, start, steps))

    methods, _ = supported_methods(model)
    return {name: make_step(method) for name, method in methods.items()} | {
        BARE: make_bare_step(model, settling_parts(model, task.batch, STEPS))
    }


def count_steps(task: Task, method: str, residual: float, limit: int) -> tuple[int | None, float]:
    """Return the free steps until ``residual`` is reached, None if ``limit`` steps do not suffice, and the last residual."""
    model = task.model()
    x, _ = task.samples(model)
    solution = relax(model, x, replace(METHODS[method], steps=limit, tol=residual, check_every=1))
    last = solution.residual.max().item()
    return solution.steps if last <= residual else None, last
