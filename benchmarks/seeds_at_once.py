"""Time of a training step of N seeds at once against that of one seed, in turn, so that a drifting machine favours nobody.

    python benchmarks/seeds_at_once.py [--seeds N] [--threads N] [--repeats N] [--json FILE]

A step is a batch of 20 for each seed, EP as published (`training_step.py`), and a plain SGD step of each seed's optimizer:

- ``one``: `eqprop.EquilibriumProp` of one network;
- ``at once``: of N networks side by side (`eqprop.connections.batched`), as ``eqprop train --seeds N`` has them;
- ``one after the other``: N times the first, each with weights of its own.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from training_step import SETTINGS

import eqprop as ep
from eqprop.bench import Step, in_turn, medians, ratios, rounded
from eqprop.models.batched import batch_models
from eqprop.training.environment import environment

BATCH = 20


def contenders(
    name: str, seeds: int, dtype: torch.dtype = torch.float32
) -> tuple[dict[str, Step], list[ep.Model], list[ep.Model]]:
    """By name a function that does one step; and the models that go at once, and one after the other, of the same weights."""
    sizes, free, nudged, beta = SETTINGS[name]
    estimate = ep.EquilibriumProp(free, nudged, beta)

    def models() -> list[ep.Model]:
        found = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            found.append(ep.mlp(sizes, activation="sigmoid", settle=free).to(dtype))
        return found

    torch.manual_seed(seeds)
    x, y = torch.rand(seeds, BATCH, sizes[0], dtype=dtype), torch.randint(10, (seeds, BATCH))
    together, apart = models(), models()
    optimizers, others = ([torch.optim.SGD(m.parameters(), lr=1e-3) for m in group] for group in (together, apart))
    joint = batch_models(together)

    def learn(model: ep.Model, x: Tensor, y: Tensor, optimizers: list[torch.optim.SGD]) -> None:
        for loss in estimate(model, x, y):
            for optimizer in optimizers:
                optimizer.zero_grad()
            (len(optimizers) * loss).backward()
            for optimizer in optimizers:
                optimizer.step()

    def each() -> None:
        for model, own_x, own_y, optimizer in zip(apart, x, y, others, strict=True):
            learn(model, own_x, own_y, [optimizer])

    steps: dict[str, Step] = {
        "one": lambda: learn(apart[0], x[0], y[0], others[:1]),
        "at once": lambda: learn(joint, x.flatten(0, 1), y.flatten(), optimizers),
        "one after the other": each,
    }
    return steps, together, apart


def check(name: str, seeds: int) -> None:
    """Both ways must come to the same weights, or their times mean nothing."""
    steps, together, apart = contenders(name, seeds, torch.float64)
    for _ in range(2):
        steps["at once"]()
        steps["one after the other"]()
    for one, other in zip(together, apart, strict=True):
        for p, q in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=1e-10)


def main() -> None:
    """Measure every setting and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="seeds at once")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    parser.add_argument("--repeats", type=int, default=9, help="rounds counted")
    parser.add_argument("--networks", nargs="+", default=list(SETTINGS), choices=list(SETTINGS), help="which")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name in args.networks:
        check(name, args.seeds)
        times = in_turn(contenders(name, args.seeds)[0], args.repeats)
        median, ratio = medians(times), ratios(times, "one")
        rows.append({"network": name, "batch": BATCH, "milliseconds": rounded(median), "times_one": rounded(ratio)})
        print(
            f"{name}, {args.seeds} seeds: " + ", ".join(f"{w} {m:.2f} ms ({ratio[w]:.2f}x)" for w, m in median.items())
        )
    if args.json:
        words = f"--seeds {args.seeds} --threads {args.threads} --repeats {args.repeats}"
        report = {"command": f"python benchmarks/seeds_at_once.py {words}", "environment": environment(), "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
