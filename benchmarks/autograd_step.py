"""Compare a training step of `eqprop.EquilibriumProp` with EP as most code bases write it.

    python benchmarks/autograd_step.py [--recipes NAME ...] [--batch N] [--threads N] [--repeats N] [--json FILE]

The other implementation differentiates Phi by autograd at every step, input drive included, and runs the nudged phases one after
the other. Both must compute the same gradient. `eqprop bench` compares the step with BPTT and with its bare arithmetic.
"""

import torch
from common import make_parser, write_json
from torch import Tensor
from torch.nn import functional as F

import eqprop as ep
from eqprop.bench import Phases, extract_phases, make_sgd_step, medians, ratios, round_figures, time_steps
from eqprop.papers import recipe
from eqprop.training import Run

State = list[Tensor]


def phi(model: ep.Model, x: Tensor, s: State) -> Tensor:
    """Return the primitive function, ``(B,)``, written with torch functions."""
    a, terms = [x, *s], []
    for pre, post, layer in model.network.edges():
        if isinstance(layer, ep.Dense):
            u = F.linear(a[pre].flatten(1), layer.weight, layer.bias)
        else:
            assert isinstance(layer, ep.Conv2d)
            u = F.conv2d(a[pre], layer.weight, layer.bias, layer.stride, layer.padding)
            u = {"max": F.max_pool2d, "avg": F.avg_pool2d}[layer.pool](u, layer.pool_size) if layer.pool else u
        terms.append((u * a[post]).flatten(1).sum(1))
    return torch.stack(terms).sum(0)


def autograd_loss(model: ep.Model, x: Tensor, y: Tensor, phases: Phases) -> Tensor:
    """Return EP's loss, with every step differentiated by autograd."""
    rho = [p.activation.rho for p in model.network.relaxing]
    cost, ones = model.cost, x.new_ones(len(x))
    inside = isinstance(model.dynamics, ep.Prototypical) and model.dynamics.nudge == "inside"

    def settle(s: State, steps: int, beta: float) -> State:
        for _ in range(steps):
            leaves = [t.detach().requires_grad_() for t in s]
            u = list(torch.autograd.grad(phi(model, x, leaves), leaves, ones))
            force = beta * cost.force(s[-1], cost.encode(y, s[-1])) if beta else 0.0
            u[-1] = u[-1] + force if inside else u[-1]
            new = [r(current.detach()) for r, current in zip(rho, u, strict=True)]
            new[-1] = new[-1] if inside else new[-1] + force
            s = new
        return s

    free = settle([x.new_zeros(len(x), *p.shape) for p in model.network.relaxing], phases.free.steps, 0.0)
    plus = settle(free, phases.nudged.steps, phases.beta)
    minus = settle(free, phases.nudged.steps, -phases.beta) if phases.copies == 2 else free
    surrogate = (phi(model, x, minus) - phi(model, x, plus)).mean() / (phases.copies * phases.beta)
    return surrogate + cost.value(free[-1], cost.encode(y, free[-1])).mean()  # gradient of a readout's own weights


def check(run: Run, phases: Phases, estimator: ep.EquilibriumProp) -> None:
    """Check that both implementations compute the same gradient, in float64."""
    model = run.build().double()
    x, y = torch.rand(2, *model.network.populations[0].shape, dtype=torch.double), torch.randint(10, (2,))
    both = next(iter(estimator(model, x, y))), autograd_loss(model, x, y, phases)
    for a, b in zip(*(torch.autograd.grad(loss, list(model.parameters())) for loss in both), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10)


def main() -> None:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--recipes", nargs="+", default=["p-1h", "p-2h", "p-conv-small"], help="synchronous EP recipes")
    parser.add_argument("--batch", type=int, default=20, help="batch size")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows = []
    for name in args.recipes:
        run = recipe(name)
        phases = extract_phases(run)
        estimator = ep.EquilibriumProp(phases.free.steps, phases.nudged.steps, phases.beta, phases.nudging)
        check(run, phases, estimator)
        ours, slow = run.build(), run.build()
        x, y = torch.rand(args.batch, *ours.network.populations[0].shape), torch.randint(10, (args.batch,))
        steps = {
            "eqprop": make_sgd_step(ours, lambda m=ours, e=estimator, x=x, y=y: e(m, x, y)),
            "autograd": make_sgd_step(slow, lambda m=slow, p=phases, x=x, y=y: [autograd_loss(m, x, y, p)]),
        }
        times = time_steps(steps, args.repeats, block=2)
        ratio = round_figures(ratios(times, "eqprop"))["autograd"]
        rows.append({"recipe": name, "milliseconds": round_figures(medians(times)), "times_eqprop": ratio})
        print("{recipe}: {milliseconds} ms, autograd {times_eqprop}x".format(**rows[-1]), flush=True)
    write_json(args.json, rows)


if __name__ == "__main__":
    main()
