"""Time of one step of continual EP, side by side in one run, in turn, so that a drifting machine does not favour anyone.

    python benchmarks/continual_step.py [--threads N] [--repeats N] [--json FILE]

Every contender takes the same batch of 20 at the recipe's T, K and beta, starts from the same weights and ends with plain SGD:

- ``one-shot``: `eqprop.EquilibriumProp` with the same T and K, the yardstick;
- ``sgd``: `eqprop.ContinualSGD`, one loss a batch;
- ``general``: `eqprop.ContinualEP`, K losses and K optimizer steps a batch.
"""

import argparse
import json
from pathlib import Path

import torch

import eqprop as ep
from eqprop.bench import Step, descent, in_turn, medians, ratios, rounded
from eqprop.papers.registry import recipe
from eqprop.training import Run
from eqprop.training.environment import environment

RECIPES = ("cep-1h", "cvf-1h", "cep-2h")
RATE = 1e-4
CENTRED = "centred"


def contenders(run: Run, centred: bool) -> dict[str, Step]:
    """By name, a function that does one training step."""
    torch.manual_seed(0)
    x, y = torch.rand(20, 784), torch.randint(10, (20,))
    now = run.estimator
    assert isinstance(now, ep.ContinualSGD)
    nudging = "centred" if centred else now.nudging
    estimators: dict[str, ep.Estimator] = {
        "one-shot": ep.EquilibriumProp(now.free_steps, now.nudged_steps, now.beta, nudging),
        "sgd": ep.ContinualSGD(now.free_steps, now.nudged_steps, now.beta, RATE, nudging),
        "general": ep.ContinualEP(now.free_steps, now.nudged_steps, now.beta, nudging),
    }
    return {name: step(run.build(), estimator, x, y) for name, estimator in estimators.items()}


def step(model: ep.Model, estimator: ep.Estimator, x: torch.Tensor, y: torch.Tensor) -> Step:
    """One batch: as many optimizer steps as there are losses."""
    return descent(model, lambda: estimator(model, x, y), RATE)


def check(run: Run) -> None:
    """The two continual contenders must land on the same weights, or their times mean nothing."""
    models = []
    for name in ("sgd", "general"):
        model = run.build().double()
        now = run.estimator
        assert isinstance(now, ep.ContinualSGD)
        choices = (now.free_steps, now.nudged_steps, now.beta)
        continual = ep.ContinualSGD(*choices, RATE) if name == "sgd" else ep.ContinualEP(*choices)
        torch.manual_seed(0)
        step(model, continual, torch.rand(4, 784, dtype=torch.double), torch.randint(10, (4,)))()
        models.append(model)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


def main() -> None:
    """Measure every setting and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--repeats", type=int, default=9, help="rounds counted")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name in RECIPES:
        check(recipe(name))
        for centred in (False, True):
            times = in_turn(contenders(recipe(name), centred), args.repeats)
            median, ratio = medians(times), ratios(times, "one-shot")
            label = f"{name}, {CENTRED}" if centred else name
            rows.append({"recipe": label, "milliseconds": rounded(median), "times_one_shot": rounded(ratio)})
            print(f"{label}: " + ", ".join(f"{who} {m:.2f} ms ({ratio[who]:.2f}x)" for who, m in median.items()))
    if args.json:
        command = f"python benchmarks/continual_step.py --threads {args.threads} --repeats {args.repeats}"
        report = {"command": command, "environment": environment(), "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
