"""Steps and time to a residual, synchronous steps against asynchronous sweeps, plain and accelerated, side by side in one run.

    python benchmarks/schedules.py [--networks NAME ...] [--threads N] [--repeats N] [--batches N] [--json FILE] [--figure PATH]

Each network settles on the same batch of MNIST (random images where there is none) by every method that its dynamics admit,
with the weights that it is drawn with and after some training batches. The residual ``max |s_t - s_{t-1}|``, the largest of the
batch, is that of single precision; accelerated, ``max |F(z) - z|`` of the step that led to the state. It is what the last step
changed; what is left to go is more, the more so the slower the method, which favours synchronous steps, if anyone.

Time is that of a step, measured in turn, times their number.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import eqprop as ep
from eqprop import plots
from eqprop.bench import METHODS, rounded
from eqprop.data import load
from eqprop.papers.registry import recipe
from eqprop.plots import Course
from eqprop.solvers.phase import init_phase
from eqprop.solvers.settle import Settle, as_settle, residual
from eqprop.training import Run
from eqprop.training.environment import environment

NETWORKS = {"p-1h": 400, "p-2h": 400, "p-3h": 400, "p-conv-small": 200, "eb-1h": 400}
"""Recipe, and how many steps are watched; the convolutional one has the network of ``p-conv``."""

RESIDUALS = (1e-3, 1e-5)
BATCH = 20
TIMED = 100  # steps


def images(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, str]:
    """Images, classes, and what they are."""
    try:
        x, y = load("mnist").train
        return x.reshape(len(x), *shape), y, "mnist"
    except FileNotFoundError:
        return torch.rand(4000, *shape), torch.randint(10, (4000,)), "random"


def trained(run: Run, x: Tensor, y: Tensor, batches: int) -> ep.Model:
    """The run's model after so many batches; it settles in sweeps where it can, as not every network comes to rest otherwise."""
    model, estimator = run.build(), run.estimator
    assert isinstance(estimator, ep.EquilibriumProp)
    steps = as_settle("free_steps", estimator.free_steps).steps
    method = METHODS["async" if "async" in admitted(model) else "sync"]
    estimate = replace(estimator, free_steps=replace(method, steps=steps, tol=1e-3))
    optimizer = run.optimizer.build(model)
    for part in islice(torch.randperm(len(x)).split(run.data.batch_size), batches):
        for loss in estimate(model, x[part], y[part]):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def admitted(model: ep.Model) -> dict[str, Settle]:
    """The methods that the model's dynamics bear."""
    found = {}
    for name, method in METHODS.items():
        try:
            method.check_dynamics(model.network, model.dynamics)
        except ValueError:
            continue
        found[name] = method
    return found


def watched(model: ep.Model, x: Tensor, steps: int, repeats: int) -> dict[str, Course]:
    """By method, the residuals of a free phase, and what a step takes."""
    methods = admitted(model)
    times: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(repeats + 1):
        for name, method in methods.items():
            start = time.perf_counter()
            ep.relax(model, x, replace(method, steps=TIMED))
            if turn:  # the first round is not counted
                times[name].append(1e3 * (time.perf_counter() - start) / TIMED)
    return {name: Course(course(model, x, steps, m), statistics.median(times[name])) for name, m in methods.items()}


@torch.no_grad()
def course(model: ep.Model, x: Tensor, steps: int, method: Settle) -> list[float]:
    """The largest residual of the batch after each step."""
    phase, start = init_phase(model.network, model.dynamics, x)
    iterates = replace(method, steps=steps).iterate(method.schedule.transform(phase), start, phase.units, phase.project)
    return [residual(before, after).max().item() for before, after in iterates]


def row(network: str, weights: str, found: dict[str, Course]) -> dict[str, Any]:
    """The figures of one network."""
    time_to = {
        f"{r:g}": {name: None if (n := c.steps_to(r)) is None else n * c.milliseconds for name, c in found.items()}
        for r in RESIDUALS
    }
    return {
        "network": network,
        "weights": weights,
        "milliseconds_a_step": rounded({name: c.milliseconds for name, c in found.items()}),
        "steps_to": {f"{r:g}": {name: c.steps_to(r) for name, c in found.items()} for r in RESIDUALS},
        "milliseconds_to": {
            r: {name: None if ms is None else float(f"{ms:.3g}") for name, ms in each.items()}
            for r, each in time_to.items()
        },
    }


def lines(figures: dict[str, Any]) -> list[str]:
    """Rows of the table, one a method."""
    found = []
    for name, ms in figures["milliseconds_a_step"].items():
        cells = [f"{figures['network']:13}", f"{figures['weights']:12}", f"{name:15}", f"{ms:8.3g}"]
        for r in map("{:g}".format, RESIDUALS):
            for what in ("steps_to", "milliseconds_to"):
                value = figures[what][r][name]
                cells.append(f"{'never' if value is None else f'{value:g}':>11}")
        found.append(" ".join(cells))
    return found


def head() -> str:
    """What the columns are."""
    reached = [f"{what} to {r:g}" for r in RESIDUALS for what in ("steps", "ms")]
    return " ".join(
        [f"{'network':13}", f"{'weights':12}", f"{'method':15}", f"{'ms a step':>8}", *(f"{w:>11}" for w in reached)]
    )


def command(args: argparse.Namespace) -> str:
    """What to type to measure again."""
    choices = f"--networks {' '.join(args.networks)} --threads {args.threads} --repeats {args.repeats} --batches {args.batches}"
    return f"python benchmarks/schedules.py {choices}"


def main() -> None:
    """Measure every network, print a table, draw a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="recipes")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--repeats", type=int, default=9, help="rounds counted")
    parser.add_argument("--batches", type=int, default=300, help="training batches before the second measurement")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--figure", type=Path, help="where to draw them, without an ending")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows, drawn = [], {}
    print(head())
    for name in args.networks:
        run = recipe(name)
        x, y, source = images(run.build().network.populations[0].shape)
        models = {"initial": run.build(), f"{args.batches} batches": trained(run, x, y, args.batches)}
        found = {weights: watched(model, x[:BATCH], NETWORKS[name], args.repeats) for weights, model in models.items()}
        for weights, each in found.items():
            rows.append(row(name, weights, each) | {"data": source})
            print("\n".join(lines(rows[-1])), flush=True)
        methods = next(iter(found.values()))
        drawn[name] = {method: {weights: each[method] for weights, each in found.items()} for method in methods}
    if args.json:
        report = {"command": command(args), "environment": environment(), "batch": BATCH, "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    if args.figure:
        plots.courses(drawn, args.figure)


if __name__ == "__main__":
    main()
