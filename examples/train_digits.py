"""The same network trained twice from the same weights: by Equilibrium Propagation and by Backpropagation Through Time.

The data are the 1,797 handwritten digits of 8x8 pixels that travel with the package. Both trainings see the same minibatches
in the same order; EP never differentiates through time. Run it by `make demo` or `python examples/train_digits.py`.
"""

import argparse
import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor

import eqprop as ep
from eqprop.data import Split, load_digits

STEPS, LAST_STEPS = 20, 10  # of the free phase; of each nudged phase, and of what BPTT unrolls
BATCH, RATE = 20, 0.3


def error(scores: Tensor, y: Tensor) -> float:
    """Percentage of samples whose largest score is not their class."""
    return 100 * (scores.argmax(1) != y).double().mean().item()


def train(model: ep.Model, estimator: ep.Estimator, data: Split, epochs: int, seed: int) -> str:
    """Train, print one line an epoch, return the line of the table."""
    name, start, order = type(estimator).__name__, time.perf_counter(), torch.Generator().manual_seed(seed)
    (x, y), (x_test, y_test) = data
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    train_error = test_error = 100.0
    for epoch in range(1, epochs + 1):
        cost, seen = 0.0, []
        shuffled = torch.randperm(len(y), generator=order)
        for batch in shuffled.split(BATCH):
            # `watch` is handed the free phase that the estimator runs anyway: the training error is free of charge.
            for loss in estimator(model, x[batch], y[batch], watch=seen.append):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                cost += loss.item() * len(batch) / len(y)
        schedule.step()
        train_error = error(torch.cat([free.state[-1] for free in seen]), y[shuffled])
        test_error = error(model(x_test), y_test)
        losses = f"train cost {cost:.4f}   train error {train_error:5.2f} %   test error {test_error:5.2f} %"
        print(f"{name:<15}  epoch {epoch:2d}/{epochs}   {losses}", flush=True)
    return f"{name:<15}  {train_error:9.2f} %  {test_error:8.2f} %  {time.perf_counter() - start:7.1f}"


def whole(low: int) -> Callable[[str], int]:
    """A parser of whole numbers from `low` on."""

    def parse(text: str) -> int:
        if not (text.isdecimal() and low <= int(text) < 2**31):
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {low}, got {text!r}")
        return int(text)

    return parse


def main() -> None:
    """Read the options, train twice, compare."""
    parser = argparse.ArgumentParser(description="EP and BPTT from the same weights.")
    parser.add_argument("--epochs", metavar="N", type=whole(1), default=20, help="passes over the data (default: 20)")
    parser.add_argument("--seed", metavar="N", type=whole(0), default=0, help="of weights and shuffling (default: 0)")
    parser.add_argument("--threads", metavar="N", type=whole(1), default=1, help="of the CPU (default: 1, enough here)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    torch.manual_seed(options.seed)
    model = ep.mlp([64, 128, 10], activation="sigmoid", dynamics=ep.Prototypical(nudge="inside"), settle=STEPS)
    estimators = [ep.EquilibriumProp(STEPS, LAST_STEPS, beta=0.2, nudging="centred"), ep.BPTT(STEPS, LAST_STEPS)]
    data = load_digits()
    rows = [train(copy.deepcopy(model), estimator, data, options.epochs, options.seed) for estimator in estimators]
    print("", f"{'':<15}  train error  test error  seconds", *rows, sep="\n")


if __name__ == "__main__":
    main()
