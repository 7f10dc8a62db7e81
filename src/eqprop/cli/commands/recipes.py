"""``eqprop recipes``: what there is to train, and what was published of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from eqprop.cli.console import echo, table
from eqprop.cli.options import parse
from eqprop.cli.parsers import format_steps
from eqprop.dynamics.base import Dynamics
from eqprop.dynamics.energy import EnergyDescent
from eqprop.dynamics.noisy import Noisy
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators.rates import as_rates
from eqprop.models.convnet import ConvNet
from eqprop.models.mlp import MLP
from eqprop.papers.registry import PUBLISHED, RECIPES
from eqprop.spiking import Spiking
from eqprop.training.config.run import Run

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
    echo(f"Published: test error in percent, mean ± standard deviation, as recalled from {', '.join(sources)}.")
    for remark in sorted({p.remark for p in PUBLISHED if p.remark}):
        names = ", ".join(dict.fromkeys(p.recipe for p in PUBLISHED if p.remark == remark))
        echo(f"{names}: {remark}.")
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
    steps = [format_steps(estimator[name]) if name in estimator else "–" for name in ("free_steps", "nudged_steps")]
    rates = " ".join(f"{rate:g}" for rate in as_rates(run.optimizer.rates))
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
