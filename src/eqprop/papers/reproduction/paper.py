"""What a reproduction of a paper consists of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from eqprop.papers.registry import baseline, recipe
from eqprop.papers.reproduction.studies import Study
from eqprop.report import Table
from eqprop.theorem.experiment import Experiment
from eqprop.training.config.run import Run

__all__ = ["AnglePoint", "Check", "Columns", "ErrorByAngle", "Paper", "Row", "Sweep", "alone", "with_baseline"]


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
class Columns:
    """A picture of several checks side by side.

    Attributes:
        name: of the picture's file.
        caption: what it shows.
        checks: names of experiments by the heads of their columns.
    """

    name: str
    caption: str
    checks: Mapping[str, str]


@dataclass(frozen=True)
class Row:
    """A line of the table of trainings: one recipe by one method.

    Attributes:
        run: the training, of seed 0.
        command: what trains it.
        reduced: whether this is less than was published.
        label: what tells it from other rows of its recipe; its method where left out.
    """

    run: Run
    command: str
    reduced: bool = False
    label: str = ""

    @property
    def by(self) -> str:
        """The label, or the method: "EP", "EP, rates"."""
        return self.label or self.run.method

    @property
    def folder(self) -> str:
        """Where its run folders go: a name that tells it from other rows, and the method."""
        words = self.command.removeprefix("eqprop train ").removesuffix(" --estimator bptt").split()
        return f"{'-'.join(word.removeprefix('--').replace('.', '-') for word in words)}/{self.run.method.lower()}"

    def seed(self, seed: int) -> Run:
        """The same with another seed."""
        return replace(self.run, seed=seed)


@dataclass(frozen=True)
class Sweep:
    """Trainings that differ in one number, and the figure whose axis is that number.

    Attributes:
        name: as the command line and files take it.
        title: of section and picture.
        axis: what the number is.
        text: what is shown, in a paragraph.
        curves: for each label the trainings by their number.
        known: for each label what was published, mean and standard deviation of the test error in percent, by number.
        seeds: how many of each.
    """

    name: str
    title: str
    axis: str
    text: str
    curves: Mapping[str, Mapping[float, Row]]
    known: Mapping[str, Mapping[float, tuple[float, float]]] = field(default_factory=dict)
    seeds: int = 1

    def rows(self) -> list[Row]:
        """Every training."""
        return [row for curve in self.curves.values() for row in curve.values()]


@dataclass(frozen=True)
class AnglePoint:
    """A rule in a figure of errors against angles of first updates.

    Attributes:
        name: of the rule, as the study of angles has it.
        row: its whole training.
        angle: published mean and deviation of the angle, in degrees; None where the deviation is not known.
        error: published mean and deviation of the test error, in percent.
    """

    name: str
    row: Row
    angle: tuple[float, float | None]
    error: tuple[float, float]

    @property
    def rule(self) -> str:
        """The name without the initial angle of the weights: what has one color."""
        return self.name.split(",")[0]


@dataclass(frozen=True)
class ErrorByAngle:
    """A figure of test errors against the angles that a study found.

    Attributes:
        name: as the command line and files take it.
        title: of section and picture.
        text: what is shown, in a paragraph.
        study: name of the study of angles.
        points: a rule each.
    """

    name: str
    title: str
    text: str
    study: str
    points: tuple[AnglePoint, ...]

    def rows(self) -> list[Row]:
        """Every training."""
        return [point.row for point in self.points]


@dataclass(frozen=True)
class Paper:
    """A paper as far as it is to be reproduced.

    Attributes:
        name: as the command line takes it.
        title: authors, year and title.
        claim: what it says, in a paragraph.
        checks: experiments on its theorem.
        rows: lines of its table of trainings.
        quick_checks: names of the checks of a reduced reproduction.
        quick_rows: trainings of a reduced reproduction.
        columns: pictures of several checks.
        sweeps: figures of many trainings.
        studies: computations that train nothing.
        by_angle: figures of errors against angles of first updates.
        quick_studies: computations of a reduced reproduction.
        trainings: what is to be said of the table of trainings, where that is not the usual.
        others: what others published, beside the table.
    """

    name: str
    title: str
    claim: str
    checks: tuple[Check, ...]
    rows: tuple[Row, ...]
    quick_checks: tuple[str, ...]
    quick_rows: tuple[Row, ...] = ()
    columns: tuple[Columns, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    studies: tuple[Study, ...] = ()
    by_angle: tuple[ErrorByAngle, ...] = ()
    quick_studies: tuple[Study, ...] = ()
    trainings: str = ""
    others: Table | None = None

    @property
    def names(self) -> list[str]:
        """Recipes of the table, and figures of trainings: what may be trained by name."""
        figures = (figure.name for figure in (*self.sweeps, *self.by_angle))
        return list(dict.fromkeys([*(row.run.name for row in self.rows), *figures]))

    def figured(self) -> list[Row]:
        """The trainings of all figures."""
        return [row for figure in (*self.sweeps, *self.by_angle) for row in figure.rows()]

    def named(self, name: str, seeds: int) -> list[tuple[Row, int]]:
        """The trainings of a recipe, so many seeds of each, or of a figure, which has its own number of seeds."""
        swept = [(row, sweep.seeds) for sweep in self.sweeps if sweep.name == name for row in sweep.rows()]
        by_angle = [(row, 1) for figure in self.by_angle if figure.name == name for row in figure.rows()]
        return [*((row, seeds) for row in self.rows if row.run.name == name), *swept, *by_angle]


def with_baseline(name: str, epochs: int | None = None) -> tuple[Row, Row]:
    """A recipe by its own method and by BPTT; for fewer epochs, if so many are named."""
    own = alone(name, epochs)
    return own, Row(baseline(own.run), f"{own.command} --estimator bptt", own.reduced)


def alone(name: str, epochs: int | None = None) -> Row:
    """A recipe by its own method; for fewer epochs, if so many are named."""
    whole = recipe(name)
    if epochs is None or epochs == whole.epochs:
        return Row(whole, f"eqprop train {name}")
    return Row(replace(whole, epochs=epochs), f"eqprop train {name} --epochs {epochs}", epochs < whole.epochs)
