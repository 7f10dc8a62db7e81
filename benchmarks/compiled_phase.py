"""Would `torch.compile` of a phase be faster? A phase's bare arithmetic, plain and compiled, side by side in one run.

    python benchmarks/compiled_phase.py [--threads N] [--repeats N] [--json FILE]

A phase of ten prototypical steps is written out with nothing but its arithmetic, which is the best that a compiler can be given:
products or convolutions, pooling, activation, a nudge. It is compiled as one graph, with the batch and beta left open: both must
not compile anew (the count of graphs is shown). The two must agree; then they are timed in turn. The library compiles nothing: see
`records/README.md` for what this measured.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.nn import functional as F

from eqprop._core.memory_format import channels_last
from eqprop.bench import in_turn, medians, ratios, rounded
from eqprop.training.environment import environment

STEPS = 10
BATCHES = (20, 128)
DENSE = {"p-1h": [784, 512, 10], "p-2h": [784, 512, 512, 10]}
Phase = Callable[[list[Tensor], list[Tensor], list[Tensor], Tensor, Tensor], list[Tensor]]


def dense(
    constant: list[Tensor], state: list[Tensor], weights: list[Tensor], target: Tensor, beta: Tensor
) -> list[Tensor]:
    """Steps of a chain of dense layers with the logistic function; gains are in the weights."""
    for _ in range(STEPS):
        u = list(constant)
        for n, w in enumerate(weights):
            u[n + 1] = torch.addmm(u[n + 1], state[n], w.t())
            u[n] = torch.addmm(u[n], state[n + 1], w)
        moved = [torch.sigmoid(v) for v in u]
        moved[-1] = moved[-1] + beta * (target - state[-1])
        state = moved
    return state


def convolutional(
    constant: list[Tensor], state: list[Tensor], weights: list[Tensor], target: Tensor, beta: Tensor
) -> list[Tensor]:
    """Steps of P-conv: an image below, a convolution with max pooling, an image, a dense layer, the output."""
    kernel, head = weights
    for _ in range(STEPS):
        low, high, out = state
        z = F.conv2d(low, kernel)
        pooled, places = F.max_pool2d(z, 2, return_indices=True)
        spread = F.max_unpool2d(high, places, (2, 2), output_size=z.shape[2:])
        back = (out @ head).view_as(high.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        u = [
            constant[0] + F.conv_transpose2d(spread, kernel),
            constant[1] + pooled + back,
            torch.addmm(constant[2], high.permute(0, 2, 3, 1).flatten(1), head.t()),
        ]
        moved = [v.clamp(0, 1) for v in u]
        moved[-1] = moved[-1] + beta * (target - out)
        state = moved
    return state


def problem(name: str, batch: int) -> tuple[Phase, list[Any]]:
    """The phase of that network, and its arguments."""
    torch.manual_seed(0)
    if name in DENSE:
        sizes = DENSE[name][1:]
        states = [torch.rand(batch, n) for n in sizes]
        weights = [torch.randn(b, a) / a**0.5 for a, b in pairwise(sizes)]
    else:
        images = channels_last(torch.rand(batch, 32, 12, 12)), channels_last(torch.rand(batch, 64, 4, 4))
        states = [*images, torch.rand(batch, 10)]
        weights = [channels_last(torch.randn(64, 32, 5, 5) / 30), torch.randn(10, 1024) / 32]
    constant, target = [torch.rand_like(s) for s in states], torch.rand(batch, 10)
    return dense if name in DENSE else convolutional, [constant, states, weights, target, torch.tensor(0.1)]


@torch.no_grad()
def measured(name: str, repeats: int) -> list[dict[str, Any]]:
    """A row a batch; compiled once for all of them."""
    torch._dynamo.reset()
    counters.clear()
    plain, _ = problem(name, BATCHES[0])
    compiled, rows, seconds = torch.compile(plain, dynamic=True, fullgraph=True), [], 0.0
    for batch in BATCHES:
        _, arguments = problem(name, batch)
        begin = time.perf_counter()
        for beta in (0.1, 0.5):
            arguments[-1] = torch.tensor(beta)
            for a, b in zip(plain(*arguments), compiled(*arguments), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        seconds += time.perf_counter() - begin
        phases = {"plain": partial(plain, *arguments), "compiled": partial(compiled, *arguments)}
        times = in_turn(phases, repeats, block=8)
        steps = {who: [t / STEPS for t in several] for who, several in times.items()}
        faster = rounded({"times_faster": ratios(times, "compiled")["plain"]})
        rows.append({"network": name, "batch": batch, "milliseconds": rounded(medians(steps)), **faster})
    graphs = counters["stats"]["unique_graphs"]
    return [row | {"graphs": graphs, "seconds_to_compile": float(f"{seconds:.2g}")} for row in rows]


def main() -> None:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--repeats", type=int, default=9, help="rounds counted")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [row for name in (*DENSE, "p-conv") for row in measured(name, args.repeats)]
    for row in rows:
        print(
            "{network}, batch {batch}: a step {milliseconds}, compiled {times_faster}x as fast; {graphs} graphs, "
            "{seconds_to_compile} s to compile".format(**row)
        )
    if args.json:
        command = f"python benchmarks/compiled_phase.py --threads {args.threads} --repeats {args.repeats}"
        report = {"command": command, "environment": environment(), "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
