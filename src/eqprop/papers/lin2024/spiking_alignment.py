"""The gradient of spiking EP against rate EP and BPTT, layer by layer (Lin et al. 2024: why max pooling fails on spikes)."""

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
from eqprop.papers.lin2024.rate_training import RateTraining, Variant, counter, words
from eqprop.papers.reproduction.studies import Tell
from eqprop.report import Table
from eqprop.solvers.settle import Solution
from eqprop.theorem.alignment import Gradient, agreement, bptt_at_rest, gradient, gradient_of, layers
from eqprop.training.config.run import CONFIG_CLASSES
from eqprop.training.config.serialization import to_json
from eqprop.training.rng import REST, seeded
from eqprop.training.session import threads

__all__ = ["SpikingAlignment"]

RATE, BASIN, BPTT, CEILING = "rate EP", "rate EP, own basin", "BPTT", "rate EP to BPTT"
"""The spiking gradient is held against the first three; in the last it is rate EP, own basin, that is held against BPTT."""

WEIGHTS = ("initial", "trained")
WEIGHT_OF_A_BATCH = 30
"""What a comparison takes, in batches of a training, for the progress."""

TEXT = (
    "Cosine of the angle between the gradient that EP finds on spikes and another one, layer by layer; in brackets the "
    "ratio of their lengths. Mean ± standard deviation over {batches} batches of {size} test images of {data}. Spiking EP: "
    "{phases}. *Rate EP* is the rate twin from zero with the same phases, a tick a step of size eps; *own basin*, the same "
    "from where the spiking free phase ended, since networks with max pooling have several steady states; *BPTT* goes back "
    "{unrolled} steps of the twin at the steady state that lies there. *Rate EP to BPTT* is as far as spikes could get: "
    "what is missing to 1 in it is due to the finite beta, not to spikes. Batches in which the other gradient vanishes in "
    "a layer, as where every output is on its target, are left out and counted. Trained weights are those of the rate twin "
    "with the same pooling, {training}."
)


@dataclass(frozen=True)
class SpikingAlignment:
    """How gradients agree.

    Attributes:
        trainings: of the rate twin, by pooling.
        variants: spiking networks by label.
        estimator: EP with T and K in ticks, and beta.
        batches: how many.
        size: images in each.
        unrolled_steps: that BPTT goes back.
    """

    trainings: Mapping[str, RateTraining]
    variants: Mapping[str, Variant]
    estimator: EquilibriumProp
    batches: int = 4
    size: int = 50
    unrolled_steps: int = 60
    name: str = "spiking-alignment"
    title: str = "The gradient of spiking EP, layer by layer"

    @property
    def text(self) -> str:
        """What is shown, in a paragraph."""
        training = next(iter(self.trainings.values()))
        return TEXT.format(
            batches=self.batches,
            size=self.size,
            data=training.run.data.name,
            phases=words(self.estimator),
            unrolled=self.unrolled_steps,
            training=training.words,
        )

    @property
    def key(self) -> list[str]:
        """What decides the outcome, as text."""
        trained = [f"{pool}: {training.text}" for pool, training in self.trainings.items()]
        variants = [f"{label}: {variant.text}" for label, variant in self.variants.items()]
        sizes = f"{self.batches} batches of {self.size}, {self.unrolled_steps} steps unrolled"
        return [*trained, *variants, f"estimator: {to_json(self.estimator, CONFIG_CLASSES)}", sizes]

    def compute(self, device: str, root: str | None, tell: Tell) -> dict[str, Any]:
        """For both sets of weights and every variant: see `of`."""
        own = len(WEIGHTS) * len(self.variants) * self.batches * WEIGHT_OF_A_BATCH
        count = counter(tell, own + sum(training.batches for training in self.trainings.values()))
        trainings = {pool: training.at(root) for pool, training in self.trainings.items()}
        weights = {
            pool: dict(zip(WEIGHTS, (t.first(device), t.trained(device, count)), strict=True))
            for pool, t in trainings.items()
        }
        found: dict[str, Any] = {which: {} for which in WEIGHTS}
        for which in WEIGHTS:
            for label, variant in self.variants.items():
                training = trainings[variant.pool]
                model = variant.build(training, weights[variant.pool][which])
                samples = training.samples(self.size, self.batches, device)
                with seeded(training.run.seed, REST), threads(training.run.threads):
                    found[which][label] = self.of(model, samples, count)
        return found

    def of(
        self, model: Model, samples: list[tuple[Tensor, Tensor]], count: Callable[[int], None] = lambda n: None
    ) -> dict[str, Any]:
        """For each comparison cosine and ratio of every layer, a value a batch, and how many batches were left out."""
        names = layer_names(model)
        empty = {name: {"cosine": [], "ratio": []} for name in names}
        found = {kind: {"left out": 0, "layers": {n: {k: [*v] for k, v in both.items()} for n, both in empty.items()}}
                 for kind in (RATE, BASIN, BPTT, CEILING)}  # fmt: skip
        for x, y in samples:
            for kind, of, to in self.pairs(model, x, y):
                if any(not g.any() for g in layers(model, to).values()):
                    found[kind]["left out"] += 1
                    continue
                for name, both in zip(names, agreement(model, of, to).values(), strict=True):
                    found[kind]["layers"][name]["cosine"].append(both.cosine)
                    found[kind]["layers"][name]["ratio"].append(both.ratio)
            count(WEIGHT_OF_A_BATCH)
        return found

    def pairs(self, model: Model, x: Tensor, y: Tensor) -> Iterator[tuple[str, Gradient, Gradient]]:
        """Each comparison on one batch: its name, and the two gradients."""
        free: list[Solution] = []
        spiking, twin = gradient(self.estimator, model, x, y, on_free_phase=free.append), model.rate_model()
        ended = model.dynamics.units(free[0].state)
        (loss,) = self.estimator.from_state(twin, x, y, ended)
        own = gradient_of(loss, twin)
        back = bptt_at_rest(model, x, y, ended, unrolled_steps=self.unrolled_steps)
        yield RATE, spiking, gradient(self.estimator, twin, x, y)
        yield BASIN, spiking, own
        yield BPTT, spiking, back
        yield CEILING, own, back

    def table(self, found: Mapping[str, Any]) -> Table:
        """A line for each comparison, a column for each layer."""
        names = list(next(iter(next(iter(found.values())).values()))[RATE]["layers"])
        rows = [
            [which, label, kind, *(cell(both) for both in facts["layers"].values()), str(facts["left out"])]
            for which, variants in found.items()
            for label, kinds in variants.items()
            for kind, facts in kinds.items()
        ]
        return Table(("weights", "spiking network", "held against", *names, "batches left out"), rows)

    def short(self, found: Mapping[str, Any]) -> Iterator[str]:
        """Mean cosines to rate EP with trained weights, layer by layer."""
        for label, kinds in found["trained"].items():
            said = {
                kind: ", ".join(two_digits(both["cosine"]) for both in kinds[kind]["layers"].values())
                for kind in (RATE, BASIN)
            }
            names = ", ".join(kinds[RATE]["layers"])
            yield (
                f"**Gradient** of spiking EP, trained weights, {label}: cosine to rate EP {said[RATE]} ({names}); in its own "
                f"basin {said[BASIN]}."
            )

    def draw(self, found: Mapping[str, Any], path: Path) -> None:
        """Bars: rate EP, the same in its own basin, BPTT, from above; initial weights on the left, trained ones on the right."""
        panels = {
            (kind, which): {label: cosines(kinds[kind]) for label, kinds in variants.items()}
            for kind in (RATE, BASIN, BPTT)
            for which, variants in found.items()
        }
        marks = {
            (BPTT, which): {label: cosines(kinds[CEILING]) for label, kinds in variants.items()}
            for which, variants in found.items()
        }
        plots.layer_bars(panels, path, marks=marks, mark="rate EP, as far as spikes could get")


def layer_names(model: Model) -> list[str]:
    """ "conv 0→1", "dense 2→3": of every connection, input-first."""
    edges = zip(model.network.edge_names(), model.network.edges(), strict=True)
    return [f"{'conv' if isinstance(edge[2], Conv2d) else 'dense'} {name}" for name, edge in edges]


def cosines(facts: Mapping[str, Any]) -> dict[str, list[float]]:
    """Of every layer, a value a batch."""
    return {name: both["cosine"] for name, both in facts["layers"].items()}


def two_digits(values: Sequence[float]) -> str:
    """The mean of some cosines; a dash of none."""
    return f"{mean(values):.2f}" if values else "–"


def cell(both: Mapping[str, list[float]]) -> str:
    """ "0.97 ± 0.01 (1.1)"."""
    if not both["cosine"]:
        return "–"
    spread = f" ± {stdev(both['cosine']):.2f}" if len(both["cosine"]) > 1 else ""
    return f"{mean(both['cosine']):.2f}{spread} ({mean(both['ratio']):.2g})"
