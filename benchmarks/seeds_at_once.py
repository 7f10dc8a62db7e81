"""Compare one batched training step of N seeds, as in ``eqprop train --seeds N``, with N separate steps and with one.

python benchmarks/seeds_at_once.py [--seeds N] [--recipes NAME ...] [--threads N] [--repeats N] [--json FILE]
"""

from dataclasses import replace

import torch
from common import make_parser, write_json

from eqprop.bench import Step, make_sgd_step, medians, ratios, round_figures, time_steps
from eqprop.models.batched import batch_models
from eqprop.papers import recipe
from eqprop.training import Run


def make_steps(run: Run, seeds: int) -> dict[str, Step]:
    """Return the steps by name."""
    batched, separate = ([replace(run, seed=seed).build() for seed in range(seeds)] for _ in range(2))
    shape, estimator = separate[0].network.populations[0].shape, run.estimator
    x, y = torch.rand(seeds, 20, *shape), torch.randint(10, (seeds, 20))
    joint = batch_models(batched)
    optimizers = [torch.optim.SGD(m.parameters(), lr=1e-3) for m in batched]

    def batched_step() -> None:
        for loss in estimator(joint, x.flatten(0, 1), y.flatten()):
            for optimizer in optimizers:
                optimizer.zero_grad()
            (seeds * loss).backward()  # the loss is a mean over all seeds
            for optimizer in optimizers:
                optimizer.step()

    steps = [
        make_sgd_step(m, lambda m=m, x=x[n], y=y[n]: estimator(m, x, y), rate=1e-3) for n, m in enumerate(separate)
    ]
    return {"one": steps[0], "batched": batched_step, "separate": lambda: [s() for s in steps]}


def main() -> None:
    parser = make_parser(__doc__ or "", threads=2)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--recipes", nargs="+", default=["p-1h", "p-2h"], help="dense recipes")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name in args.recipes:
        times = time_steps(make_steps(recipe(name), args.seeds), args.repeats)
        figures = {"milliseconds": round_figures(medians(times)), "times_one": round_figures(ratios(times, "one"))}
        rows.append({"recipe": name, "seeds": args.seeds, **figures})
        print(rows[-1], flush=True)
    write_json(args.json, rows)


if __name__ == "__main__":
    main()
