"""The parts of a paper that a reproduction repeats: theorem checks, trainings, figures and studies."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from eqprop.papers.published_results import baseline
from eqprop.papers.registry import recipe
from eqprop.papers.reproduction.studies import Study
from eqprop.report import Table
from eqprop.theorem.experiment import Experiment
from eqprop.training.config.run import Run

__all__ = ["AnglePoint", "Check", "CheckFigure", "ErrorByAngle", "Paper", "Row", "Sweep", "recipe_row", "recipe_rows"]


@dataclass(frozen=True)
class Check:
    """A theorem experiment.

    Attributes:
        experiment: the experiment.
        place: figure of the paper; "–" if the experiment is not in the paper.
        betas: further nudging strengths at which the error is measured.
    """

    experiment: Experiment
    place: str
    betas: tuple[float, ...] = ()


@dataclass(frozen=True)
class CheckFigure:
    """A figure with one column for each of several checks.

    Attributes:
        name: name of the image files.
        caption: caption.
        checks: names of the experiments by column title.
    """

    name: str
    caption: str
    checks: Mapping[str, str]


@dataclass(frozen=True)
class Row:
    """A row of the table of trainings: one recipe trained by one method.

    Attributes:
        run: the training, with seed 0.
        command: the command that trains it.
        reduced: whether it trains less than was published.
        label: label that distinguishes rows of one recipe; the method by default.
    """

    run: Run
    command: str
    reduced: bool = False
    label: str = ""

    @property
    def method(self) -> str:
        """The label, or the training method if there is none: "EP", "EP, rates"."""
        return self.label or self.run.method

    @property
    def folder(self) -> str:
        """Relative path for the run folders, different for every row."""
        words = self.command.removeprefix("eqprop train ").removesuffix(" --estimator bptt").split()
        return f"{'-'.join(word.removeprefix('--').replace('.', '-') for word in words)}/{self.run.method.lower()}"

    def with_seed(self, seed: int) -> Run:
        """Return the training with another seed."""
        return replace(self.run, seed=seed)


@dataclass(frozen=True)
class Sweep:
    """A figure of test errors over one varied number.

    Attributes:
        name: name on the command line and of the image files.
        title: title of section and figure.
        axis: label of the horizontal axis.
        text: explanation, in one paragraph.
        curves: for each label, the trainings by the varied number.
        published: for each label, published mean and standard deviation of the test error in percent, by the varied number.
        seeds: number of seeds of each training.
    """

    name: str
    title: str
    axis: str
    text: str
    curves: Mapping[str, Mapping[float, Row]]
    published: Mapping[str, Mapping[float, tuple[float, float]]] = field(default_factory=dict)
    seeds: int = 1

    def rows(self) -> list[Row]:
        """Return all trainings."""
        return [row for curve in self.curves.values() for row in curve.values()]


@dataclass(frozen=True)
class AnglePoint:
    """A point of a figure of test errors over the angle of the first update to BPTT's gradient.

    Attributes:
        name: name of the rule in the study of angles; after a comma, the initial angle of the weights.
        row: the training.
        angle: published mean and standard deviation of the angle, in degrees; the latter None if unknown.
        error: published mean and standard deviation of the test error, in percent.
    """

    name: str
    row: Row
    angle: tuple[float, float | None]
    error: tuple[float, float]

    @property
    def rule(self) -> str:
        """The name without the initial angle; points of one rule share a color."""
        return self.name.split(",")[0]


@dataclass(frozen=True)
class ErrorByAngle:
    """A figure of test errors over the angles that a study found; one seed of each training.

    Attributes:
        name: name on the command line and of the image files.
        title: title of section and figure.
        text: explanation, in one paragraph.
        study: name of the study of angles.
        points: the points.
    """

    name: str
    title: str
    text: str
    study: str
    points: tuple[AnglePoint, ...]
    seeds: int = 1

    def rows(self) -> list[Row]:
        """Return all trainings."""
        return [point.row for point in self.points]


@dataclass(frozen=True)
class Paper:
    """A paper and what is to be reproduced of it.

    Attributes:
        name: name on the command line.
        title: authors, year and title.
        claim: what the paper claims, in one paragraph.
        checks: experiments on its theorem.
        rows: rows of its table of trainings.
        quick_checks: names of the experiments of the quick version.
        quick_rows: trainings of the quick version.
        check_figures: figures of several checks.
        sweeps: figures of trainings over one varied number.
        studies: computations that are neither checks nor trainings.
        angle_figures: figures of test errors over angles of first updates.
        quick_studies: studies of the quick version; `studies` if empty.
        training_text: text above the table of trainings; a default if empty.
        other_results: table of errors published by others.
    """

    name: str
    title: str
    claim: str
    checks: tuple[Check, ...]
    rows: tuple[Row, ...]
    quick_checks: tuple[str, ...]
    quick_rows: tuple[Row, ...] = ()
    check_figures: tuple[CheckFigure, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    studies: tuple[Study, ...] = ()
    angle_figures: tuple[ErrorByAngle, ...] = ()
    quick_studies: tuple[Study, ...] = ()
    training_text: str = ""
    other_results: Table | None = None

    @property
    def training_figures(self) -> tuple[Sweep | ErrorByAngle, ...]:
        """The figures for which networks are trained."""
        return (*self.sweeps, *self.angle_figures)

    @property
    def trainable_names(self) -> list[str]:
        """What ``--train`` takes: recipes of the table and names of figures."""
        return list(dict.fromkeys([*(row.run.name for row in self.rows), *(f.name for f in self.training_figures)]))

    def figure_rows(self) -> list[Row]:
        """Return the trainings of all figures."""
        return [row for figure in self.training_figures for row in figure.rows()]

    def rows_named(self, name: str, seeds: int) -> list[tuple[Row, int]]:
        """Return the trainings of a recipe or of a figure, with the number of seeds.

        ``seeds`` applies to recipes only: a figure has its own number of seeds.
        """
        figures = [(row, f.seeds) for f in self.training_figures if f.name == name for row in f.rows()]
        return [*((row, seeds) for row in self.rows if row.run.name == name), *figures]


def recipe_row(name: str, epochs: int | None = None) -> Row:
    """Return the row of a recipe trained by its own method, with another number of epochs if given."""
    run = recipe(name)
    if epochs is None or epochs == run.epochs:
        return Row(run, f"eqprop train {name}")
    return Row(replace(run, epochs=epochs), f"eqprop train {name} --epochs {epochs}", epochs < run.epochs)


def recipe_rows(name: str, epochs: int | None = None) -> tuple[Row, Row]:
    """Return the rows of a recipe trained by its own method and by BPTT, with another number of epochs if given."""
    own = recipe_row(name, epochs)
    return own, Row(baseline(own.run), f"{own.command} --estimator bptt", own.reduced)
