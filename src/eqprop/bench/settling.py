"""Free phases by every method: what a step takes, and how many are needed until no unit moves by more than a residual."""

from collections.abc import Callable
from dataclasses import replace

import torch

from eqprop.bench.arithmetic import bare, of_settling
from eqprop.bench.candidates import BARE, Task
from eqprop.bench.timing import Step
from eqprop.models.model import Model, relax
from eqprop.solvers.anderson import Anderson
from eqprop.solvers.phase import init_phase
from eqprop.solvers.schedules import Asynchronous
from eqprop.solvers.settle import Settle, settle

__all__ = ["METHODS", "STEPS", "admitted", "own_method", "phase_steps", "steps_to"]

METHODS = {
    "sync": Settle(1),
    "async": Settle(1, schedule=Asynchronous()),
    "anderson": Settle(1, accelerate=Anderson()),
    "async+anderson": Settle(1, schedule=Asynchronous(), accelerate=Anderson()),
}
"""Synchronous steps, sweeps, and both accelerated."""

STEPS = 20
"""That are timed together."""


def admitted(model: Model) -> tuple[dict[str, Settle], dict[str, str]]:
    """The methods that the model's dynamics bear, and for the others why not."""
    found, absent = {}, {}
    for name, method in METHODS.items():
        try:
            method.check_dynamics(model.network, model.dynamics)
        except ValueError as error:
            absent[name] = str(error)
        else:
            found[name] = method
    return found, absent


def own_method(steps: Settle) -> str:
    """The name of the method that a phase settles by."""
    same = replace(METHODS["sync"], schedule=steps.schedule, accelerate=steps.accelerate and Anderson())
    return next(name for name, method in METHODS.items() if method == same)


def phase_steps(task: Task) -> dict[str, Step]:
    """By method, a function that takes ``STEPS`` steps from zero on; "bare" does their arithmetic alone."""
    model = task.model()
    x, _ = task.samples(model)
    with torch.no_grad():
        phase, start = init_phase(model.network, model.dynamics, x)

    def made(method: Settle) -> Callable[[], object]:
        steps = replace(method, steps=STEPS)
        return torch.no_grad()(lambda: settle(phase, start, steps))

    methods, _ = admitted(model)
    return {name: made(method) for name, method in methods.items()} | {
        BARE: bare(model, of_settling(model, task.batch, STEPS))
    }


def steps_to(task: Task, name: str, residual: float, most: int) -> tuple[int | None, float]:
    """Steps of a free phase until the residual is met, None if ``most`` do not suffice, and the residual of the last step."""
    model = task.model()
    x, _ = task.samples(model)
    found = relax(model, x, replace(METHODS[name], steps=most, tol=residual, check_every=1))
    last = found.residual.max().item()
    return found.steps if last <= residual else None, last
