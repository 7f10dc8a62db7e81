"""Another class for a part of a run, by a word: ``--estimator bptt``, ``--optimizer adam``, ``--schedule cosine``.

It is looked up before the options are read, since what options a part has depends on its class.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil

from eqprop.cli.errors import UsageError, unknown
from eqprop.dynamics.base import Dynamics
from eqprop.dynamics.energy import EnergyDescent
from eqprop.dynamics.noisy import Noisy
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import ContinualEP, ContinualSGD, EquilibriumProp, ImplicitDiff, NudgedEstimator
from eqprop.models.toy import Toy
from eqprop.papers.registry import baseline, surrogate
from eqprop.solvers.settle import as_settle
from eqprop.spiking import Spiking
from eqprop.theorem.experiment import in_step
from eqprop.training.config.optimizers import SGD, Adam, AdamW
from eqprop.training.config.quantized import QuantizedSGD
from eqprop.training.config.run import Run
from eqprop.training.config.schedules import Constant, Cosine, StepDecay

__all__ = ["swapped"]

PARTS: dict[str, dict[str, Callable[[Run], Run]]] = {
    "dynamics": {
        "prototypical": lambda run: moved_by(run, Prototypical()),
        "energy": lambda run: moved_by(run, EnergyDescent()),
        "spiking": lambda run: moved_by(run, Spiking()),
    },
    "estimator": {
        "ep": lambda run: by_nudging(run, EquilibriumProp),
        "continual-ep": lambda run: by_nudging(run, ContinualEP),
        "continual-sgd": lambda run: by_nudging(run, ContinualSGD),
        "bptt": baseline,
        "surrogate-bptt": surrogate,
        "implicit": lambda run: replace(run, estimator=ImplicitDiff(run.estimator.free_steps)),
    },
    "optimizer": {
        "sgd": lambda run: replace(run, optimizer=SGD(run.optimizer.rates)),
        "adam": lambda run: replace(run, optimizer=Adam()),
        "adamw": lambda run: replace(run, optimizer=AdamW()),
        "quantized": lambda run: replace(run, optimizer=QuantizedSGD(run.optimizer.rates)),
    },
    "schedule": {
        "constant": lambda run: replace(run, schedule=Constant()),
        "cosine": lambda run: replace(run, schedule=Cosine()),
        "step": lambda run: replace(run, schedule=StepDecay(every=ceil(run.epochs / 3))),
    },
}
"""The words of each part, and what they make of a run."""


def moved_by(run: Run, dynamics: Dynamics) -> Run:
    """The run with other dynamics: its own, if they are of that class; of a spiking run by energy, its twin. Noise stays."""
    if isinstance(run.model, Toy):
        return run
    now = run.model.dynamics
    bare = now.dynamics if isinstance(now, Noisy) else now
    dynamics = next((one for one in (bare, bare.differentiable_equivalent()) if type(one) is type(dynamics)), dynamics)
    noisy = replace(now, dynamics=dynamics) if isinstance(now, Noisy) else dynamics
    return replace(run, model=replace(run.model, dynamics=noisy))


def by_nudging(run: Run, kind: type[EquilibriumProp | ContinualEP | ContinualSGD]) -> Run:
    """The run by another estimator that nudges, with the same T, K, beta and nudging."""
    now = run.estimator
    if not isinstance(now, NudgedEstimator) or type(now) is kind:
        return run
    nudged = as_settle("nudged_steps", in_step(now.nudged_steps)).steps
    return replace(run, estimator=kind(now.free_steps, nudged, now.beta, nudging=now.nudging))


def swapped(run: Run, words: Sequence[str], parts: Sequence[str] = tuple(PARTS)) -> Run:
    """The run with those parts that the words name.

    Raises:
        UsageError: if a word names no class of its part.
    """
    for part in parts:
        word, choices = given(f"--{part}", words), PARTS[part]
        if word is not None:
            if word not in choices:
                raise unknown(f"--{part}", word, list(choices), f"must be one of {', '.join(choices)}")
            run = replace(choices[word](replace(run, epochs=wanted_epochs(run, words))), epochs=run.epochs)
    return run


def wanted_epochs(run: Run, words: Sequence[str]) -> int:
    """How long the training will be; whether ``--epochs`` is given a number is found out later."""
    word = given("--epochs", words) or ""
    return int(word) if word.isdecimal() and int(word) else run.epochs


def given(option: str, words: Sequence[str]) -> str | None:
    """The last value of an option among the words, written ``--option value`` or ``--option=value``.

    Raises:
        UsageError: if there is none after it.
    """
    value = None
    for n, word in enumerate(words):
        name, equals, after = word.partition("=")
        if name == option:
            if not equals and n + 1 == len(words):
                raise UsageError(f"{option} needs a value")
            value = after if equals else words[n + 1]
    return value
