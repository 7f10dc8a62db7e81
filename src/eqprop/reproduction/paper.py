"""What a reproduction of a paper consists of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from eqprop.recipes import baseline, experiment, recipe
from eqprop.theorem.experiment import Experiment
from eqprop.training.run import Run

__all__ = ["PAPERS", "Check", "Paper", "Row"]


@dataclass(frozen=True)
class Check:
    """An experiment on the theorem, and where it stands in the paper.

    Attributes:
        experiment: what is done.
        place: figure of the paper.
        betas: further nudging strengths.
    """

    experiment: Experiment
    place: str
    betas: tuple[float, ...] = ()


@dataclass(frozen=True)
class Row:
    """A line of the table of trainings: one recipe by one method.

    Attributes:
        run: the training, of seed 0.
        command: what trains it.
        reduced: whether this is less than was published.
    """

    run: Run
    command: str
    reduced: bool = False

    def seed(self, seed: int) -> Run:
        """The same with another seed."""
        return replace(self.run, seed=seed)


@dataclass(frozen=True)
class Paper:
    """A paper as far as it is to be reproduced.

    Attributes:
        name: as the command line takes it.
        title: authors, year and title.
        claim: what it says, in a paragraph.
        checks: experiments on its theorem.
        trainings: recipes of its table of trainings.
        quick_checks: names of the checks of a reduced reproduction.
        quick_trainings: recipes that it trains, and for how many epochs.
    """

    name: str
    title: str
    claim: str
    checks: tuple[Check, ...]
    trainings: tuple[str, ...]
    quick_checks: tuple[str, ...]
    quick_trainings: Mapping[str, int] = field(default_factory=dict)

    def rows(self) -> list[Row]:
        """Every line of the table, EP and BPTT in turn."""
        return [row for name in self.trainings for row in pair(name)]

    def quick_rows(self) -> list[Row]:
        """The lines that a reduced reproduction trains."""
        return [row for name, epochs in self.quick_trainings.items() for row in pair(name, epochs)]


def pair(name: str, epochs: int | None = None) -> list[Row]:
    """A recipe by EP and by BPTT; for fewer epochs, if so many are named."""
    whole = recipe(name)
    run, reduced = (whole, False) if epochs is None else (replace(whole, epochs=epochs), epochs < whole.epochs)
    words = f"eqprop train {name}" + f" --epochs {epochs}" * reduced
    return [Row(run, words, reduced), Row(baseline(run), f"{words} --estimator bptt", reduced)]


BETAS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)

ERNOULT2019 = Paper(
    "ernoult2019",
    "Ernoult, Grollier, Querlioz, Bengio, Scellier 2019: Updates of Equilibrium Prop Match Gradients of Backprop Through Time "
    "in an RNN with Static Input",
    "In a convergent network at its steady state the increments of Equilibrium Propagation (EP) at step t of the nudged phase "
    "equal minus the gradients that Backpropagation Through Time (BPTT) finds at step T - t of the free phase, for every "
    "neuron and every weight, as the nudging strength beta goes to 0; and networks trained by the one come out as networks "
    "trained by the other.",
    (
        Check(experiment("toy"), "Fig. 2"),
        *(
            Check(experiment(name), place)
            for name, place in {
                "eb-1h": "Figs. 3, 8",
                "eb-2h": "Figs. 3, 9",
                "eb-3h": "Figs. 3, 10",
                "p-1h": "Figs. 3, 11",
                "p-2h": "Figs. 3, 12",
                "p-3h": "Figs. 3, 13",
            }.items()
        ),
        Check(experiment("toy-exact"), "–", BETAS),
        Check(experiment("eb-1h-exact"), "–", BETAS),
        Check(experiment("p-1h-exact"), "–", BETAS),
    ),
    ("eb-1h", "eb-2h", "p-1h", "p-2h", "p-3h"),
    ("toy", "eb-1h", "p-1h", "toy-exact", "p-1h-exact"),
    {"digits": 20, "p-1h": 2},
)

PAPERS = {ERNOULT2019.name: ERNOULT2019}
"""Every paper that ``eqprop reproduce`` knows."""
