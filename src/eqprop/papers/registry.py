"""The recipes, theorem experiments and published errors of all papers, by name."""

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from functools import partial

from eqprop._core.checks import ArgumentError
from eqprop.papers.digits import recipes as digits
from eqprop.papers.ernoult2019 import recipes as ernoult2019
from eqprop.papers.ernoult2019 import theorem as ernoult2019_theorem
from eqprop.papers.ernoult2020 import recipes as ernoult2020
from eqprop.papers.ernoult2020 import theorem as ernoult2020_theorem
from eqprop.papers.hardware import recipes as hardware
from eqprop.papers.laborieux2021 import recipes as laborieux2021
from eqprop.papers.lin2024 import recipes as lin2024
from eqprop.papers.published_results import Published, baseline
from eqprop.papers.resnet2025 import recipes as resnet2025
from eqprop.papers.scellier2023 import recipes as scellier2023
from eqprop.theorem.experiment import Experiment
from eqprop.training.config.run import Run

__all__ = ["CONTINUAL", "EXPERIMENTS", "PUBLISHED", "RECIPES", "baseline", "experiment", "published_errors", "recipe"]

_PAPERS = (ernoult2019, ernoult2020, laborieux2021, scellier2023, resnet2025, lin2024)

RECIPES: dict[str, Callable[[], Run]] = {
    name: build for module in (digits, *_PAPERS, hardware) for name, build in module.RECIPES.items()
}
"""Every recipe by the name that the command line takes; each call returns a new `Run`."""

PUBLISHED: tuple[Published, ...] = tuple(line for module in _PAPERS for line in module.PUBLISHED)
"""The published errors of all papers."""

CONTINUAL: dict[str, Callable[[], Experiment]] = ernoult2020_theorem.EXPERIMENTS
"""Theorem experiments of Ernoult et al. (2020)."""

_AS_TRAINED = "-training"


def _exact(name: str) -> Experiment:
    return ernoult2019_theorem.exact(ernoult2019_theorem.EXPERIMENTS[name]())


def _as_trained(name: str) -> Experiment:
    return replace(Experiment.from_run(RECIPES[name]()), name=f"{name}{_AS_TRAINED}")


EXPERIMENTS: dict[str, Callable[[], Experiment]] = {
    **ernoult2019_theorem.EXPERIMENTS,
    **{f"{name}-exact": partial(_exact, name) for name in ernoult2019_theorem.EXPERIMENTS},
    **CONTINUAL,
    **{f"{name}{_AS_TRAINED}": partial(_as_trained, name) for name in RECIPES},
}
"""Every theorem experiment by the name that the command line takes.

``NAME`` is a figure of a paper, ``NAME-exact`` the same under the theorem's assumptions, and ``NAME-training`` uses the model and
the phases of the training recipe ``NAME``.
"""


def experiment(name: str) -> Experiment:
    """Return the theorem experiment of that name: of a paper's figure, else of the training recipe of that name.

    Raises:
        ArgumentError: if there is none.

    >>> experiment("eb-1h").estimator.beta, experiment("eb-1h-training").estimator.beta
    (0.001, 0.5)
    """
    return EXPERIMENTS[name if name in EXPERIMENTS else f"{recipe(name).name}{_AS_TRAINED}"]()


def recipe(name: str) -> Run:
    """Return the recipe of that name.

    Raises:
        ArgumentError: if there is none.

    >>> recipe("p-1h").estimator
    EquilibriumProp(free_steps=30, nudged_steps=10, beta=0.1, nudging='one-sided')
    """
    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, 1)
        hint = f"did you mean {near[0]!r}?" if near else "`eqprop recipes` lists them"
        raise ArgumentError("name", f"there is no recipe {name!r}: {hint}")
    return RECIPES[name]()


def published_errors(run: Run) -> tuple[Published, ...]:
    """Return the published errors of a run.

    A run has published errors only if it equals its recipe, or the recipe's BPTT baseline, apart from the seed, the number of
    threads and the initial angle of untied weights.
    """
    if run.name not in RECIPES:
        return ()
    original, angle = replace(recipe(run.name), seed=run.seed, threads=run.threads), getattr(run.model, "angle", 0.0)
    if not getattr(original.model, "tied", True) and not getattr(run.model, "tied", True):
        original = replace(original, model=replace(original.model, angle=angle))
    methods = {original.to_json(): original.method, baseline(original).to_json(): "BPTT"}
    method = methods.get(run.to_json())
    return tuple(p for p in PUBLISHED if (p.recipe, p.method, p.angle) == (run.name, method, angle))
