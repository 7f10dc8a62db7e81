"""What the trainer adds to the bare loop of estimator and optimizer: data, measurements, log, progress, checkpoints.

    python benchmarks/trainer_overhead.py [--recipe NAME] [--batches N] [--rounds N] [--json FILE]

Both do the same batches of the recipe from the same weights, in turn; the bare loop has its batches ready and measures nothing.
Samples are drawn at random: what they show does not matter to the clock. Testing is left out on both sides.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from eqprop.data import Batches
from eqprop.papers.registry import recipe
from eqprop.training import Run, Trainer
from eqprop.training.environment import environment
from eqprop.training.progress.callbacks import Callback, PlainLines, ProgressBar


def bare(run: Run, x: Tensor, y: Tensor) -> float:
    """Seconds of the ten-line loop."""
    model = run.build()
    optimizer = run.optimizer.build(model)
    batches = list(Batches(x, y, run.data.batch_size))
    begin = time.perf_counter()
    for inputs, targets in batches:
        for loss in run.estimator(model, inputs, targets):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return time.perf_counter() - begin


def trained(run: Run, x: Tensor, y: Tensor, report: Callable[[], Callback]) -> float:
    """Seconds of `Trainer.fit` over one epoch, with a run folder."""
    model = run.build()
    batches = Batches(x, y, run.data.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        optimizer = run.optimizer.build(model)
        trainer = Trainer(model, run.estimator, optimizer, folder=Path(folder, "run"), callbacks=[report()])
        begin = time.perf_counter()
        trainer.fit(batches, epochs=1)
        return time.perf_counter() - begin


def plain_lines() -> Callback:
    """What a log file gets, to nowhere."""
    return PlainLines(Path(os.devnull).open("w"), "benchmark")


def progress_bar() -> Callback:
    """What a terminal gets, to nowhere."""
    from rich.console import Console

    return ProgressBar(Console(file=Path(os.devnull).open("w"), force_terminal=True), "benchmark")


def main() -> None:
    """Measure in turn and print the overheads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="p-1h", help="whose network, estimator and optimizer")
    parser.add_argument("--batches", type=int, default=3000, help="batches in a round: an epoch, with its checkpoints")
    parser.add_argument("--rounds", type=int, default=7, help="rounds counted, after one that is not")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    run = recipe(args.recipe)
    torch.set_num_threads(run.threads)
    torch.manual_seed(0)
    inputs = run.build().network.populations[0].shape
    x = torch.rand(args.batches * run.data.batch_size, *inputs)
    y = torch.randint(10, (len(x),))
    ratios: dict[str, list[float]] = {"lines": [], "bar": []}
    seconds = []
    for turn in range(args.rounds + 1):
        times = {
            "lines": trained(run, x, y, plain_lines),
            "bare": bare(run, x, y),
            "bar": trained(run, x, y, progress_bar),
        }
        if turn:
            seconds.append(times["bare"])
            for name, several in ratios.items():
                several.append(times[name] / times["bare"])
    step = 1e3 * statistics.median(seconds) / args.batches
    overhead = {name: round(100 * (statistics.median(several) - 1), 2) for name, several in ratios.items()}
    print(
        f"{args.recipe}: bare step {step:.2f} ms; the trainer adds {overhead['lines']} % with lines, {overhead['bar']} % with a bar"
    )
    if args.json:
        command = f"python benchmarks/trainer_overhead.py --recipe {args.recipe} --batches {args.batches} --rounds {args.rounds}"
        facts = {"recipe": args.recipe, "bare_step_ms": round(step, 3), "overhead_percent": overhead}
        args.json.write_text(json.dumps({"command": command, "environment": environment(), **facts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
