"""Compare training steps whose free phase stops early or is accelerated with those of the recipe's fixed T.

    python benchmarks/fewer_steps.py [--recipes NAME ...] [--also FREE ...] [--batches N] [--threads N] [--repeats N] [--json FILE]

For each free phase: steps, relative distance of EP's gradient to that with T steps (largest of the batches), and time of a training
step at rate 0, with the initial weights and after some training batches. Nudged phases keep their length. If T or K steps have not
settled, a better settled phase is farther away: the rows "10 T" and "10 K" show how far.
"""

import statistics
import time
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from common import make_parser, write_json
from torch import Tensor

import eqprop as ep
from eqprop.bench import METHODS, extract_phases
from eqprop.cli.parsers import parse_steps as parse_steps
from eqprop.data import load
from eqprop.papers import recipe
from eqprop.training import Run


def train_briefly(run: Run, free: ep.Settle, x: Tensor, y: Tensor, batches: int) -> ep.Model:
    """Return the run's model after some batches, trained with this free phase."""
    model, estimator = run.build(), run.estimator
    assert isinstance(estimator, ep.EquilibriumProp)
    estimator, optimizer = replace(estimator, free_steps=free), run.optimizer.build(model)
    for part in islice(torch.randperm(len(x)).split(run.data.batch_size), batches):
        for loss in estimator(model, x[part], y[part]):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def list_estimators(run: Run, also: list[str]) -> dict[str, ep.EquilibriumProp]:
    """Return the estimators by free phase; the first is the recipe's."""
    fixed, phases = run.estimator, extract_phases(run)
    assert isinstance(fixed, ep.EquilibriumProp)
    free, nudged = phases.free.steps, phases.nudged.steps
    found = {"fixed": fixed}
    for name, method in METHODS.items():
        for tol in (1e-3, 1e-4, 1e-5):
            found[f"{name} {tol:g}"] = replace(fixed, free_steps=replace(method, steps=free, tol=tol))
    found |= {word: replace(fixed, free_steps=parse_steps(word)) for word in also}
    return found | {"10 T": replace(fixed, free_steps=10 * free), "10 K": replace(fixed, nudged_steps=10 * nudged)}


def time_gradient(model: ep.Model, estimator: ep.EquilibriumProp, x: Tensor, y: Tensor) -> tuple[float, int, Tensor]:
    """Return the milliseconds of a training step at rate 0, its free steps, and its gradient."""
    optimizer, phases = torch.optim.SGD(model.parameters(), lr=0.0), []
    begin = time.perf_counter()
    for loss in estimator(model, x, y, on_free_phase=phases.append):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    milliseconds = 1e3 * (time.perf_counter() - begin)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return milliseconds, phases[0].steps, gradient


def compare(model: ep.Model, run: Run, x: Tensor, y: Tensor, repeats: int, also: list[str]) -> list[dict[str, Any]]:
    """Return a row for each free phase; all are measured on one batch before the next batch."""
    found: dict[str, list[tuple[float, int, Tensor]]] = {name: [] for name in list_estimators(run, also)}
    time_gradient(model, list_estimators(run, also)["fixed"], x[:20], y[:20])  # warm-up
    for part in islice(torch.randperm(len(x)).split(run.data.batch_size), repeats):
        for name, estimator in list_estimators(run, also).items():
            found[name].append(time_gradient(model, estimator, x[part], y[part]))
    rows = []
    for name, measured in found.items():
        pairs = list(zip(measured, found["fixed"], strict=True))
        figures = {
            "distance": max(((a[2] - b[2]).norm() / b[2].norm()).item() for a, b in pairs),
            "milliseconds": statistics.median(a[0] for a in measured),
            "times_faster": statistics.median(b[0] / a[0] for a, b in pairs),
        }
        mean_steps = statistics.mean(a[1] for a in measured)
        rows.append(
            {"free_phase": name, "free_steps": mean_steps, **{k: float(f"{v:.3g}") for k, v in figures.items()}}
        )
    return rows


def main() -> None:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--recipes", nargs="+", default=["p-2h", "p-conv"], help="recipes that train by EP")
    parser.add_argument("--also", nargs="+", default=[], help="further free phases, such as 100:3e-4:async:anderson3")
    parser.add_argument("--batches", type=int, default=300, help="training batches before the second measurement")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows = []
    for name in args.recipes:
        run = recipe(name)
        x, y = load(run.data.name).train
        x = x.reshape(len(x), *run.build().network.populations[0].shape)
        free = replace(extract_phases(run).free, tol=1e-3)
        models = {"initial": run.build(), f"{args.batches} batches": train_briefly(run, free, x, y, args.batches)}
        for weights, model in models.items():
            for row in compare(model, run, x, y, args.repeats, args.also):
                rows.append({"recipe": name, "weights": weights, **row})
                print(rows[-1], flush=True)
    write_json(args.json, rows)


if __name__ == "__main__":
    main()
