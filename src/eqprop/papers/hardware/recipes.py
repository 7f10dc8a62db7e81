"""What analog hardware would do to each rule: trainings of one network at one budget, made worse in one respect at a time.

EP, centred EP, C-EP and C-VF learn the 8x8 digits with the same network, phases, batches and epochs; the rates are each rule's
own, by validation error on ideal hardware, the smaller of two that are as good. C-VF has feedback weights of its own, at angle 0.
Its paper draws the sign of beta for every batch; here it is centred, which is the same on average and, at this budget, learns where
random signs hover at the brink of collapse. The continual rules are `ContinualEP`, whose every step inside the phase is the
optimizer's, so that it is rounded.

    noise       on every unit, at every step, in training and in tests         `Noisy`
    mismatch    of each synapse's feedback, drawn once                         `Mismatched`
    bits        of weights and of updates, both by random or nearest level     `QuantizedSGD`

On the command line: ``--model.dynamics.std 0.1``, ``--model.mismatch 0.3``, ``--optimizer quantized --optimizer.weight-bits 5``.
Nothing of it is published elsewhere.
"""

from dataclasses import replace

from eqprop.dynamics.noisy import Noisy
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import ContinualEP, EquilibriumProp
from eqprop.models.mlp import MLP
from eqprop.training.config.optimizers import SGD
from eqprop.training.config.quantized import QuantizedSGD
from eqprop.training.config.run import Data, EstimatorSpec, Run
from eqprop.training.config.schedules import Cosine

__all__ = ["BITS", "MISMATCH", "NOISE", "centred", "cep", "cvf", "ep", "with_bits", "with_mismatch", "with_noise"]

NOISE = (0.0, 0.01, 0.02, 0.05, 0.1)
"""Standard deviations of what a step adds, in units of an activity, from the ideal on."""

MISMATCH = (0.0, 0.3, 1.0, 3.0, 10.0)
"""Standard deviations of the relative deviations, from the ideal on."""

BITS = (None, 8, 6, 5, 4)
"""Bits of weights and of updates, from the ideal, single precision, on."""

T, K, BETA = 20, 8, 0.5
"""Phases and nudging strength of every rule."""

SPAN = 1.0
"""The largest weight of few bits."""


def on_digits(name: str, estimator: EstimatorSpec, rates: tuple[float, ...], *, tied: bool = True) -> Run:
    """64-128-10, prototypical and nudged inside, on hardware that is ideal until it is told otherwise."""
    dynamics = Noisy(Prototypical(nudge="inside"), std=0.0)
    return Run(
        name=name,
        data=Data("digits", batch_size=20),
        model=MLP((64, 128, 10), "sigmoid", dynamics=dynamics, tied=tied),
        estimator=estimator,
        optimizer=SGD(rates),
        schedule=Cosine(),
        epochs=20,
    )


def ep() -> Run:
    """EP, one-sided."""
    return on_digits("hardware-ep", EquilibriumProp(T, K, BETA), (0.5, 0.25))


def centred() -> Run:
    """EP, centred."""
    return on_digits("hardware-centred", EquilibriumProp(T, K, BETA, nudging="centred"), (0.5, 0.25))


def cep() -> Run:
    """C-EP: tied weights that move at every nudged step."""
    return on_digits("hardware-cep", ContinualEP(T, K, BETA), (0.05,))


def cvf() -> Run:
    """C-VF: the same with feedback weights of their own."""
    return on_digits("hardware-cvf", ContinualEP(T, K, BETA, nudging="centred"), (0.1,), tied=False)


def with_noise(run: Run, std: float) -> Run:
    """The run with that noise on its states.

    >>> with_noise(ep(), 0.1).model.dynamics
    Noisy(dynamics=Prototypical(nudge='inside'), std=0.1)
    """
    dynamics = run.model.dynamics
    bare = dynamics.dynamics if isinstance(dynamics, Noisy) else dynamics
    return replace(run, model=replace(run.model, dynamics=Noisy(bare, std)))


def with_mismatch(run: Run, std: float) -> Run:
    """The run with that mismatch of its feedback.

    Raises:
        ValueError: if its model has none.

    >>> with_mismatch(ep(), 0.3).model.mismatch
    0.3
    """
    if not isinstance(run.model, MLP):
        raise ValueError(f"`run` must have an MLP for a model, got {run.model!r}")
    return replace(run, model=replace(run.model, mismatch=std))


def with_bits(run: Run, bits: int | None) -> Run:
    """The run with weights and updates of so many bits, by plain SGD at its rates; None leaves it as it is.

    >>> with_bits(ep(), 6).optimizer.weight_bits
    6
    """
    if bits is None:
        return run
    return replace(run, optimizer=QuantizedSGD(run.optimizer.rates, bits, bits, SPAN))
