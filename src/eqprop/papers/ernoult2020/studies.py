r"""Studies of Ernoult et al. (2020): the updates of continual EP at the initial weights.

*Update angles*: the angle between a rule's total weight update and BPTT's gradient over the same number of steps, at the initial
weights and on one batch (section 4.3 and Figure 5a). The paper's code leaves t = 0 out of both sums; both definitions are here.

*Rate dependence*: the distance between the total updates of C-EP and EP, over the rate at which the weights move inside the
nudged phase (appendix F). It is proportional to the rate for small rates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from torch import Tensor

from eqprop import plots
from eqprop.models.mlp import MLP
from eqprop.models.model import Model
from eqprop.papers.ernoult2020.recipes import UPDATE_ANGLES
from eqprop.papers.published_results import PublishedAngle
from eqprop.papers.registry import experiment, recipe
from eqprop.papers.reproduction.studies import Progress, Study
from eqprop.report import Table
from eqprop.theorem.experiment import Experiment
from eqprop.theorem.gdu import compare
from eqprop.training.session import threads

__all__ = ["RateDependence", "UpdateAngles", "published_update_angles", "rule_name"]

_SEEDS = range(5)


@dataclass(frozen=True)
class UpdateAngles(Study):
    """Angles between the first updates of several rules and BPTT's gradient.

    Attributes:
        rules: for each label, the theorem experiment with the phases of the rule's training.
        published: for each label, the published angle in degrees, without t = 0.
    """

    rules: Mapping[str, Experiment]
    published: Mapping[str, float]
    name = "update-angles"
    title = "Angle of the first update to BPTT's gradient"

    @property
    def text(self) -> str:
        """The paragraph that explains table and figure."""
        return (
            "Angle between a rule's total weight update and BPTT's gradient, at the initial weights, on a batch of 20; mean and "
            "range over five seeds. The published angles were read off Figure 5a of the paper, which leaves t = 0 out. The "
            "degrees in a rule's name are the initial angle of its feedback weights to the forward weights."
        )

    @property
    def key(self) -> list[str]:
        """The experiments."""
        return [rule.to_json() for rule in self.rules.values()]

    def compute(self, device: str, root: str | None, progress: Progress) -> dict[str, Any]:
        """Return, for each rule, the angles with and without t = 0, one for each seed."""
        found: dict[str, Any] = {label: {"angle": [], "without_first": []} for label in self.rules}
        runs = [(label, replace(rule, seed=seed)) for label, rule in self.rules.items() for seed in _SEEDS]
        for n, (label, rule) in enumerate(runs):
            progress(n, len(runs))
            model, x, y = _build(rule, device, root)
            with threads(rule.threads):
                back = rule.run_backward(model, x, y)
                report = compare(model, back, rule.estimator.beta, rule.nudging, rule.rates)
            found[label]["angle"].append(report.angle())
            found[label]["without_first"].append(report.angle(first=False))
        return found

    def table(self, found: Mapping[str, Any]) -> Table:
        """Return both angles of each rule and the published one."""
        head = ("rule", "angle here", "angle here, without t = 0", "published angle, without t = 0")
        rows = [
            [label, _mean_and_range(a["angle"]), _mean_and_range(a["without_first"]), f"{self.published[label]:.1f}°"]
            for label, a in found.items()
        ]
        return Table(head, rows)

    def draw(self, found: Mapping[str, Any], path: Path) -> None:
        """Draw found over published angles, both without t = 0; one color for each rule."""
        pairs: dict[str, list[tuple[float, list[float]]]] = {}
        for label, angles in found.items():
            pairs.setdefault(label.split(",")[0], []).append((self.published[label], angles["without_first"]))
        plots.beside_published(pairs, path, "angle, without t = 0 (degrees)")


@dataclass(frozen=True)
class RateDependence(Study):
    """Distance between the updates of C-EP and EP over the rate inside the nudged phase.

    Attributes:
        rule: the theorem experiment with the phases of a C-EP training, in double precision.
        scales: factors of its rates.
    """

    rule: Experiment
    scales: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
    name = "rate-dependence"
    title = "Continual EP approaches EP as its rates go to 0"

    @property
    def text(self) -> str:
        """The paragraph that explains table and figure."""
        return (
            "Relative distance between the total update of each weight matrix by C-EP-1h and by EP, at the initial weights, over "
            "the rates at which the weights move inside the nudged phase."
        )

    @property
    def key(self) -> list[str]:
        """The experiment and the factors."""
        return [self.rule.to_json(), *map(str, self.scales)]

    def compute(self, device: str, root: str | None, progress: Progress) -> dict[str, Any]:
        """Return ``|Delta_CEP - Delta_EP| / |Delta_EP|`` at each scale, for each weight matrix by its label."""
        model, x, y = _build(self.rule, device, root)
        beta, nudging = self.rule.estimator.beta, self.rule.nudging
        with threads(self.rule.threads):
            back = self.rule.run_backward(model, x, y)
            ep = compare(model, back, beta, nudging)
            updates = {name: p.ep.sum(0) for name, p in ep.parameters.items() if p.ep.dim() > 2}  # (K, *shape) -> shape
            found: dict[str, Any] = {ep.labels[name]: [] for name in updates}
            for n, scale in enumerate(self.scales):
                progress(n, len(self.scales))
                rates = [scale * rate for rate in self.rule.rates or ()]
                continual = compare(model, back, beta, nudging, rates)
                for name, update in updates.items():
                    distance = continual.parameters[name].ep.sum(0) - update
                    found[ep.labels[name]].append((distance.norm() / update.norm()).item())
        return found

    def table(self, found: Mapping[str, Any]) -> Table:
        """Return the distances, a row for each scale."""
        lines = zip(self.scales, *found.values(), strict=True)
        return Table(("rates", *found), [[f"{scale:g} x", *(f"{d:.2g}" for d in apart)] for scale, *apart in lines])

    def draw(self, found: Mapping[str, Any], path: Path) -> None:
        """Draw distance over scale, both logarithmic."""
        axes = ("rates, in units of the recipe's", "distance of C-EP's update to EP's")
        plots.proportional(self.scales, found, path, axes)


def _build(rule: Experiment, device: str, root: str | None) -> tuple[Model, Tensor, Tensor]:
    rule = replace(rule, data=replace(rule.data, root=root))
    model = rule.build(device)
    return (model, *rule.batch(model))


def published_update_angles() -> UpdateAngles:
    """Return the study of all rules whose angle was published."""
    rules = {rule_name(known): _experiment_at(known) for known in UPDATE_ANGLES}
    return UpdateAngles(rules, {rule_name(known): known.mean for known in UPDATE_ANGLES})


def _experiment_at(known: PublishedAngle) -> Experiment:
    rule = experiment(f"{known.recipe}-training")
    assert isinstance(rule.model, MLP)
    return replace(rule, model=replace(rule.model, angle=known.angle))


def rule_name(known: PublishedAngle) -> str:
    """Return "EP-1h", or "C-VF-1h, 45°" for separate feedback weights at an initial angle."""
    run = recipe(known.recipe)
    name = f"{run.method}-{known.recipe.split('-')[-1]}"
    return name if getattr(run.model, "tied", True) else f"{name}, {known.angle:g}°"


def _mean_and_range(angles: list[float]) -> str:
    return f"{mean(angles):.1f}° ({min(angles):.1f} to {max(angles):.1f})"
