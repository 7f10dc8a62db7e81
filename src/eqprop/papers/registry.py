"""Recipes: functions that return a `Run` or an `Experiment`, and what was published of each."""

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from functools import partial

from eqprop.papers.digits.recipes import digits
from eqprop.papers.ernoult2019 import recipes as ernoult2019
from eqprop.papers.ernoult2019 import theorem as ernoult2019_theorem
from eqprop.papers.ernoult2020 import recipes as ernoult2020
from eqprop.papers.ernoult2020 import theorem as ernoult2020_theorem
from eqprop.papers.hardware import recipes as hardware
from eqprop.papers.laborieux2021 import recipes as laborieux2021
from eqprop.papers.lin2024 import recipes as lin2024
from eqprop.papers.published_results import Published, baseline, surrogate
from eqprop.papers.resnet2025 import recipes as resnet2025
from eqprop.papers.scellier2023 import recipes as scellier2023
from eqprop.theorem.experiment import Experiment
from eqprop.training.config.run import Run

__all__ = [
    "CONTINUAL",
    "EXPERIMENTS",
    "PUBLISHED",
    "RECIPES",
    "Published",
    "baseline",
    "experiment",
    "published",
    "recipe",
    "surrogate",
]

RECIPES: dict[str, Callable[[], Run]] = {
    "digits": digits,
    "p-1h": ernoult2019.p_1h,
    "p-1h-readme": ernoult2019.p_1h_readme,
    "p-2h": ernoult2019.p_2h,
    "p-3h": ernoult2019.p_3h,
    "p-conv": ernoult2019.p_conv,
    "p-conv-small": ernoult2019.p_conv_small,
    "p-conv-fashion": ernoult2019.p_conv_fashion,
    "p-conv-fashion-small": ernoult2019.p_conv_fashion_small,
    "eb-1h": ernoult2019.eb_1h,
    "eb-1h-readme": ernoult2019.eb_1h_readme,
    "eb-2h": ernoult2019.eb_2h,
    "eb-2h-readme": ernoult2019.eb_2h_readme,
    "cep-1h": ernoult2020.cep_1h,
    "cep-1h-readme": ernoult2020.cep_1h_readme,
    "cep-2h": ernoult2020.cep_2h,
    "cvf-1h": ernoult2020.cvf_1h,
    "cvf-1h-decay": ernoult2020.cvf_1h_decay,
    "cvf-2h": ernoult2020.cvf_2h,
    "vf-1h": ernoult2020.vf_1h,
    "laborieux-cifar10": laborieux2021.laborieux_cifar10,
    "laborieux-cifar10-small": laborieux2021.laborieux_cifar10_small,
    "dchn-mnist": scellier2023.dchn_mnist,
    "dchn-mnist-small": scellier2023.dchn_mnist_small,
    "dchn-fashion": scellier2023.dchn_fashion,
    "dchn-fashion-small": scellier2023.dchn_fashion_small,
    "dchn-cifar10": scellier2023.dchn_cifar10,
    "dchn-cifar10-small": scellier2023.dchn_cifar10_small,
    "resnet13-cifar10": resnet2025.resnet13_cifar10,
    "resnet13-cifar10-small": resnet2025.resnet13_cifar10_small,
    "spiking-digits": lin2024.spiking_digits,
    "spiking-dense": lin2024.spiking_dense,
    "spiking-mnist": lin2024.spiking_mnist,
    "spiking-mnist-small": lin2024.spiking_mnist_small,
    "spiking-fashion": lin2024.spiking_fashion,
    "spiking-fashion-small": lin2024.spiking_fashion_small,
    "hardware-ep": hardware.ep,
    "hardware-centred": hardware.centred,
    "hardware-cep": hardware.cep,
    "hardware-cvf": hardware.cvf,
}
"""Every recipe by the name that the command line takes."""


def exact_of(name: str) -> Experiment:
    """A figure's check with dynamics that meet the theorem's assumptions."""
    return ernoult2019_theorem.exact(FIGURES[name]())


def as_trained(name: str) -> Experiment:
    """The check of a training recipe's own model and phases."""
    return replace(Experiment.from_run(RECIPES[name]()), name=f"{name}{AS_TRAINED}")


FIGURES: dict[str, Callable[[], Experiment]] = {
    "toy": ernoult2019_theorem.toy,
    "eb-1h": ernoult2019_theorem.eb_1h,
    "eb-2h": ernoult2019_theorem.eb_2h,
    "eb-3h": ernoult2019_theorem.eb_3h,
    "p-1h": ernoult2019_theorem.p_1h,
    "p-2h": ernoult2019_theorem.p_2h,
    "p-3h": ernoult2019_theorem.p_3h,
    "p-conv": ernoult2019_theorem.p_conv,
}
"""Checks of the theorem, one for each figure of the paper of 2019."""

CONTINUAL: dict[str, Callable[[], Experiment]] = {
    "ep-p-1h": ernoult2020_theorem.ep_p_1h,
    "cep-p-1h": ernoult2020_theorem.cep_p_1h,
    "cvf-p-1h": ernoult2020_theorem.cvf_p_1h,
    "ep-eb-1h": ernoult2020_theorem.ep_eb_1h,
    "cep-eb-1h": ernoult2020_theorem.cep_eb_1h,
    "cvf-eb-1h": ernoult2020_theorem.cvf_eb_1h,
}
"""Checks of the theorem of 2020."""

AS_TRAINED = "-training"
"""Ends the name of a check of a training's own model and phases."""

EXPERIMENTS: dict[str, Callable[[], Experiment]] = {
    **FIGURES,
    **{f"{name}-exact": partial(exact_of, name) for name in FIGURES},
    **CONTINUAL,
    **{f"{name}{AS_TRAINED}": partial(as_trained, name) for name in RECIPES},
}
"""Every check of the theorem by the name that the command line takes."""

PUBLISHED: tuple[Published, ...] = tuple(
    line
    for paper in (ernoult2019, ernoult2020, laborieux2021, scellier2023, resnet2025, lin2024)
    for line in paper.PUBLISHED
)
"""Every published figure."""


def experiment(name: str) -> Experiment:
    """The check of the theorem of that name: a figure's, else that of the training recipe of that name.

    Raises:
        ValueError: if there is none.

    >>> experiment("eb-1h").estimator.beta, experiment("eb-1h-training").estimator.beta
    (0.001, 0.5)
    """
    return EXPERIMENTS[name if name in EXPERIMENTS else f"{recipe(name).name}{AS_TRAINED}"]()


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
