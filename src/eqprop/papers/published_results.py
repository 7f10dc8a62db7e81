"""Published figures as data, and what a paper compares a recipe with."""

from dataclasses import dataclass, replace
from typing import Literal

from eqprop.estimators import BPTT
from eqprop.training.config.run import Run

__all__ = ["Published", "PublishedAngle", "baseline", "surrogate"]


@dataclass(frozen=True)
class Published:
    """One line of a paper's table, in percent.

    Attributes:
        recipe: the recipe's name.
        method: `Run.method`: "EP", "C-EP", "VF", "C-VF" or "BPTT".
        test: mean test error.
        spread: standard deviation of the test error over runs, if given.
        train: mean training error, if given.
        source: paper and table.
        remark: what the figure leaves open.
        angle: initial angle between forward and feedback weights, in degrees.
        recalled: True while the number was not checked against the paper itself; it is shown with that remark.
    """

    recipe: str
    method: Literal["EP", "C-EP", "VF", "C-VF", "BPTT"]
    test: float
    spread: float | None
    train: float | None
    source: str
    remark: str = ""
    angle: float = 0.0
    recalled: bool = True

    @property
    def text(self) -> str:
        """The test error as a table has it, in percent."""
        return f"{self.test:.2f}" if self.spread is None else f"{self.test:.2f} ± {self.spread:.2f}"


@dataclass(frozen=True)
class PublishedAngle:
    """The angle of a rule's first update of the weights to BPTT's gradient, t = 0 left out of both, in degrees.

    Attributes:
        recipe: name of the recipe of the rule's training.
        mean: over runs.
        spread: standard deviation over runs, where its bar could be read.
        source: paper and figure, off which it was read.
        remark: what the figure leaves open.
        angle: initial angle between forward and feedback weights, in degrees.
    """

    recipe: str
    mean: float
    spread: float | None
    source: str
    remark: str = ""
    angle: float = 0.0


def baseline(run: Run) -> Run:
    """The same run by BPTT over the last K + 1 steps of the free phase, as the paper's code does for dense networks.

    Raises:
        ValueError: if the run's estimator has no nudged phase to take K from.
    """
    estimator = run.estimator
    if not estimator.nudges:
        raise ValueError(f"the baseline of a run by {type(estimator).__name__} is not defined: start from one by EP")
    free, nudged = estimator.phases.values()
    return replace(run, estimator=BPTT(estimator.free_steps, min(nudged.steps + 1, free.steps)))


def surrogate(run: Run) -> Run:
    """The same run by BPTT through its spikes, over as many last ticks as its `baseline`.

    Raises:
        ValueError: as `baseline`.
    """
    return replace(run, estimator=replace(baseline(run).estimator, surrogate=True))
