"""Recipes on simulated analog hardware: one network, one training budget, one imperfection at a time; nothing is published.

EP, centred EP, C-EP and C-VF learn the 8x8 digits with the same network, phases, batches and epochs. The rates were chosen for each
rule by validation error on ideal hardware; of two equally good rates, the smaller one. C-VF has separate feedback weights at an
initial angle of 0. Its paper draws the sign of beta for every batch; here it is centred, which is the same on average and learns at
this budget, where random signs come close to collapse. The continual rules are `ContinualEP`: every step inside the nudged phase is
a step of the optimizer, so it is rounded like any other.

| imperfection | where | class |
|---|---|---|
| noise | on every unit at every step, in training and in tests | `Noisy` |
| mismatch | of each synapse's feedback, drawn once | `Mismatched` |
| bits | of weights and of updates, by stochastic or nearest rounding | `QuantizedSGD` |

On the command line: ``--model.dynamics.std 0.1``, ``--model.mismatch 0.3``, ``--optimizer quantized --optimizer.weight-bits 5``.
"""

from dataclasses import replace

from eqprop._core.checks import ArgumentError
from eqprop.dynamics.noisy import Noisy
from eqprop.dynamics.prototypical import Prototypical
from eqprop.estimators import ContinualEP, EquilibriumProp
from eqprop.models.mlp import MLP
from eqprop.training.config.optimizers import SGD
from eqprop.training.config.quantized import QuantizedSGD
from eqprop.training.config.run import Data, EstimatorSpec, Run
from eqprop.training.config.schedules import Cosine

__all__ = ["BITS", "MISMATCH", "NOISE", "RECIPES", "with_bits", "with_mismatch", "with_noise"]

NOISE = (0.0, 0.01, 0.02, 0.05, 0.1)
"""Standard deviations of the noise added at a step, in units of an activity; the first is ideal hardware."""

MISMATCH = (0.0, 0.3, 1.0, 3.0, 10.0)
"""Standard deviations of the relative error of a synapse's feedback weight; the first is ideal hardware."""

BITS = (None, 8, 6, 5, 4)
"""Numbers of bits of weights and updates; None is single precision, ideal hardware."""

_T, _K, _BETA = 20, 8, 0.5
_SPAN = 1.0  # the largest weight that few bits can represent


def _on_digits(name: str, estimator: EstimatorSpec, rates: tuple[float, ...], *, tied: bool = True) -> Run:
    # noise of 0, so that `--model.dynamics.std` can set it
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
    return _on_digits("hardware-ep", EquilibriumProp(_T, _K, _BETA), (0.5, 0.25))


def centred() -> Run:
    """EP, centred."""
    return _on_digits("hardware-centred", EquilibriumProp(_T, _K, _BETA, nudging="centred"), (0.5, 0.25))


def cep() -> Run:
    """C-EP: tied weights, updated at every nudged step."""
    return _on_digits("hardware-cep", ContinualEP(_T, _K, _BETA), (0.05,))


def cvf() -> Run:
    """C-VF: as C-EP, centred, with separate feedback weights."""
    return _on_digits("hardware-cvf", ContinualEP(_T, _K, _BETA, nudging="centred"), (0.1,), tied=False)


def with_noise(run: Run, std: float) -> Run:
    """Return the run with Gaussian noise of standard deviation ``std`` on its states at every step.

    >>> with_noise(ep(), 0.1).model.dynamics
    Noisy(dynamics=Prototypical(nudge='inside'), std=0.1)
    """
    dynamics = run.model.dynamics
    bare = dynamics.dynamics if isinstance(dynamics, Noisy) else dynamics
    return replace(run, model=replace(run.model, dynamics=Noisy(bare, std)))


def with_mismatch(run: Run, std: float) -> Run:
    """Return the run with a relative error of standard deviation ``std`` on its feedback weights.

    Raises:
        ArgumentError: if its model is not an MLP.

    >>> with_mismatch(ep(), 0.3).model.mismatch
    0.3
    """
    if not isinstance(run.model, MLP):
        raise ArgumentError("run", f"`run` must have an MLP as its model, got {run.model!r}")
    return replace(run, model=replace(run.model, mismatch=std))


def with_bits(run: Run, bits: int | None) -> Run:
    """Return the run with weights and updates of ``bits`` bits, trained by plain SGD at its rates; None changes nothing.

    >>> with_bits(ep(), 6).optimizer.weight_bits
    6
    """
    if bits is None:
        return run
    return replace(run, optimizer=QuantizedSGD(run.optimizer.rates, bits, bits, _SPAN))


RECIPES = {"hardware-ep": ep, "hardware-centred": centred, "hardware-cep": cep, "hardware-cvf": cvf}
