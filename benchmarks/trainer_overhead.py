"""Measure what `eqprop.training.Trainer` (data, measurements, log, progress, checkpoints) adds to the ten-line training loop.

    python benchmarks/trainer_overhead.py [--recipe NAME] [--batches N] [--threads N] [--repeats N] [--json FILE]

Both run the same batches of random samples, in alternating order. The loop has its batches ready and measures nothing.
"""

import os
import tempfile
from pathlib import Path

import torch
from common import make_parser, write_json
from rich.console import Console
from torch import Tensor

from eqprop.bench import make_sgd_step, medians, ratios, time_steps
from eqprop.data import Batches
from eqprop.papers import recipe
from eqprop.training import Run, Trainer
from eqprop.training.progress.callbacks import PlainLines, ProgressBar


def run_loop(run: Run, x: Tensor, y: Tensor) -> None:
    model, batches = run.build(), list(Batches(x, y, run.data.batch_size))
    step = make_sgd_step(model, lambda: (loss for x, y in batches for loss in run.estimator(model, x, y)))
    step()


def run_trainer(run: Run, x: Tensor, y: Tensor, *, bar: bool) -> None:
    model, batches = run.build(), Batches(x, y, run.data.batch_size)
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as sink:
        report = ProgressBar(Console(file=sink, force_terminal=True), "benchmark") if bar else PlainLines(sink, "")
        optimizer = run.optimizer.build(model)
        Trainer(model, run.estimator, optimizer, folder=Path(folder, "run"), callbacks=[report]).fit(batches, epochs=1)


def main() -> None:
    parser = make_parser(__doc__ or "", repeats=7)
    parser.add_argument("--recipe", default="p-1h", help="model, estimator and optimizer")
    parser.add_argument("--batches", type=int, default=3000, help="batches in a round: one epoch, with its checkpoints")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    run = recipe(args.recipe)
    x = torch.rand(args.batches * run.data.batch_size, *run.build().network.populations[0].shape)
    y = torch.randint(10, (len(x),))
    epochs = {
        "loop": lambda: run_loop(run, x, y),
        "lines": lambda: run_trainer(run, x, y, bar=False),
        "bar": lambda: run_trainer(run, x, y, bar=True),
    }
    times = time_steps(epochs, args.repeats, block=1)
    overhead = {name: round(100 * (ratio - 1), 2) for name, ratio in ratios(times, "loop").items() if name != "loop"}
    step = round(medians(times)["loop"] / args.batches, 3)
    print(f"{args.recipe}: a step of the loop {step} ms; the trainer adds {overhead} %")
    write_json(args.json, [{"recipe": args.recipe, "loop_step_ms": step, "overhead_percent": overhead}])


if __name__ == "__main__":
    main()
