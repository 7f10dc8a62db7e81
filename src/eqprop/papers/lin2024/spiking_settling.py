"""Distance between spiking networks and the steady state of their rate model, tick by tick (O'Connor et al. 2019)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from eqprop import plots
from eqprop._core.state import State, Units, mean_distance
from eqprop.models.model import Model, relax
from eqprop.papers.lin2024.spiking_studies import Cell, SpikingStudy, Variant
from eqprop.report import Table
from eqprop.solvers.settle import AT_REST

__all__ = ["SpikingSettling"]

_TICKS = (5, 10, 25, 50, 100, 200, 400, 1000)
_COST_OF_A_TICK = 0.3  # in batches of a training
_OWN, _ZERO = "own", "zero"  # keys of the results: the rate model starts from the last potentials, or from zero

_TEXT = (
    "Mean distance |u - s\\*| over all units between the potentials and a steady state s\\* of the rate model, for {images} test "
    "images of {data}, tick by tick. The rate model has the same weights and exchanges real values instead of spikes; s\\* is "
    "where it settles from the last potentials. The dotted lines and the last column are of the steady state that it reaches from "
    "zero. Networks with max pooling have many steady states: a small distance to the first and a large one to the second means "
    "another basin of attraction, not an error. The weights are those of a rate model with the same pooling, after {training}."
)


@dataclass(frozen=True)
class SpikingSettling(SpikingStudy):
    """Distances to the steady state over ticks.

    Attributes:
        panels: spiking networks by panel and label.
        ticks: increasing numbers of ticks after which the distance is measured.
        images: number of test images.
    """

    panels: Mapping[str, Mapping[str, Variant]]
    ticks: Sequence[int] = _TICKS
    images: int = 20
    name = "spiking-settling"
    title = "Spiking networks settle to the rate model's steady state"

    @property
    def text(self) -> str:
        """The paragraph that explains table and figure."""
        data, training = self.training.run.data.name, self.training.description
        return _TEXT.format(images=self.images, data=data, training=training)

    @property
    def settings(self) -> list[str]:
        """Ticks and images."""
        return [f"ticks {', '.join(map(str, self.ticks))}", f"{self.images} images"]

    @property
    def batches_and_size(self) -> tuple[int, int]:
        """One batch of all images."""
        return 1, self.images

    @property
    def cost(self) -> int:
        """Work for one network."""
        return int(_COST_OF_A_TICK * self.ticks[-1])

    def cells(self) -> list[Cell]:
        """Return all networks, with trained weights."""
        return [
            (panel, label, v, "trained") for panel, variants in self.panels.items() for label, v in variants.items()
        ]

    def measure(
        self, model: Model, batches: list[tuple[Tensor, Tensor]], count: Callable[[int], None] = lambda n: None
    ) -> dict[str, Any]:
        """Return the distances at each tick to both steady states, and the distance between these two."""
        ((x, _),) = batches
        potentials = list(_potentials(model, x, self.ticks))
        rates = model.rate_model()
        own, zero = relax(rates, x, AT_REST, state=potentials[-1]).state, relax(rates, x, AT_REST).state
        count(self.cost)
        return {
            _OWN: [mean_distance(u, own) for u in potentials],
            _ZERO: [mean_distance(u, zero) for u in potentials],
            "apart": mean_distance(own, zero),
        }

    def table(self, found: Mapping[str, Any]) -> Table:
        """Return the distances, a row for each network."""
        head = ("", "spiking network", *(f"t = {tick}" for tick in self.ticks), "between the two steady states")
        rows = [
            [panel, label, *(f"{d:.2g}" for d in facts[_OWN]), f"{facts['apart']:.1g}"]
            for panel, variants in found.items()
            for label, facts in variants.items()
        ]
        return Table(head, rows)

    def summary(self, found: Mapping[str, Any]) -> Iterator[str]:
        """Yield the final distances of the first panel."""
        ends = [f"{label} {facts[_OWN][-1]:.1g}" for label, facts in next(iter(found.values())).items()]
        yield f"**Settling**: mean distance to the rate model's steady state after {self.ticks[-1]} ticks: {', '.join(ends)}."

    def draw(self, found: Mapping[str, Any], path: Path) -> None:
        """Draw distances over ticks; in the first panel, dotted, those to the steady state from zero."""

        def curves(variants: Mapping[str, Any], which: str) -> dict[str, list[tuple[float, float]]]:
            ticks = list(map(float, self.ticks))
            return {label: list(zip(ticks, facts[which], strict=True)) for label, facts in variants.items()}

        panels = {panel: curves(variants, _OWN) for panel, variants in found.items()}
        plots.distances(panels, path, apart=curves(next(iter(found.values())), _ZERO))


def _potentials(model: Model, x: Tensor, ticks: Sequence[int]) -> Iterator[Units]:
    # one free phase, interrupted at the given ticks
    state: State | None = None
    for before, tick in zip((0, *ticks), ticks, strict=False):
        state = relax(model, x, tick - before, state=state).state
        yield model.dynamics.units(state)
