"""Reproduction of Lin, Bal and Sengupta (2024): EP in spiking convolutional networks; settling, gradients, memory, trainings."""

from dataclasses import replace

from eqprop.dynamics.energy import EnergyDescent
from eqprop.estimators import EquilibriumProp
from eqprop.estimators.rates import as_rates
from eqprop.papers.lin2024.recipes import OTHERS
from eqprop.papers.lin2024.spiking_alignment import SpikingAlignment
from eqprop.papers.lin2024.spiking_settling import SpikingSettling
from eqprop.papers.lin2024.spiking_studies import Variant, mnist_training
from eqprop.papers.lin2024.training_memory import TrainingMemory
from eqprop.papers.published_results import baseline, surrogate_baseline
from eqprop.papers.registry import recipe
from eqprop.papers.reproduction.paper import Paper, Row
from eqprop.papers.reproduction.studies import Study
from eqprop.report import Table
from eqprop.solvers.settle import Settle
from eqprop.spiking import OSA, Bernoulli, Decay, Spiking
from eqprop.training.config.run import Run

__all__ = ["LIN2024", "centred_phases", "spiking_rows"]

_SLOW = Decay(1.0, 0.75)  # the decay of the decoder's lambda that comes closest to the steady state

_STEP_SIZES = {
    "λ 1 (no decoder), ε 1/2": Spiking(lam=1.0),
    "λ 0.2, ε 1/2": Spiking(lam=0.2),
    "λ 0.1, ε 1/2": Spiking(lam=0.1),
    "λ 0.275, ε by OSA": Spiking(lam=0.275, eps=OSA(0.0346)),
    "λ 0.892/t^0.556, ε 0.758/t^0.055": Spiking(lam=Decay(0.892, 0.556), eps=Decay(0.758, 0.055)),
    "λ 1/t^0.75, ε 1/2": Spiking(lam=_SLOW),
    "λ 1/t, ε 1/2": Spiking(lam=Decay(1.0, 1.0)),
}
"""Step sizes, for average pooling; the fourth and the fifth were found by O'Connor et al. (2019, their code)."""


def _poolings(lam: float | Decay) -> dict[str, Variant]:
    return {
        "average pooling": Variant("avg", Spiking(lam=lam)),
        "max, on spikes": Variant("max", Spiking(lam=lam)),
        "max, decoded": Variant("max", Spiking(lam=lam, decode="before")),
        "average, Bernoulli spikes": Variant("avg", Spiking(lam=lam, coder=Bernoulli())),
    }


def centred_phases(T: int, K: int, beta: float) -> EquilibriumProp:
    """Return centred EP with nudged phases averaged over their last quarter."""
    return EquilibriumProp(T, Settle(K, average=K // 4), beta, "centred")


def _studies() -> tuple[Study, ...]:
    trainings = {pool: mnist_training(pool) for pool in ("avg", "max")}
    step_sizes = {label: Variant("avg", dynamics) for label, dynamics in _STEP_SIZES.items()}
    panels = {"pooling, λ 1/t^0.75": _poolings(_SLOW), "step sizes, average pooling": step_sizes}
    return (
        SpikingSettling(trainings, panels),
        SpikingAlignment(trainings, _poolings(0.2), centred_phases(100, 50, 0.5)),
        TrainingMemory(recipe("spiking-mnist")),
    )


def _quick_studies() -> tuple[Study, ...]:
    trainings = {pool: mnist_training(pool, 80) for pool in ("avg", "max")}
    return (
        SpikingSettling(trainings, {"pooling, λ 1/t^0.75": _poolings(_SLOW)}, (5, 10, 25, 50, 100, 200), images=10),
        SpikingAlignment(trainings, _poolings(0.2), centred_phases(100, 50, 0.5), batches=1, size=20),
    )


def spiking_rows(name: str) -> tuple[Row, ...]:
    """Return the rows of a spiking recipe: EP and BPTT, of the spiking network and of its rate model."""
    run, command = recipe(name), f"eqprop train {name}"
    rates = _rate_run(run)
    return (
        Row(run, command, label="EP, spikes"),
        Row(rates, f"{command} --dynamics energy", label="EP, rates"),
        Row(baseline(rates), f"{command} --dynamics energy --estimator bptt", label="BPTT, rates"),
        _surrogate_row(run, command),
    )


def _surrogate_row(run: Run, command: str) -> Row:
    # A tenth of EP's learning rates: the surrogate gradient grows from tick to tick, and training diverges at EP's rates.
    rates = tuple(rate / 10 for rate in as_rates(run.optimizer.rates))
    slow = replace(surrogate_baseline(run), optimizer=replace(run.optimizer, rates=rates))
    options = f"--estimator surrogate-bptt --optimizer.rates {' '.join(f'{rate:g}' for rate in rates)}"
    return Row(slow, f"{command} {options}", label="BPTT through spikes")


def _rate_run(run: Run) -> Run:
    dynamics = run.model.dynamics.differentiable_equivalent()
    assert isinstance(dynamics, EnergyDescent)
    return replace(run, model=replace(run.model, dynamics=dynamics))


LIN2024 = Paper(
    "lin2024",
    "Lin, Bal, Sengupta 2024: Scaling SNNs Trained Using Equilibrium Propagation to Convolutional Architectures",
    "Convolutional networks whose units exchange binary spikes can be trained by EP with average pooling. Max pooling and its "
    "backward pass do not match between spikes, which makes EP's gradient wrong. The error is close to that of the same network "
    "with real values, and training needs less memory than BPTT.",
    checks=(),
    rows=tuple(
        row
        for name in (
            "spiking-mnist",
            "spiking-fashion",
            "spiking-dense",
            "spiking-mnist-small",
            "spiking-fashion-small",
        )
        for row in spiking_rows(name)
    ),
    quick_checks=(),
    quick_rows=spiking_rows("spiking-digits")[:2],
    studies=_studies(),
    quick_studies=_quick_studies(),
    training_text="Errors are in percent after the last epoch, mean ± standard deviation over seeds; “last five epochs” is the "
    "mean of the test errors after each of the last five epochs. Only abstract and first page of the paper were available: the "
    "architecture by name (2C2FC), average pooling, the centred estimator, and the two test errors. Layer sizes, step "
    "sizes, phases, beta, learning rates and epochs were not, and those of the recipes are choices of this library. *Spikes*: "
    "units exchange bits, T and K are in ticks. *Rates*: the rate model, with real values and as many Euler steps of the same "
    "size. *BPTT* goes back over the last K + 1 steps. *BPTT through spikes* replaces the slope of each threshold by that of an "
    "arctangent and uses a tenth of the learning rates, because its gradient grows from tick to tick. `-small` recipes are for two "
    "cores: 8 and 16 channels, 64 and 10 units, three epochs; nothing was published for them.",
    other_results=Table(
        ("other networks trained by EP on MNIST", "network", "test error", "source"),
        [[work, network, f"{error:.2f} %", source] for work, network, error, source in OTHERS],
    ),
)
