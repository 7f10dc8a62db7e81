"""``eqprop recipes``: what there is to train, and what was published of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from eqprop.architectures import MLP
from eqprop.cli.parse import parse
from eqprop.cli.show import say, table
from eqprop.cli.words import steps_text
from eqprop.convnet import ConvNet
from eqprop.dynamics import Dynamics, EnergyDescent, Prototypical
from eqprop.noise import Noisy
from eqprop.rates import as_rates
from eqprop.recipes import PUBLISHED, RECIPES
from eqprop.spiking import Spiking
from eqprop.training.run import Run

__all__ = ["Recipes", "main"]

HEAD = ("recipe", "data", "network", "T", "K", "beta", "rates", "epochs", "dynamics")
HEAD += ("published", "BPTT, published")

DYNAMICS = {Prototypical: "prototypical", EnergyDescent: "energy-based", Spiking: "spiking"}


@dataclass(frozen=True)
class Recipes:
    """List the recipes with the published test errors on the same data."""


def main(words: list[str]) -> int:
    """Print the table."""
    parse(Recipes, words, "eqprop recipes")
    table(HEAD, [line(make()) for make in RECIPES.values()])
    sources = sorted({p.source for p in PUBLISHED})
    say(f"Published: test error in percent, mean ± standard deviation, as recalled from {', '.join(sources)}.")
    for remark in sorted({p.remark for p in PUBLISHED if p.remark}):
        names = ", ".join(dict.fromkeys(p.recipe for p in PUBLISHED if p.remark == remark))
        say(f"{names}: {remark}.")
    return 0


def widths(run: Run) -> Sequence[int]:
    """Units of a dense network's populations; channels and units of a convolutional one's."""
    if isinstance(run.model, ConvNet):
        return (run.model.input_shape[0], *run.model.channels, *run.model.dense)
    return run.model.sizes if isinstance(run.model, MLP) else ()


def line(run: Run) -> list[str]:
    """A recipe's row."""
    sizes = "-".join(map(str, widths(run)))
    estimator = vars(run.estimator)
    steps = [steps_text(estimator[name]) if name in estimator else "–" for name in ("free_steps", "nudged_steps")]
    rates = " ".join(f"{rate:g}" for rate in as_rates(run.optimiser.rates))
    known = {p.method: p.text for p in PUBLISHED if (p.recipe, p.angle) == (run.name, 0)}
    return [
        run.name,
        run.data.name,
        sizes,
        *steps,
        str(estimator.get("beta", "–")),
        rates,
        str(run.epochs),
        f"{described(run.model.dynamics)}, {run.model.activation}",
        known.get(run.method, "–"),
        known.get("BPTT", "–"),
    ]


def described(dynamics: Dynamics) -> str:
    """The dynamics in a word or two."""
    if isinstance(dynamics, Noisy):
        return described(dynamics.dynamics) + (f", noise {dynamics.std:g}" if dynamics.std else "")
    return DYNAMICS[type(dynamics)]
