"""``eqprop recipes``: the recipes and the published errors of the same trainings."""

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

_HEAD = (
    *("recipe", "data", "network", "T", "K", "beta", "learning rates", "epochs", "dynamics", "published in"),
    *("published test error (%)", "published, by BPTT (%)"),
)
_DYNAMICS = {Prototypical: "prototypical", EnergyDescent: "energy-based", Spiking: "spiking"}


@dataclass(frozen=True)
class Recipes:
    """List the recipes with the published test errors of the same trainings."""


def main(words: list[str]) -> int:
    """Print the table."""
    parse(Recipes, words, "eqprop recipes")
    table(_HEAD, [_cells(build()) for build in RECIPES.values()])
    recalled = ", ".join(sorted({p.source for p in PUBLISHED if p.recalled}))
    echo("Published test errors: mean ± standard deviation over runs, in percent.")
    echo(f"Written down from memory and not checked against the paper: {recalled}.")
    for remark in sorted({p.remark for p in PUBLISHED if p.remark}):
        names = ", ".join(dict.fromkeys(p.recipe for p in PUBLISHED if p.remark == remark))
        echo(f"{names}: {remark}.")
    return 0


def _sizes(run: Run) -> Sequence[int]:
    # channels and units, input first
    if isinstance(run.model, ConvNet):
        return (run.model.input_shape[0], *run.model.channels, *run.model.dense)
    return run.model.sizes if isinstance(run.model, MLP) else ()


def _cells(run: Run) -> list[str]:
    estimator = vars(run.estimator)
    steps = [format_steps(estimator[name]) if name in estimator else "–" for name in ("free_steps", "nudged_steps")]
    known = {p.method: p for p in PUBLISHED if (p.recipe, p.angle) == (run.name, 0)}
    errors = [known[method].text if method in known else "–" for method in (run.method, "BPTT")]
    return [
        run.name,
        run.data.name,
        "-".join(map(str, _sizes(run))),
        *steps,
        str(estimator.get("beta", "–")),
        " ".join(f"{rate:g}" for rate in as_rates(run.optimizer.rates)),
        str(run.epochs),
        f"{_dynamics_text(run.model.dynamics)}, {run.model.activation}",
        next((p.source for p in known.values()), "–"),
        *errors,
    ]


def _dynamics_text(dynamics: Dynamics) -> str:
    if isinstance(dynamics, Noisy):
        return _dynamics_text(dynamics.dynamics) + (f", noise {dynamics.std:g}" if dynamics.std else "")
    return _DYNAMICS[type(dynamics)]
