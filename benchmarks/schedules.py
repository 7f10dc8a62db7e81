"""Steps and time to a residual, synchronous steps against asynchronous sweeps, side by side in one run.

    python benchmarks/schedules.py [--threads N] [--repeats N] [--batches N] [--json FILE] [--figure PATH]

Each network settles on the same batch of MNIST (random images where there is none) in both orders, with the weights that it is
drawn with and after some training batches. The residual ``max |s_t - s_{t-1}|``, the largest of the batch, is that of single
precision. It is what the last step changed; what is left to go is more, the more so the slower the order, which favours
synchronous steps, if anyone.

Time is that of a step, measured in turn, times their number.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from training_step import rounded

import eqprop as ep
from eqprop import plots
from eqprop.data import load
from eqprop.plots import Course
from eqprop.recipes import recipe
from eqprop.settle import as_settle, residual
from eqprop.training import Run
from eqprop.training.environment import environment

NETWORKS = {"p-1h": 400, "p-2h": 400, "p-3h": 400, "p-conv-small": 200}
"""Recipe, and how many steps are watched; the convolutional one has the network of ``p-conv``."""

ORDERS = {"synchronous": ep.Synchronous(), "asynchronous": ep.Asynchronous()}
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
    """The run's model after so many batches; it settles in sweeps, as not every network comes to rest in synchronous steps."""
    model, estimator = run.build(), run.estimator
    assert isinstance(estimator, ep.EquilibriumProp)
    steps = as_settle("free_steps", estimator.free_steps).steps
    estimate = replace(estimator, free_steps=ep.Settle(steps, tol=1e-3, schedule=ORDERS["asynchronous"]))
    optimizer = run.optimiser.build(model)
    for part in islice(torch.randperm(len(x)).split(run.data.batch_size), batches):
        for loss in estimate(model, x[part], y[part]):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def watched(model: ep.Model, x: Tensor, steps: int, repeats: int) -> dict[str, Course]:
    """By order, the residuals of a free phase, and what a step takes."""
    times: dict[str, list[float]] = {order: [] for order in ORDERS}
    for turn in range(repeats + 1):
        for order, schedule in ORDERS.items():
            begin = time.perf_counter()
            ep.relax(model, x, ep.Settle(TIMED, schedule=schedule))
            if turn:  # the first round is not counted
                times[order].append(1e3 * (time.perf_counter() - begin) / TIMED)
    found = {}
    for order, schedule in ORDERS.items():
        states = ep.relax(model, x, ep.Settle(steps, schedule=schedule), trajectory=True).trajectory or ()
        path = [residual(a, b).max().item() for a, b in pairwise(states)]
        found[order] = Course(path, statistics.median(times[order]))
    return found


def row(network: str, weights: str, found: dict[str, Course]) -> dict[str, Any]:
    """The figures of one network."""
    time_to = {
        f"{r:g}": {order: None if (n := c.steps_to(r)) is None else n * c.milliseconds for order, c in found.items()}
        for r in RESIDUALS
    }
    return {
        "network": network,
        "weights": weights,
        "milliseconds_a_step": rounded({order: c.milliseconds for order, c in found.items()}),
        "steps_to": {f"{r:g}": {order: c.steps_to(r) for order, c in found.items()} for r in RESIDUALS},
        "milliseconds_to": {
            r: {order: None if ms is None else float(f"{ms:.3g}") for order, ms in both.items()}
            for r, both in time_to.items()
        },
    }


def line(figures: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [f"{figures['network']:13}", f"{figures['weights']:18}"]
    cells += [f"{ms:8.3g}" for ms in figures["milliseconds_a_step"].values()]
    for r in map("{:g}".format, RESIDUALS):
        for what in ("steps_to", "milliseconds_to"):
            cells += [f"{'never' if v is None else f'{v:g}':>8}" for v in figures[what][r].values()]
    return " ".join(cells)


def head() -> str:
    """What the columns are; of each pair the first is synchronous, the second asynchronous."""
    pairs = ["ms a step", *(f"{what} to {r:g}" for r in RESIDUALS for what in ("steps", "ms"))]
    return " ".join([f"{'network':13}", f"{'weights':18}", *(f"{pair:>17}" for pair in pairs)])


def command(args: argparse.Namespace) -> str:
    """What to type to measure again."""
    choices = f"--threads {args.threads} --repeats {args.repeats} --batches {args.batches}"
    return f"python benchmarks/schedules.py {choices}"


def main() -> None:
    """Measure every network, print a table, draw a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    for name, steps in NETWORKS.items():
        run = recipe(name)
        x, y, source = images(run.build().network.populations[0].shape)
        models = {"initial": run.build(), f"{args.batches} batches": trained(run, x, y, args.batches)}
        found = {weights: watched(model, x[:BATCH], steps, args.repeats) for weights, model in models.items()}
        for weights, both in found.items():
            rows.append(row(name, weights, both) | {"data": source})
            print(line(rows[-1]), flush=True)
        drawn[name] = {order: {weights: both[order] for weights, both in found.items()} for order in ORDERS}
    if args.json:
        report = {"command": command(args), "environment": environment(), "batch": BATCH, "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    if args.figure:
        plots.courses(drawn, args.figure)


if __name__ == "__main__":
    main()
