"""Published errors and angles as data, and the BPTT baselines that the papers compare a recipe with."""

from dataclasses import dataclass, replace
from typing import Literal

from eqprop._core.checks import ArgumentError
from eqprop.estimators import BPTT
from eqprop.training.config.run import Run

__all__ = ["Published", "PublishedAngle", "baseline", "surrogate_baseline"]


@dataclass(frozen=True)
class Published:
    """Errors of one line of a published table, in percent.

    Attributes:
        recipe: name of the recipe that repeats the training.
        method: training method, as in `Run.method`.
        test: mean test error.
        spread: standard deviation of the test error over runs; None if not given.
        train: mean training error; None if not given.
        source: paper and table.
        remark: known difference between the published setting and the recipe.
        angle: initial angle between forward and feedback weights, in degrees.
        recalled: whether the numbers were written down from memory and not yet checked against the paper.
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
        """The test error as shown in tables, in percent: ``"2.00 ± 0.13"``."""
        return f"{self.test:.2f}" if self.spread is None else f"{self.test:.2f} ± {self.spread:.2f}"


@dataclass(frozen=True)
class PublishedAngle:
    """Angle between a rule's first weight update and BPTT's gradient, both without t = 0, in degrees.

    Attributes:
        recipe: name of the recipe that trains by this rule.
        mean: mean over runs.
        spread: standard deviation over runs; None where the error bar could not be read.
        source: paper and figure from which the angle was read.
        remark: known uncertainty of the reading.
        angle: initial angle between forward and feedback weights, in degrees.
    """

    recipe: str
    mean: float
    spread: float | None
    source: str
    remark: str = ""
    angle: float = 0.0


def baseline(run: Run) -> Run:
    """Return the same run trained by BPTT over the last K + 1 steps of the free phase.

    This is the baseline of Ernoult et al. (2019) for dense networks. K is the number of nudged steps of the run's estimator.

    Raises:
        ArgumentError: if the run's estimator has no nudged phase.
    """
    estimator = run.estimator
    if not estimator.nudges:
        raise ArgumentError(
            "run", f"`run` must be trained by EP to have a BPTT baseline, got one trained by {type(estimator).__name__}"
        )
    free, nudged = estimator.phases.values()
    return replace(run, estimator=BPTT(estimator.free_steps, min(nudged.steps + 1, free.steps)))


def surrogate_baseline(run: Run) -> Run:
    """Return the same run trained by BPTT through its spikes, over as many steps as `baseline`.

    Raises:
        ArgumentError: if the run's estimator has no nudged phase.
    """
    return replace(run, estimator=replace(baseline(run).estimator, surrogate=True))
