"""Replace a part of a run by one of another class: ``--estimator bptt``, ``--optimizer adam``, ``--schedule cosine``.

This happens before the options are parsed, since the class of a part decides which options it has.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from typing import Literal

from eqprop.cli.errors import UsageError, unknown
from eqprop.dynamics.base import Dynamics
from eqprop.dynamics.energy import EnergyDescent
from eqprop.dynamics.noisy import Noisy
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import ContinualEP, ContinualSGD, EquilibriumProp, ImplicitDiff, NudgedEstimator
from eqprop.models.toy import Toy
from eqprop.papers.published_results import baseline, surrogate_baseline
from eqprop.solvers.settle import as_settle
from eqprop.spiking import Spiking
from eqprop.theorem.experiment import synchronous_equivalent
from eqprop.training.config.optimizers import SGD, Adam, AdamW
from eqprop.training.config.quantized import QuantizedSGD
from eqprop.training.config.run import Run
from eqprop.training.config.schedules import Constant, Cosine, StepDecay

__all__ = ["DynamicsName", "EstimatorName", "OptimizerName", "ScheduleName", "apply_overrides"]

DynamicsName = Literal["prototypical", "energy", "spiking"]
EstimatorName = Literal["ep", "continual-ep", "continual-sgd", "bptt", "surrogate-bptt", "implicit"]
OptimizerName = Literal["sgd", "adam", "adamw", "quantized"]
ScheduleName = Literal["constant", "cosine", "step"]

PARTS: dict[str, dict[str, Callable[[Run], Run]]] = {
    "dynamics": {
        "prototypical": lambda run: _with_dynamics(run, Prototypical()),
        "energy": lambda run: _with_dynamics(run, EnergyDescent()),
        "spiking": lambda run: _with_dynamics(run, Spiking()),
    },
    "estimator": {
        "ep": lambda run: _with_nudging(run, EquilibriumProp),
        "continual-ep": lambda run: _with_nudging(run, ContinualEP),
        "continual-sgd": lambda run: _with_nudging(run, ContinualSGD),
        "bptt": baseline,
        "surrogate-bptt": surrogate_baseline,
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
"""By part and word, the function that replaces the part in a run."""


def apply_overrides(run: Run, words: Sequence[str], parts: Sequence[str] = tuple(PARTS)) -> Run:
    """Return the run with those parts replaced that the words name.

    Raises:
        UsageError: if a word names no class of its part.
    """
    for part in parts:
        word, choices = _last_value(f"--{part}", words), PARTS[part]
        if word is not None:
            if word not in choices:
                raise unknown(f"--{part}", word, list(choices), f"must be one of {', '.join(choices)}")
            # a schedule depends on the number of epochs, which the words may set too
            run = replace(choices[word](replace(run, epochs=_epochs(run, words))), epochs=run.epochs)
    return run


def _with_dynamics(run: Run, dynamics: Dynamics) -> Run:
    """Return the run with other dynamics, and the same noise.

    Dynamics of the class that the run has keep their settings. A spiking run by energy gets its differentiable equivalent.
    """
    if isinstance(run.model, Toy):
        return run
    current = run.model.dynamics
    inner = current.dynamics if isinstance(current, Noisy) else current
    known = (inner, inner.differentiable_equivalent())
    dynamics = next((one for one in known if type(one) is type(dynamics)), dynamics)
    new = replace(current, dynamics=dynamics) if isinstance(current, Noisy) else dynamics
    return replace(run, model=replace(run.model, dynamics=new))


def _with_nudging(run: Run, kind: type[EquilibriumProp | ContinualEP | ContinualSGD]) -> Run:
    """Return the run with another estimator that nudges, and the same T, K, beta and nudging."""
    current = run.estimator
    if not isinstance(current, NudgedEstimator) or type(current) is kind:
        return run
    nudged = as_settle("nudged_steps", synchronous_equivalent(current.nudged_steps)).steps
    return replace(run, estimator=kind(current.free_steps, nudged, current.beta, nudging=current.nudging))


def _epochs(run: Run, words: Sequence[str]) -> int:
    """Return the number of epochs that the words ask for; a value that is not a number is reported by the parser, later."""
    word = _last_value("--epochs", words) or ""
    return int(word) if word.isdecimal() and int(word) else run.epochs


def _last_value(option: str, words: Sequence[str]) -> str | None:
    """Return the last value of an option, written ``--option value`` or ``--option=value``.

    Raises:
        UsageError: if there is no word after it.
    """
    value = None
    for n, word in enumerate(words):
        name, equals, after = word.partition("=")
        if name == option:
            if not equals and n + 1 == len(words):
                raise UsageError(f"{option} needs a value")
            value = after if equals else words[n + 1]
    return value
