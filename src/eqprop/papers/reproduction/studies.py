r"""Computations of a paper that train nothing: what the updates of continual EP are like before a training begins.

*Update angles*: the angle between a rule's whole update of the weights and BPTT's gradient over as many steps, at the first
weights and on one batch (Ernoult et al. 2020, section 4.3 and Figure 5a). Their code leaves t = 0 out of both sums; both
definitions are here.

*Dependence on the rate*: the distance of the whole update of C-EP to that of EP, by the rate at which the weights move inside the
phase (their appendix F); it is proportional to the rate where that is small.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, Protocol, runtime_checkable

from eqprop import plots
from eqprop.models.mlp import MLP
from eqprop.papers.ernoult2020.recipes import UPDATE_ANGLES
from eqprop.papers.published_results import PublishedAngle
from eqprop.papers.registry import experiment, recipe
from eqprop.report import Table
from eqprop.theorem.experiment import Experiment
from eqprop.theorem.gdu import compare
from eqprop.training.session import threads

__all__ = [
    "RateStudy",
    "Study",
    "Telling",
    "UpdateAngles",
    "dependence_on_the_rate",
    "rule_name",
    "update_angles",
]

Tell = Callable[[int, int], object]
"""Is told ``(done, total)``."""


class Study(Protocol):
    """A computation that trains no row of a table, with a section of its own in the account."""

    @property
    def name(self) -> str:
        """Of its files."""
        ...

    @property
    def title(self) -> str:
        """Of its section and picture."""
        ...

    @property
    def text(self) -> str:
        """What is shown, in a paragraph."""
        ...

    @property
    def key(self) -> list[str]:
        """What decides the outcome, as text."""
        ...

    def compute(self, device: str, root: str | None, tell: Tell) -> dict[str, Any]:
        """What is found, as a JSON file can hold it."""
        ...

    def table(self, found: Mapping[str, Any]) -> Table:
        """It as a table."""
        ...

    def draw(self, found: Mapping[str, Any], path: Path) -> None:
        """It as a picture, at ``path`` without an ending."""
        ...


@runtime_checkable
class Telling(Protocol):
    """A study that has something to say to a reader in a hurry."""

    def short(self, found: Mapping[str, Any]) -> Iterable[str]:
        """In some sentences."""
        ...


SEEDS = range(5)


@dataclass(frozen=True)
class UpdateAngles:
    """Angles of updates at the first weights, of several rules.

    Attributes:
        rules: for each label the check of its training's own phases.
        published: for each label the angle in degrees, t = 0 left out, read off Figure 5a.
    """

    rules: Mapping[str, Experiment]
    published: Mapping[str, float]
    name: str = "update-angles"
    title: str = "The first update against BPTT's gradient"
    text: str = (
        "Angle between a rule's whole update of the weights and BPTT's gradient, at the weights that training begins with, on a "
        "batch of 20; mean and range over five seeds. The paper's Figure 5a, from which the published angles were read, leaves "
        "t = 0 out; degrees behind a rule are the initial angle of its feedback weights to the forward ones."
    )

    @property
    def key(self) -> list[str]:
        """What decides the outcome, as text."""
        return [rule.to_json() for rule in self.rules.values()]

    def compute(self, device: str, root: str | None, tell: Tell) -> dict[str, Any]:
        """Both angles of every rule, for each seed."""
        found: dict[str, Any] = {label: {"angle": [], "without_first": []} for label in self.rules}
        asked = [(label, replace(rule, seed=seed)) for label, rule in self.rules.items() for seed in SEEDS]
        for n, (label, rule) in enumerate(asked):
            tell(n, len(asked))
            model, x, y = made(rule, device, root)
            with threads(rule.threads):
                back = rule.run_backward(model, x, y)
                report = compare(model, back, rule.estimator.beta, rule.nudging, rule.rates)
            found[label]["angle"].append(report.angle())
            found[label]["without_first"].append(report.angle(first=False))
        return found

    def table(self, found: Mapping[str, Any]) -> Table:
        """Both angles of every rule beside the published one."""
        head = ("rule", "angle here", "without t = 0, here", "without t = 0, published")
        rows = [
            [label, average(both["angle"]), average(both["without_first"]), f"{self.published[label]:.1f}°"]
            for label, both in found.items()
        ]
        return Table(head, rows)

    def draw(self, found: Mapping[str, Any], path: Path) -> None:
        """Own angles against published ones, t = 0 left out; those of one rule from several initial angles in one color."""
        pairs: dict[str, list[tuple[float, list[float]]]] = {}
        for label, both in found.items():
            pairs.setdefault(label.split(",")[0], []).append((self.published[label], both["without_first"]))
        plots.beside_published(pairs, path, "angle, without t = 0 (degrees)")


@dataclass(frozen=True)
class RateStudy:
    """Distance of C-EP's update to EP's.

    Attributes:
        rule: the check of a continual training's own phases, in double precision.
        scales: what its rates are multiplied with.
    """

    rule: Experiment
    scales: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
    name: str = "rate-dependence"
    title: str = "Continual EP becomes EP as its rates go to 0"
    text: str = (
        "Distance of C-EP-1h's whole update of each weight matrix to EP's, relative to the latter, at the weights that training "
        "begins with, by the rates at which the weights move inside the phase."
    )

    @property
    def key(self) -> list[str]:
        """What decides the outcome, as text."""
        return [self.rule.to_json(), *map(str, self.scales)]

    def compute(self, device: str, root: str | None, tell: Tell) -> dict[str, Any]:
        """For every weight matrix, by its label, ``|Delta_CEP - Delta_EP| / |Delta_EP|`` at each scale."""
        model, x, y = made(self.rule, device, root)
        with threads(self.rule.threads):
            back = self.rule.run_backward(model, x, y)
            still = compare(model, back, self.rule.estimator.beta, self.rule.nudging)
            weights = {name: p.ep.sum(0) for name, p in still.parameters.items() if p.ep.dim() > 2}
            found: dict[str, Any] = {still.labels[name]: [] for name in weights}
            for n, scale in enumerate(self.scales):
                tell(n, len(self.scales))
                rates = [scale * rate for rate in self.rule.rates or ()]
                moving = compare(model, back, self.rule.estimator.beta, self.rule.nudging, rates)
                for name, at_rest in weights.items():
                    apart = moving.parameters[name].ep.sum(0) - at_rest
                    found[still.labels[name]].append((apart.norm() / at_rest.norm()).item())
        return found

    def table(self, found: Mapping[str, Any]) -> Table:
        """A line for every scale."""
        lines = zip(self.scales, *found.values(), strict=True)
        return Table(("rates", *found), [[f"{scale:g} x", *(f"{d:.2g}" for d in apart)] for scale, *apart in lines])

    def draw(self, found: Mapping[str, Any], path: Path) -> None:
        """Distance against scale, both logarithmic."""
        plots.proportional(
            self.scales, found, path, ("rates, in units of the recipe's", "distance of C-EP's update to EP's")
        )


def made(rule: Experiment, device: str, root: str | None) -> tuple[Any, Any, Any]:
    """Model and batch of a check."""
    rule = replace(rule, data=replace(rule.data, root=root))
    model = rule.build(device)
    return (model, *rule.batch(model))


def update_angles() -> UpdateAngles:
    """EP, C-EP and C-VF at the weights that training begins with."""
    rules = {rule_name(known): first_update(known) for known in UPDATE_ANGLES}
    return UpdateAngles(rules, {rule_name(known): known.mean for known in UPDATE_ANGLES})


def first_update(known: PublishedAngle) -> Experiment:
    """The check of a training's own phases, from the initial angle of the weights."""
    rule = experiment(f"{known.recipe}-training")
    assert isinstance(rule.model, MLP)
    return replace(rule, model=replace(rule.model, angle=known.angle))


def rule_name(known: PublishedAngle) -> str:
    """ "EP-1h"; "C-VF-1h, 45°" where feedback weights begin at an angle."""
    run = recipe(known.recipe)
    name = f"{run.method}-{known.recipe.split('-')[-1]}"
    return name if getattr(run.model, "tied", True) else f"{name}, {known.angle:g}°"


def dependence_on_the_rate() -> RateStudy:
    """Of C-EP-1h at its first weights."""
    return RateStudy(replace(experiment("cep-1h-training"), dtype="float64"))


def average(values: list[float]) -> str:
    """Mean and range of some angles."""
    return f"{mean(values):.1f}° ({min(values):.1f} to {max(values):.1f})"
