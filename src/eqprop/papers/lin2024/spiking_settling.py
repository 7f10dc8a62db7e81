"""How near spikes come to the steady state of their rate twin, tick by tick (O'Connor et al. 2019; Lin et al. 2024)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from eqprop import plots
from eqprop._core.state import State, Units, mean_distance
from eqprop.models.model import Model, relax
from eqprop.papers.lin2024.rate_training import RateTraining, Variant, counter
from eqprop.papers.reproduction.studies import Tell
from eqprop.report import Table
from eqprop.solvers.settle import AT_REST
from eqprop.training.rng import REST, seeded
from eqprop.training.session import threads

__all__ = ["SpikingSettling"]

TICKS = (5, 10, 25, 50, 100, 200, 400, 1000)

WEIGHT_OF_A_TICK = 0.3
"""What a tick takes, in batches of a training, for the progress."""

OWN, ZERO = "own", "zero"
"""Where the twin starts from: where the spikes ended, or zero."""

TEXT = (
    "Mean distance |u - s*| over all units of the potentials to the steady state of the rate twin, for {images} test "
    "images of {data}, tick by tick. s* is where the twin comes to rest from the last potentials; the dotted lines and the "
    "last column are of the steady state that the twin reaches from zero. Networks with max pooling have many steady "
    "states: a distance to the one and none to the other is another basin, not an error. The weights are the rate twin's "
    "with the same pooling, {training}."
)


@dataclass(frozen=True)
class SpikingSettling:
    """Distances over ticks.

    Attributes:
        trainings: of the rate twin, by pooling.
        panels: spiking networks by title of their panel and label.
        ticks: at which they are looked at, rising.
        images: how many.
    """

    trainings: Mapping[str, RateTraining]
    panels: Mapping[str, Mapping[str, Variant]]
    ticks: Sequence[int] = TICKS
    images: int = 20
    name: str = "spiking-settling"
    title: str = "Spikes settle where rates do"

    @property
    def text(self) -> str:
        """What is shown, in a paragraph."""
        training = next(iter(self.trainings.values()))
        return TEXT.format(images=self.images, data=training.run.data.name, training=training.words)

    @property
    def key(self) -> list[str]:
        """What decides the outcome, as text."""
        trained = [f"{pool}: {training.text}" for pool, training in self.trainings.items()]
        variants = [f"{label}: {variant.text}" for panel in self.panels.values() for label, variant in panel.items()]
        return [*trained, *variants, f"ticks {', '.join(map(str, self.ticks))}", f"{self.images} images"]

    def compute(self, device: str, root: str | None, tell: Tell) -> dict[str, Any]:
        """By panel and label the distances at each tick to both steady states, and that of these two."""
        trainings = {pool: training.at(root) for pool, training in self.trainings.items()}
        cells = [(panel, label) for panel, variants in self.panels.items() for label in variants]
        each = int(WEIGHT_OF_A_TICK * self.ticks[-1])
        count = counter(tell, each * len(cells) + sum(training.batches for training in trainings.values()))
        weights = {pool: training.trained(device, count) for pool, training in trainings.items()}
        found: dict[str, Any] = {panel: {} for panel in self.panels}
        for panel, label in cells:
            variant = self.panels[panel][label]
            training = trainings[variant.pool]
            ((x, _),) = training.samples(self.images, 1, device)
            with seeded(training.run.seed, REST), threads(training.run.threads):
                found[panel][label] = self.of(variant.build(training, weights[variant.pool]), x)
            count(each)
        return found

    def of(self, model: Model, x: Tensor) -> dict[str, Any]:
        """Distances at each tick to where the twin comes to rest from the last potentials, and from zero."""
        seen = list(looks(model, x, self.ticks))
        twin = model.rate_model()
        rests = {OWN: relax(twin, x, AT_REST, state=seen[-1]).state, ZERO: relax(twin, x, AT_REST).state}
        found: dict[str, Any] = {which: [mean_distance(u, rest) for u in seen] for which, rest in rests.items()}
        return found | {"apart": mean_distance(rests[OWN], rests[ZERO])}

    def table(self, found: Mapping[str, Any]) -> Table:
        """A line for each network."""
        head = ("", "spiking network", *(f"t = {tick}" for tick in self.ticks), "own state to that from zero")
        rows = [
            [panel, label, *(f"{d:.2g}" for d in facts[OWN]), f"{facts['apart']:.1g}"]
            for panel, variants in found.items()
            for label, facts in variants.items()
        ]
        return Table(head, rows)

    def short(self, found: Mapping[str, Any]) -> Iterator[str]:
        """Where the networks of the first panel end."""
        ends = [f"{label} {facts[OWN][-1]:.1g}" for label, facts in next(iter(found.values())).items()]
        yield f"**Settling**: mean distance to the rate twin's steady state after {self.ticks[-1]} ticks: {', '.join(ends)}."

    def draw(self, found: Mapping[str, Any], path: Path) -> None:
        """Distances over ticks; dotted those to the twin's state from zero, in the first panel."""
        panels = {
            panel: {label: self.curve(facts[OWN]) for label, facts in variants.items()}
            for panel, variants in found.items()
        }
        first = next(iter(found.values()))
        plots.distances(panels, path, apart={label: self.curve(facts[ZERO]) for label, facts in first.items()})

    def curve(self, values: Sequence[float]) -> list[tuple[float, float]]:
        """Points over ticks."""
        return list(zip(map(float, self.ticks), values, strict=True))


def looks(model: Model, x: Tensor, ticks: Sequence[int]) -> Iterator[Units]:
    """The potentials after so many ticks of one free phase, which goes on from look to look."""
    state: State | None = None
    for before, tick in zip((0, *ticks), ticks, strict=False):
        state = relax(model, x, tick - before, state=state).state
        yield model.dynamics.units(state)
