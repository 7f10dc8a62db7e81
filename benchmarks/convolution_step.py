"""Time of one training step of convolutional networks, side by side in one run, in turn, so that a drifting machine favours no one.

    python benchmarks/convolution_step.py [--threads N] [--batch N] [--repeats N] [--networks NAME ...] [--json FILE]

Every contender takes the same batch, starts from the same weights, settles synchronously for the recipe's T and K at -beta and
beta, and ends with plain SGD:

- ``ours``: `eqprop.EquilibriumProp` as a user calls it;
- ``autograd``: EP as most code bases write it: Phi differentiated by autograd at every step, input drive included, one phase after
  the other;
- ``bptt``: `eqprop.BPTT` over the last K steps;
- ``convolutions``: those alone, and the products of the dense head, that the step cannot avoid (`eqprop.bench.arithmetic`).
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

import eqprop as ep
from eqprop.bench import Step, bare, descent, in_turn, medians, of_training, ratios, rounded
from eqprop.papers.registry import recipe
from eqprop.solvers.settle import as_settle
from eqprop.training import Run
from eqprop.training.environment import environment

RATE = 1e-3

NETWORKS = (
    "p-conv",
    "p-conv-small",
    "p-conv-small-avg",
    "laborieux-cifar10-small",
    "dchn-cifar10-small",
    "resnet13-cifar10-small",
)
State = list[Tensor]


def named(name: str) -> Run:
    """A recipe, with average pooling if the name says so."""
    run = recipe(name.removesuffix("-avg"))
    return replace(run, model=replace(run.model, pool="avg")) if name.endswith("-avg") else run


def lengths(run: Run) -> tuple[int, int, float]:
    """T, K and beta."""
    estimator = run.estimator
    assert isinstance(estimator, ep.EquilibriumProp)
    free, nudged = (as_settle("steps", steps).steps for steps in (estimator.free_steps, estimator.nudged_steps))
    return free, nudged, estimator.beta


def phi(model: ep.Model, x: Tensor, s: State) -> Tensor:
    """The primitive function, pooling written out: ``(B,)``."""
    a = [x, *s]

    def term(pre: int, post: int, layer: ep.Connection) -> Tensor:
        if isinstance(layer, ep.Dense):
            return (F.linear(a[pre].flatten(1), layer.weight, layer.bias) * a[post]).sum(1)
        assert isinstance(layer, ep.Conv2d)
        z = F.conv2d(a[pre], layer.weight, layer.bias, layer.stride, layer.padding)
        pooled = {"max": F.max_pool2d, "avg": F.avg_pool2d}[layer.pool](z, layer.pool_size) if layer.pool else z
        return (pooled * a[post]).flatten(1).sum(1)

    terms = [term(*edge) for edge in model.network.edges()]
    return torch.stack(terms).sum(0)


def autograd_ep(model: ep.Model, x: Tensor, y: Tensor, free: int, nudged: int, beta: float) -> Tensor:
    """One centred EP loss the slow way; the oracle in `main` that all contenders compute the same."""
    rho = [p.activation.rho for p in model.network.relaxing]
    cost, ones = model.cost, x.new_ones(len(x))
    inside = isinstance(model.dynamics, ep.Prototypical) and model.dynamics.nudge == "inside"

    def step(s: State, strength: float) -> State:
        leaves = [t.detach().requires_grad_() for t in s]
        u = list(torch.autograd.grad(phi(model, x, leaves), leaves, ones))
        force = strength * cost.force(s[-1], cost.encode(y, s[-1])) if strength else 0.0
        u[-1] = u[-1] + force if inside else u[-1]
        moved = [r(current.detach()) for r, current in zip(rho, u, strict=True)]
        moved[-1] = moved[-1] if inside else moved[-1] + force
        return moved

    def phase(s: State, steps: int, strength: float) -> State:
        for _ in range(steps):
            s = step(s, strength)
        return s

    start = phase([x.new_zeros(len(x), *p.shape) for p in model.network.relaxing], free, 0.0)
    minus, plus = (phase(start, nudged, strength) for strength in (-beta, beta))
    surrogate = (phi(model, x, minus) - phi(model, x, plus)).mean() / (2 * beta)
    return surrogate + cost.value(start[-1], cost.encode(y, start[-1])).mean()  # a readout's plain gradient


def contenders(run: Run, batch: int) -> dict[str, Step]:
    """By name, a function that does one training step."""
    free, nudged, beta = lengths(run)

    def network() -> ep.Model:
        torch.manual_seed(1)
        return run.build()

    def step(model: ep.Model, estimator: ep.Estimator) -> Step:
        return descent(model, lambda: estimator(model, x, y), RATE)

    def slow(model: ep.Model, x: Tensor, y: Tensor, **_: object) -> list[Tensor]:
        return [autograd_ep(model, x, y, free, nudged, beta)]

    alone = network()
    torch.manual_seed(0)
    x, y = torch.rand(batch, *run.model.input_shape), torch.randint(10, (batch,))  # type: ignore[union-attr]
    return {
        "ours": step(network(), ep.EquilibriumProp(free, nudged, beta, "centred")),
        "autograd": step(network(), slow),  # type: ignore[arg-type]
        "bptt": step(network(), ep.BPTT(free, nudged)),
        "convolutions": bare(alone, of_training(alone, batch, free, nudged, copies=2)),
    }


def check(run: Run) -> None:
    """Ours and the slow reference must compute the same gradient, or their times mean nothing."""
    free, nudged, beta = lengths(run)
    torch.manual_seed(0)
    model = run.build().double()
    x, y = torch.rand(2, *model.network.populations[0].shape, dtype=torch.double), torch.randint(10, (2,))
    (loss,) = ep.EquilibriumProp(free, nudged, beta, "centred")(model, x, y)
    ours = torch.autograd.grad(loss, list(model.parameters()))
    slow = torch.autograd.grad(autograd_ep(model, x, y, free, nudged, beta), list(model.parameters()))
    for a, b in zip(ours, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10)


def main() -> None:
    """Measure every network and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--batch", type=int, default=64, help="samples")
    parser.add_argument("--repeats", type=int, default=5, help="rounds counted")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), help="recipes; with -avg, average pooling")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name in args.networks:
        run = named(name)
        check(run)
        times = in_turn(contenders(run, args.batch), args.repeats, block=2)
        median, ratio = medians(times), ratios(times, "ours")
        figures = {"milliseconds": rounded(median), "times_ours": rounded(ratio)}
        rows.append({"network": name, "batch": args.batch, "T, K": lengths(run)[:2], **figures})
        print(f"{name}: " + ", ".join(f"{w} {m:.1f} ms ({ratio[w]:.2f}x)" for w, m in median.items()), flush=True)
    if args.json:
        command = f"python benchmarks/convolution_step.py --threads {args.threads} --batch {args.batch} --repeats {args.repeats}"
        report = {"command": command, "environment": environment(), "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
