"""Training steps that stop early or are accelerated, against those of a fixed length: gradients, steps and time side by side.

    python benchmarks/fewer_steps.py [--networks NAME ...] [--also FREE ...] [--threads N] [--repeats N] [--batches N] [--json FILE]

The whole gradient of EP is compared with that of the recipe's fixed number of steps, T free and K nudged, on batches of MNIST
(random images where there is none), with the weights that the network is drawn with and after some training batches: the
largest relative distance of the batches counts. Where a phase of T or K steps has not settled itself, a better settled one is
*farther* from it: rows "10 T" and "10 K" say how far. Max pooling makes several steady states; the way decides which is reached.

Time is that of a training step on those batches, in turn, so that a drifting machine favours no one; rates are 0.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from schedules import images
from torch import Tensor

import eqprop as ep
from eqprop.cli.parsers import steps
from eqprop.papers.registry import recipe
from eqprop.solvers.settle import as_settle
from eqprop.training import Run
from eqprop.training.environment import environment

NETWORKS = ("p-2h", "p-conv")
SWEEP, MIX = {"schedule": ep.Asynchronous()}, {"accelerate": ep.Anderson()}
METHODS: dict[str, dict[str, Any]] = {"plain": {}, "async": SWEEP, "anderson": MIX, "async anderson": SWEEP | MIX}
TOLERANCES = (1e-3, 1e-4, 1e-5)


def choices(estimator: ep.EquilibriumProp, also: Sequence[str]) -> dict[str, ep.EquilibriumProp]:
    """By name; the first is the recipe's; those of one's own as the command line takes them.

    Only free phases are shortened: the nudged ones are short, and have not settled.
    """
    free, nudged = (as_settle("steps", n).steps for n in (estimator.free_steps, estimator.nudged_steps))
    found = {"fixed": estimator}
    for name, method in METHODS.items():
        for tol in TOLERANCES:
            found[f"{name} {tol:g}"] = replace(estimator, free_steps=ep.Settle(free, tol, **method))
    found |= {word: replace(estimator, free_steps=steps(word)) for word in also}
    far = {"10 T": replace(estimator, free_steps=10 * free), "10 K": replace(estimator, nudged_steps=10 * nudged)}
    return found | far


def trained(run: Run, x: Tensor, y: Tensor, batches: int) -> ep.Model:
    """The run's model after so many batches of plain steps."""
    model, estimator = run.build(), run.estimator
    assert isinstance(estimator, ep.EquilibriumProp)
    estimator = replace(estimator, free_steps=ep.Settle(as_settle("free_steps", estimator.free_steps).steps, 1e-3))
    optimizer = run.optimizer.build(model)
    for part in islice(torch.randperm(len(x)).split(run.data.batch_size), batches):
        for loss in estimator(model, x[part], y[part]):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


class Measured:
    """What was found of one choice, batch by batch."""

    def __init__(self) -> None:
        self.milliseconds: list[float] = []
        self.steps: list[int] = []
        self.residuals: list[float] = []
        self.gradients: list[Tensor] = []


def step(model: ep.Model, estimator: ep.EquilibriumProp, x: Tensor, y: Tensor, found: Measured) -> None:
    """One training step at rate 0."""
    optimizer, seen = torch.optim.SGD(model.parameters(), lr=0.0), []
    begin = time.perf_counter()
    for loss in estimator(model, x, y, on_free_phase=seen.append):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found.milliseconds.append(1e3 * (time.perf_counter() - begin))
    found.steps.append(seen[0].steps)
    found.residuals.append(seen[0].residual.max().item())
    found.gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))


def compared(
    model: ep.Model, run: Run, x: Tensor, y: Tensor, repeats: int, also: Sequence[str]
) -> list[dict[str, Any]]:
    """A row for each choice, measured in turn on batches that no other row sees first."""
    assert isinstance(run.estimator, ep.EquilibriumProp)
    estimators, order = choices(run.estimator, also), torch.randperm(len(x), generator=torch.Generator().manual_seed(7))
    found = {name: Measured() for name in estimators}
    parts = list(islice(order.split(run.data.batch_size), repeats))
    for estimator in estimators.values():
        step(model, replace(estimator, free_steps=3, nudged_steps=3), x[parts[0]], y[parts[0]], Measured())
    for part in parts:
        for name, estimator in estimators.items():
            step(model, estimator, x[part], y[part], found[name])
    fixed = found["fixed"]
    return [{"choice": name, **figures(one, fixed)} for name, one in found.items()]


def figures(one: Measured, fixed: Measured) -> dict[str, Any]:
    """Steps, the largest distance, the median time and the median of the ratios, batch by batch."""
    pairs = zip(one.gradients, fixed.gradients, strict=True)
    ratios = [theirs / own for own, theirs in zip(one.milliseconds, fixed.milliseconds, strict=True)]
    return {
        "free_steps": statistics.mean(one.steps),
        "residual": float(f"{max(one.residuals):.2g}"),
        "distance": float(f"{max((a - b).norm().item() / b.norm().item() for a, b in pairs):.3g}"),
        "milliseconds": float(f"{statistics.median(one.milliseconds):.3g}"),
        "times_faster": float(f"{statistics.median(ratios):.3g}"),
    }


def main() -> None:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="recipes, trained by EP")
    parser.add_argument("--also", nargs="+", default=[], help="more free phases, as 100:3e-4:async:anderson3")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--repeats", type=int, default=9, help="batches measured")
    parser.add_argument("--batches", type=int, default=300, help="training batches before the second measurement")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    print(
        f"{'network':8} {'weights':12} {'free phase':20} {'steps':>6} {'residual':>9} {'distance':>9} {'ms':>7} {'faster':>7}"
    )
    for name in args.networks:
        torch.manual_seed(0)
        run = recipe(name)
        x, y, source = images(run.build().network.populations[0].shape)
        for weights, model in (("initial", run.build()), (f"{args.batches} batches", trained(run, x, y, args.batches))):
            for row in compared(model, run, x, y, args.repeats, args.also):
                rows.append({"network": name, "weights": weights, "data": source} | row)
                numbers = (
                    "{free_steps:6.1f} {residual:9.2g} {distance:9.2%} {milliseconds:7.3g} {times_faster:7.3g}".format(
                        **row
                    )
                )
                print(f"{name:8} {weights:12} {row['choice']:20} {numbers}", flush=True)
    if args.json:
        also = f" --also {' '.join(args.also)}" if args.also else ""
        words = f"--networks {' '.join(args.networks)}{also}"
        words += f" --threads {args.threads} --repeats {args.repeats} --batches {args.batches}"
        report = {"command": f"python benchmarks/fewer_steps.py {words}", "environment": environment(), "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
