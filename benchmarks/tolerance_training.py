"""Does a tolerance cost accuracy? The same training with a free phase of fixed length and with one that stops early.

    python benchmarks/tolerance_training.py NETWORK FREE [--images N] [--tests N] [--epochs N] [--seeds N ...] [--json FILE]

FREE is a free phase as the command line takes it, as 200:1e-4 or 100:3e-4:async:anderson3. Each seed is trained twice, from the
same weights and on the same batches of the first N images. Both are tested as the recipe says, with its fixed number of steps.
Seeds already in FILE are not trained again, so that it can be killed and called again.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import eqprop as ep
from eqprop.cli.parsers import steps
from eqprop.data import Batches, load
from eqprop.papers.registry import recipe
from eqprop.training import Run, Trainer, evaluate
from eqprop.training.environment import environment
from eqprop.training.session import TEST_BATCH


def trained(run: Run, images: int, tests: int) -> dict[str, Any]:
    """What comes of a training: errors in percent, steps a batch, seconds an epoch."""
    model = run.build()
    shape = model.network.populations[0].shape
    (x, y), (test_x, test_y) = load(run.data.name).train, load(run.data.name).test
    batches = Batches(x[:images].reshape(-1, *shape), y[:images], run.data.batch_size, run.seed)
    test = Batches(test_x[:tests].reshape(-1, *shape), test_y[:tests], TEST_BATCH, shuffle=False)
    trainer = Trainer(model, run.estimator, run.optimizer.build(model), seed=run.seed)
    begin = time.perf_counter()
    *_, row = trainer.fit(batches, run.epochs)
    seconds = time.perf_counter() - begin
    score = evaluate(model, test)
    return {
        "test_error": 100 * (score.error or 0.0),
        "train_error": 100 * row["train_error"],
        "free_steps": row["steps"],
        "seconds_an_epoch": seconds / run.epochs,
    }


def main() -> None:
    """Train, print a row a seed and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="recipe, trained by EP")
    parser.add_argument("free", help="the free phase that may stop early")
    parser.add_argument("--images", type=int, default=60000, help="training images")
    parser.add_argument("--tests", type=int, default=10000, help="test images")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    run = replace(recipe(args.network), epochs=args.epochs)
    assert isinstance(run.estimator, ep.EquilibriumProp)
    early = replace(run, estimator=replace(run.estimator, free_steps=steps(args.free)))
    words = f"{args.network} {args.free} --images {args.images} --tests {args.tests} --epochs {args.epochs}"
    done = json.loads(args.json.read_text())["rows"] if args.json and args.json.exists() else []
    for seed in args.seeds:
        for name, one in (("fixed", run), (args.free, early)):
            if any((row["seed"], row["free_phase"]) == (seed, name) for row in done):
                continue
            row = {"seed": seed, "free_phase": name, **trained(replace(one, seed=seed), args.images, args.tests)}
            print(row, flush=True)
            done.append(row)
            if args.json:
                seeds = " ".join(map(str, args.seeds))
                command = f"python benchmarks/tolerance_training.py {words} --seeds {seeds}"
                report = {"command": command, "environment": environment(), "rows": done}
                args.json.write_text(json.dumps(report, indent=2) + "\n")
    for name in ("fixed", args.free):
        errors = [row["test_error"] for row in done if row["free_phase"] == name]
        spread = statistics.stdev(errors) if len(errors) > 1 else 0.0
        print(f"{args.network}, free phase {name}: test error {statistics.mean(errors):.2f} ± {spread:.2f} %")


if __name__ == "__main__":
    main()
