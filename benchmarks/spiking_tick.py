"""Time of one tick of spiking networks beside one step of their rate twins, in one run, in turn.

    python benchmarks/spiking_tick.py [--threads N] [--batch N] [--repeats N] [--networks NAME ...] [--json FILE]

Every contender moves a batch that has settled for ten ticks on by ``TICKS`` more, without a target:

- ``spiking``: a tick, input in spikes;
- ``twin``: a step of the rate twin whose input drive is computed anew at every step, as that of an input in spikes must be;
- ``twin-still``: the same with the input drive computed once, as training does;
- ``current``: a tick of a spiking network whose input is a current;
- ``bernoulli``: a tick with Bernoulli coders.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

import eqprop as ep
from eqprop.bench import in_turn, medians, ratios, rounded
from eqprop.papers.registry import recipe
from eqprop.spiking import Bernoulli
from eqprop.training.environment import environment

NETWORKS = ("spiking-mnist", "spiking-mnist-small", "spiking-dense")
TICKS = 10


def ticks(model: ep.Model, x: torch.Tensor, *, static: bool | None = None) -> Callable[[], object]:
    """A function that takes so many; ``still`` overrules what the dynamics do with the input's current."""
    network, dynamics = model.network, model.dynamics
    with torch.no_grad():
        drive = dynamics.prepare(network, x) if static is None else network.prepare(x, static=static)
        start = dynamics.init(network, x)
        for _ in range(10):
            start = dynamics.step(network, start, drive)

    @torch.no_grad()
    def step() -> None:
        state = start
        for _ in range(TICKS):
            state = dynamics.step(network, state, drive)

    return step


def contenders(name: str, batch: int) -> dict[str, Callable[[], object]]:
    """By name, a function that takes some ticks."""
    torch.manual_seed(0)
    model = recipe(name).build()
    dynamics, shape = model.dynamics, model.network.populations[0].shape
    assert isinstance(dynamics, ep.Spiking)
    x = torch.rand(batch, *shape)

    def moved_by(other: ep.Dynamics) -> ep.Model:
        return ep.Model(model.network, other, model.cost)

    return {
        "spiking": ticks(model, x),
        "twin": ticks(model.rate_model(), x, static=False),
        "twin-still": ticks(model.rate_model(), x),
        "current": ticks(moved_by(replace(dynamics, input="current")), x),
        "bernoulli": ticks(moved_by(replace(dynamics, coder=Bernoulli())), x),
    }


def main() -> None:
    """Measure every network and print medians of a tick, and ratios to the twin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--batch", type=int, default=50, help="samples")
    parser.add_argument("--repeats", type=int, default=15, help="rounds counted")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), help="recipes")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name in args.networks:
        times = in_turn(contenders(name, args.batch), args.repeats, block=2)
        median = {who: t / TICKS for who, t in medians(times).items()}
        ratio = ratios(times, "twin")
        rows.append(
            {"network": name, "batch": args.batch, "milliseconds": rounded(median), "times_twin": rounded(ratio)}
        )
        print(f"{name}: " + ", ".join(f"{w} {m:.2f} ms ({ratio[w]:.2f}x)" for w, m in median.items()), flush=True)
    if args.json:
        command = (
            f"python benchmarks/spiking_tick.py --threads {args.threads} --batch {args.batch} --repeats {args.repeats}"
        )
        report = {"command": command, "environment": environment(), "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
