"""Angles between the gradients of spiking EP, rate EP and BPTT, layer by layer (Lin et al. 2024: max pooling fails on spikes)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from torch import Tensor

from eqprop import plots
from eqprop.connections.conv import Conv2d
from eqprop.estimators import EquilibriumProp
from eqprop.models.model import Model
from eqprop.papers.lin2024.spiking_studies import Cell, SpikingStudy, Variant, describe_phases
from eqprop.report import Table
from eqprop.solvers.settle import Solution
from eqprop.theorem.alignment import (
    Gradient,
    align_layers,
    bptt_at_rest,
    estimate_gradient,
    layer_vectors,
    loss_gradient,
)
from eqprop.training.config.run import CONFIG_CLASSES
from eqprop.training.config.serialization import to_json

__all__ = ["SpikingAlignment"]

RATE, BASIN, BPTT, CEILING = "rate EP", "rate EP, own basin", "BPTT", "rate EP to BPTT"
"""The comparisons, as keys of the results: spiking EP against the first three, and rate EP in its own basin against BPTT."""

_COST_OF_A_BATCH = 30  # in batches of a training

_TEXT = (
    "Cosine of the angle between spiking EP's gradient and a reference gradient, layer by layer; in brackets the ratio of their "
    "norms. Mean ± standard deviation over {batches} batches of {size} test images of {data}. Spiking EP: {phases}. *Rate EP* is "
    "EP in the rate model, from zero, with the same phases, where a tick is a step of size eps. *Own basin* is the same from "
    "where the spiking free phase ended, because networks with max pooling have several steady states. *BPTT* goes back "
    "{unrolled} steps of the rate model at the steady state next to that point. *Rate EP to BPTT* is the best that spiking EP can "
    "reach: its distance to 1 is due to the finite beta. Batches in which the reference gradient vanishes in a layer, for example "
    "because every output equals its target, are left out and counted. Trained weights are those of a rate model with the same "
    "pooling, after {training}."
)


@dataclass(frozen=True)
class SpikingAlignment(SpikingStudy):
    """Agreement between gradients.

    Attributes:
        variants: spiking networks by label.
        estimator: EP; T and K in ticks.
        batches: number of test batches.
        size: images in a batch.
        unrolled_steps: number of steps of BPTT.
    """

    variants: Mapping[str, Variant]
    estimator: EquilibriumProp
    batches: int = 4
    size: int = 50
    unrolled_steps: int = 60
    name = "spiking-alignment"
    title = "The gradient of spiking EP, layer by layer"

    @property
    def text(self) -> str:
        """The paragraph that explains table and figure."""
        return _TEXT.format(
            batches=self.batches,
            size=self.size,
            data=self.training.run.data.name,
            phases=describe_phases(self.estimator),
            unrolled=self.unrolled_steps,
            training=self.training.description,
        )

    @property
    def settings(self) -> list[str]:
        """Estimator, batches and steps of BPTT."""
        sizes = f"{self.batches} batches of {self.size}, {self.unrolled_steps} steps unrolled"
        return [f"estimator: {to_json(self.estimator, CONFIG_CLASSES)}", sizes]

    @property
    def batches_and_size(self) -> tuple[int, int]:
        """Number of test batches, and images in each."""
        return self.batches, self.size

    @property
    def cost(self) -> int:
        """Work for one network."""
        return self.batches * _COST_OF_A_BATCH

    def cells(self) -> list[Cell]:
        """Return all networks, with initial and with trained weights."""
        initial: list[Cell] = [("initial", label, variant, "initial") for label, variant in self.variants.items()]
        return [*initial, *(("trained", label, variant, "trained") for label, variant in self.variants.items())]

    def measure(
        self, model: Model, batches: list[tuple[Tensor, Tensor]], count: Callable[[int], None] = lambda n: None
    ) -> dict[str, Any]:
        """Return, for each comparison, cosine and ratio of every layer in each batch, and the number of batches left out."""
        names = _layer_names(model)
        found: dict[str, Any] = {
            kind: {"left out": 0, "layers": {name: {"cosine": [], "ratio": []} for name in names}}
            for kind in (RATE, BASIN, BPTT, CEILING)
        }
        for x, y in batches:
            for kind, of, to in self._pairs(model, x, y):
                if any(not g.any() for g in layer_vectors(model, to).values()):
                    found[kind]["left out"] += 1
                    continue
                for name, both in zip(names, align_layers(model, of, to).values(), strict=True):
                    found[kind]["layers"][name]["cosine"].append(both.cosine)
                    found[kind]["layers"][name]["ratio"].append(both.ratio)
            count(_COST_OF_A_BATCH)
        return found

    def _pairs(self, model: Model, x: Tensor, y: Tensor) -> Iterator[tuple[str, Gradient, Gradient]]:
        # each comparison on one batch: its name, the gradient and the reference
        free: list[Solution] = []
        spiking, rates = estimate_gradient(self.estimator, model, x, y, on_free_phase=free.append), model.rate_model()
        end = model.dynamics.units(free[0].state)
        (loss,) = self.estimator.from_state(rates, x, y, end)
        own = loss_gradient(loss, rates)
        back = bptt_at_rest(model, x, y, end, unrolled_steps=self.unrolled_steps)
        yield RATE, spiking, estimate_gradient(self.estimator, rates, x, y)
        yield BASIN, spiking, own
        yield BPTT, spiking, back
        yield CEILING, own, back

    def table(self, found: Mapping[str, Any]) -> Table:
        """Return cosines and ratios: a row for each comparison, a column for each layer."""
        names = list(next(iter(next(iter(found.values())).values()))[RATE]["layers"])
        rows = [
            [which, label, kind, *(_cell(both) for both in facts["layers"].values()), str(facts["left out"])]
            for which, variants in found.items()
            for label, kinds in variants.items()
            for kind, facts in kinds.items()
        ]
        return Table(("weights", "spiking network", "reference", *names, "batches left out"), rows)

    def summary(self, found: Mapping[str, Any]) -> Iterator[str]:
        """Yield the mean cosines to rate EP with trained weights, layer by layer."""
        for label, kinds in found["trained"].items():
            text = {
                kind: ", ".join(_mean_text(both["cosine"]) for both in kinds[kind]["layers"].values())
                for kind in (RATE, BASIN)
            }
            names = ", ".join(kinds[RATE]["layers"])
            yield (
                f"**Gradient** of spiking EP, trained weights, {label}: cosine to rate EP {text[RATE]} ({names}); in its own "
                f"basin {text[BASIN]}."
            )

    def draw(self, found: Mapping[str, Any], path: Path) -> None:
        """Draw bars of the cosines: a row for each reference, initial weights on the left, trained ones on the right."""

        def bars(kind: str, variants: Mapping[str, Any]) -> dict[str, dict[str, list[float]]]:
            layers = {label: kinds[kind]["layers"] for label, kinds in variants.items()}
            return {label: {name: both["cosine"] for name, both in of.items()} for label, of in layers.items()}

        panels = {(kind, which): bars(kind, of) for kind in (RATE, BASIN, BPTT) for which, of in found.items()}
        marks = {(BPTT, which): bars(CEILING, variants) for which, variants in found.items()}
        plots.layer_bars(panels, path, marks=marks, mark="rate EP to BPTT")


def _layer_names(model: Model) -> list[str]:
    # "conv 0→1", "dense 2→3"
    edges = zip(model.network.edge_names(), model.network.edges(), strict=True)
    return [f"{'conv' if isinstance(edge[2], Conv2d) else 'dense'} {name}" for name, edge in edges]


def _mean_text(values: Sequence[float]) -> str:
    return f"{mean(values):.2f}" if values else "–"


def _cell(both: Mapping[str, list[float]]) -> str:
    # "0.97 ± 0.01 (1.1)"
    if not both["cosine"]:
        return "–"
    spread = f" ± {stdev(both['cosine']):.2f}" if len(both["cosine"]) > 1 else ""
    return f"{mean(both['cosine']):.2f}{spread} ({mean(both['ratio']):.2g})"
