"""Time of one training step, side by side in one run, in turn, so that a drifting machine does not favour anyone.

    python benchmarks/training_step.py [--threads N] [--repeats N] [--json FILE]

Every contender takes the same batch, starts from the same weights and ends with the same plain SGD step:

- ``ours``: `eqprop.EquilibriumProp` as a user calls it;
- ``autograd``: EP as most code bases write it: Phi differentiated by autograd at every step, input drive included;
- ``bptt``: `eqprop.BPTT`, truncated to K steps;
- ``backprop``: ordinary backpropagation in a feedforward network of the same sizes;
- ``products``: the matrix products alone that the EP step cannot avoid.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

import eqprop as ep
from eqprop.bench import Step, bare, descent, in_turn, medians, of_training, ratios, rounded
from eqprop.training.environment import environment

SETTINGS = {  # Ernoult et al. 2019, table 1: sizes input-first, T, K, beta
    "p-1h": ([784, 512, 10], 30, 10, 0.1),
    "p-2h": ([784, 512, 512, 10], 100, 20, 0.5),
}


RATE = 1e-3


def autograd_ep(model: ep.Model, x: Tensor, y: Tensor, free: int, nudged: int, beta: float) -> Tensor:
    """One EP loss the slow way; the oracle in `main` that all contenders compute the same."""
    layers = [c for _, _, c in model.network.edges()]
    rho = model.network.relaxing[0].activation.rho
    target = nn.functional.one_hot(y, 10).to(x.dtype)

    ones = x.new_ones(len(x))

    def phi(s: list[Tensor]) -> Tensor:
        terms = [(layer.up(a) * b).sum(1) for layer, a, b in zip(layers, [x, *s], s, strict=False)]
        return torch.stack(terms).sum(0)

    def step(s: list[Tensor], force: float) -> list[Tensor]:
        leaves = [t.detach().requires_grad_() for t in s]
        moved = [rho(u) for u in torch.autograd.grad(phi(leaves), leaves, ones)]
        moved[-1] = moved[-1] + force * (target - s[-1])
        return moved

    s = [x.new_zeros(len(x), *p.shape) for p in model.network.relaxing]
    for _ in range(free):
        s = step(s, 0.0)
    start = [t.detach() for t in s]
    for _ in range(nudged):
        s = step(s, beta)
    return (phi(start) - phi([t.detach() for t in s])).mean() / beta


def contenders(name: str, batch: int) -> dict[str, Step]:
    """By name, a function that does one training step."""
    sizes, free, nudged, beta = SETTINGS[name]
    torch.manual_seed(0)
    x, y = torch.rand(batch, sizes[0]), torch.randint(10, (batch,))

    def network() -> ep.Model:
        torch.manual_seed(1)
        return ep.mlp(sizes, activation="sigmoid", settle=free)

    ours, slow, unrolled = network(), network(), network()
    estimate, bptt = ep.EquilibriumProp(free, nudged, beta), ep.BPTT(free, nudged)
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.Sigmoid())]
    plain = nn.Sequential(*layers)
    one_hot = nn.functional.one_hot(y, 10).float()
    return {
        "ours": descent(ours, lambda: list(estimate(ours, x, y)), RATE),
        "autograd": descent(slow, lambda: [autograd_ep(slow, x, y, free, nudged, beta)], RATE),
        "bptt": descent(unrolled, lambda: list(bptt(unrolled, x, y)), RATE),
        "backprop": descent(plain, lambda: [(plain(x) - one_hot).square().sum() / (2 * batch)], RATE),
        "products": bare(ours, of_training(ours, batch, free, nudged)),
    }


def check(name: str) -> None:
    """Ours and the slow reference must compute the same gradient, or their times mean nothing."""
    sizes, free, nudged, beta = SETTINGS[name]
    torch.manual_seed(0)
    model = ep.mlp(sizes, activation="sigmoid").double()
    x, y = torch.rand(4, sizes[0], dtype=torch.double), torch.randint(10, (4,))
    (loss,) = ep.EquilibriumProp(free, nudged, beta)(model, x, y)
    ours = torch.autograd.grad(loss, list(model.parameters()))
    slow = torch.autograd.grad(autograd_ep(model, x, y, free, nudged, beta), list(model.parameters()))
    for a, b in zip(ours, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


def command(args: argparse.Namespace) -> str:
    """What to type to measure again."""
    return f"python benchmarks/training_step.py --threads {args.threads} --repeats {args.repeats}"


def main() -> None:
    """Measure every setting and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--threads", type=int, default=1, help="threads of torch (default: 1, as for runs side by side)"
    )
    parser.add_argument("--repeats", type=int, default=9, help="rounds counted")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name in SETTINGS:
        check(name)
        for batch in (20, 128):
            times = in_turn(contenders(name, batch), args.repeats)
            median, ratio = medians(times), ratios(times, "ours")
            figures = {"milliseconds": rounded(median), "times_ours": rounded(ratio)}
            rows.append({"network": name, "batch": batch, **figures})
            print(
                f"{name}, batch {batch}: " + ", ".join(f"{w} {m:.2f} ms ({ratio[w]:.2f}x)" for w, m in median.items())
            )
    if args.json:
        report = {"command": command(args), "environment": environment(), "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
