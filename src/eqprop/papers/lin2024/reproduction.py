"""Lin, Bal and Sengupta (2024): EP in convolutional networks of spiking units; where they settle, gradients, memory, trainings."""

from dataclasses import replace

from eqprop.dynamics.energy import EnergyDescent
from eqprop.estimators import EquilibriumProp
from eqprop.estimators.rates import as_rates
from eqprop.papers.lin2024.rate_training import Variant, of_mnist
from eqprop.papers.lin2024.recipes import OTHERS
from eqprop.papers.lin2024.spiking_alignment import SpikingAlignment
from eqprop.papers.lin2024.spiking_settling import SpikingSettling
from eqprop.papers.lin2024.training_memory import TrainingMemory
from eqprop.papers.registry import baseline, recipe, surrogate
from eqprop.papers.reproduction.paper import Paper, Row
from eqprop.report import Table
from eqprop.solvers.settle import Settle
from eqprop.spiking import OSA, Bernoulli, Decay, Spiking
from eqprop.training.config.run import Run

__all__ = ["LIN2024", "rows_of"]

AVERAGE, ON_SPIKES, DECODED, BERNOULLI = (
    "average pooling",
    "max, on spikes",
    "max, decoded",
    "average, Bernoulli spikes",
)

SLOW = Decay(1.0, 0.75)
"""The decoder's lambda that comes nearest to the steady state."""


def pooled(lam: float | Decay) -> dict[str, Variant]:
    """The ways to pool spikes, and spikes by chance."""
    return {
        AVERAGE: Variant("avg", Spiking(lam=lam)),
        ON_SPIKES: Variant("max", Spiking(lam=lam)),
        DECODED: Variant("max", Spiking(lam=lam, decode="before")),
        BERNOULLI: Variant("avg", Spiking(lam=lam, coder=Bernoulli())),
    }


STEP_SIZES = {
    "λ 1 (no decoder), ε 1/2": Spiking(lam=1.0),
    "λ 0.2, ε 1/2": Spiking(lam=0.2),
    "λ 0.1, ε 1/2": Spiking(lam=0.1),
    "λ 0.275, ε by OSA": Spiking(lam=0.275, eps=OSA(0.0346)),
    "λ 0.892/t^0.556, ε 0.758/t^0.055": Spiking(lam=Decay(0.892, 0.556), eps=Decay(0.758, 0.055)),
    "λ 1/t^0.75, ε 1/2": Spiking(lam=SLOW),
    "λ 1/t, ε 1/2": Spiking(lam=Decay(1.0, 1.0)),
}
"""With average pooling; the fourth and fifth are found by search by O'Connor et al. (2019, their code)."""


def phases(T: int, K: int, beta: float) -> EquilibriumProp:
    """Centred, averaged over the last quarter of the nudged phases."""
    return EquilibriumProp(T, Settle(K, average=K // 4), beta, "centred")


def studies() -> tuple[SpikingSettling, SpikingAlignment, TrainingMemory]:
    """On MNIST."""
    trainings = {pool: of_mnist(pool) for pool in ("avg", "max")}
    steps = {label: Variant("avg", dynamics) for label, dynamics in STEP_SIZES.items()}
    return (
        SpikingSettling(trainings, {"pooling, λ 1/t^0.75": pooled(SLOW), "step sizes, average pooling": steps}),
        SpikingAlignment(trainings, pooled(0.2), phases(100, 50, 0.5)),
        TrainingMemory(recipe("spiking-mnist")),
    )


def quick_studies() -> tuple[SpikingSettling, SpikingAlignment]:
    """Less of each: after fewer batches of training, on fewer images."""
    trainings = {pool: of_mnist(pool, 80) for pool in ("avg", "max")}
    return (
        SpikingSettling(trainings, {"pooling, λ 1/t^0.75": pooled(SLOW)}, (5, 10, 25, 50, 100, 200), images=10),
        SpikingAlignment(trainings, pooled(0.2), phases(100, 50, 0.5), batches=1, size=20),
    )


def rows_of(name: str) -> tuple[Row, ...]:
    """A recipe, its rate twin, that by BPTT, and the spiking network by BPTT through its spikes."""
    run, command = recipe(name), f"eqprop train {name}"
    twin = rates(run)
    return (
        Row(run, command, label="EP, spikes"),
        Row(twin, f"{command} --dynamics energy", label="EP, rates"),
        Row(baseline(twin), f"{command} --dynamics energy --estimator bptt", label="BPTT, rates"),
        through_spikes(run, command),
    )


def through_spikes(run: Run, command: str) -> Row:
    """By BPTT through its spikes, at a tenth of the rates: the gradient grows from tick to tick, and at EP's rates diverges."""
    rates = tuple(rate / 10 for rate in as_rates(run.optimizer.rates))
    slow = replace(surrogate(run), optimizer=replace(run.optimizer, rates=rates))
    options = f"--estimator surrogate-bptt --optimizer.rates {' '.join(f'{rate:g}' for rate in rates)}"
    return Row(slow, f"{command} {options}", label="BPTT through spikes")


def rates(run: Run) -> Run:
    """The rate twin of a spiking run."""
    twin = run.model.dynamics.differentiable_equivalent()
    assert isinstance(twin, EnergyDescent)
    return replace(run, model=replace(run.model, dynamics=twin))


LIN2024 = Paper(
    "lin2024",
    "Lin, Bal, Sengupta 2024: Scaling SNNs Trained Using Equilibrium Propagation to Convolutional Architectures",
    "Convolutional networks whose units exchange binary spikes can be trained by EP: with average pooling, since max "
    "pooling and its way back do not match between spikes, and make EP's gradient wrong. Such a network comes near its "
    "real-valued twin in accuracy, and its training needs less memory than BPTT.",
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
        for row in rows_of(name)
    ),
    quick_checks=(),
    quick_rows=rows_of("spiking-digits")[:2],
    studies=studies(),
    quick_studies=quick_studies(),
    trainings="Errors in percent after the last epoch, mean ± standard deviation over seeds; last five: mean of the test "
    "errors after the last five epochs. Of the paper its abstract and first page were at hand: the architecture by name "
    "(2C2FC), average pooling, the centred estimator, and the two test errors. Its widths, step sizes, phases, beta, rates "
    "and epochs are not known; those of the recipes are this library's. *Spikes* exchange bits, T and K in ticks; *rates* "
    "are the real-valued twin with as many Euler steps of the same size; *BPTT through spikes* gives each threshold the "
    "slope of an arctangent, and learns at a tenth of the rates, since its gradient grows from tick to tick; BPTT goes back over "
    "the last K + 1 steps. `-small` recipes have 8 and 16 channels, "
    "64 and 10 units, and three epochs, for two cores: nothing was published of them.",
    others=Table(
        ("others, MNIST, by EP", "network", "test error", "source"),
        [[work, network, f"{error:.2f} %", source] for work, network, error, source in OTHERS],
    ),
)
