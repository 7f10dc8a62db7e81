"""Recipes: functions that return a `Run`, and what was published of each."""

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches

from eqprop.recipes import ernoult2019, ernoult2020
from eqprop.recipes.digits import digits
from eqprop.recipes.published import Published, baseline
from eqprop.training.run import Run

__all__ = ["RECIPES", "Published", "baseline", "published", "recipe"]

RECIPES: dict[str, Callable[[], Run]] = {
    "digits": digits,
    "p-1h": ernoult2019.p_1h,
    "p-1h-readme": ernoult2019.p_1h_readme,
    "p-2h": ernoult2019.p_2h,
    "p-3h": ernoult2019.p_3h,
    "eb-1h": ernoult2019.eb_1h,
    "eb-1h-readme": ernoult2019.eb_1h_readme,
    "eb-2h": ernoult2019.eb_2h,
    "eb-2h-readme": ernoult2019.eb_2h_readme,
    "cep-1h": ernoult2020.cep_1h,
    "cep-2h": ernoult2020.cep_2h,
    "cvf-1h": ernoult2020.cvf_1h,
    "cvf-2h": ernoult2020.cvf_2h,
    "vf-1h": ernoult2020.vf_1h,
}
"""Every recipe by the name that the command line takes."""


PUBLISHED: tuple[Published, ...] = ernoult2019.PUBLISHED + ernoult2020.PUBLISHED
"""Every published figure."""


def recipe(name: str) -> Run:
    """The recipe of that name.

    Raises:
        ValueError: if there is none.

    >>> recipe("p-1h").estimator
    EquilibriumProp(free_steps=30, nudged_steps=10, beta=0.1, nudging='one-sided')
    """
    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, 1)
        hint = f"did you mean {near[0]!r}?" if near else "`eqprop recipes` lists them"
        raise ValueError(f"there is no recipe {name!r}: {hint}")
    return RECIPES[name]()


def published(run: Run) -> tuple[Published, ...]:
    """What was published of a run: nothing, if it differs from its recipe in more than seed, threads and the weights' angle."""
    if run.name not in RECIPES:
        return ()
    original, angle = replace(recipe(run.name), seed=run.seed, threads=run.threads), getattr(run.model, "angle", 0.0)
    if not getattr(original.model, "tied", True) and not getattr(run.model, "tied", True):
        original = replace(original, model=replace(original.model, angle=angle))
    methods = {original.to_json(): original.method, baseline(original).to_json(): "BPTT"}
    method = methods.get(run.to_json())
    return tuple(p for p in PUBLISHED if (p.recipe, p.method, p.angle) == (run.name, method, angle))
