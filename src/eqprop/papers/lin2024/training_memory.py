"""Peak memory of one training step over the length of the free phase: EP against BPTT, with rates and with spikes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from eqprop import plots
from eqprop._core.memory import peak_bytes
from eqprop.estimators import BPTT, EquilibriumProp
from eqprop.estimators.base import Estimator
from eqprop.models.model import Model
from eqprop.papers.reproduction.studies import Tell
from eqprop.report import Table
from eqprop.solvers.settle import Settle
from eqprop.training.config.run import Run
from eqprop.training.rng import BATCH, generator
from eqprop.training.session import threads

__all__ = ["TrainingMemory", "training_step"]

MIB = 2**20

EP_SPIKES, EP_RATES = "EP, spikes", "EP, rates"
BPTT_RATES, BPTT_SPIKES = "BPTT, rates", "BPTT through spikes"

TEXT = (
    "The most bytes of tensors that were alive at once during one training step, gradients and momentum included, weights "
    "and batch not: `{name}`, batch {batch}, K = T/2, both nudged phases side by side as in training. Every block of "
    "memory that an operation of torch returns is counted from there until it is let go, so that the number is the same on "
    "every machine; scratch space within an operation is not in it. BPTT goes back over all T steps; over the last K alone "
    "it would need half of that. {skip}"
)
SKIP = "A cell is left out where it would take more than {share:.0%} of the memory that was free."


@dataclass(frozen=True)
class TrainingMemory:
    """What a training step needs.

    Attributes:
        run: of a spiking network by centred EP; its phases are replaced.
        lengths: T, rising; K is half of it.
        average: ticks that the nudged phases are averaged over, the same for every T.
        batch: samples in a batch.
        share: of the free memory that a cell may take.
    """

    run: Run
    lengths: Sequence[int] = (25, 50, 100, 200)
    average: int = 6
    batch: int = 128
    share: float = 0.6
    name: str = "training-memory"
    title: str = "Memory of a training step"

    @property
    def text(self) -> str:
        """What is shown, in a paragraph."""
        skip = SKIP.format(share=self.share)
        return TEXT.format(name=self.run.name, batch=self.batch, skip=skip)

    @property
    def key(self) -> list[str]:
        """What decides the outcome, as text."""
        sizes = f"T {', '.join(map(str, self.lengths))}, average {self.average}, batch {self.batch}"
        return [f"run {self.run.to_json()}", sizes]

    def contenders(self, steps: int) -> dict[str, tuple[Estimator, bool]]:
        """By label the estimator of free phases of so many steps, and whether it is the rate twin that it trains."""
        assert isinstance(self.run.estimator, EquilibriumProp)
        ep = replace(self.run.estimator, free_steps=steps, nudged_steps=Settle(steps // 2, average=self.average))
        return {
            EP_SPIKES: (ep, False),
            EP_RATES: (ep, True),
            BPTT_RATES: (BPTT(steps), True),
            BPTT_SPIKES: (BPTT(steps, surrogate=True), False),
        }

    def compute(self, device: str, root: str | None, tell: Tell) -> dict[str, Any]:
        """By label, for each T the peak in bytes; None where it was left out."""
        found: dict[str, Any] = {label: [] for label in self.contenders(self.lengths[0])}
        total = sum(self.lengths)
        for n, steps in enumerate(self.lengths):
            for label, (estimator, rates) in self.contenders(steps).items():
                tell(sum(self.lengths[:n]), total)
                fits = n == 0 or self.fits(found[label][-1], steps / self.lengths[n - 1], device)
                with threads(self.run.threads):
                    found[label].append(peak_bytes(self.step(estimator, rates=rates, device=device)) if fits else None)
        return {"peaks": found}

    def fits(self, last: int | None, longer: float, device: str) -> bool:
        """Whether a phase so many times as long as the last one has room, if memory grows with it."""
        free = free_bytes(device)
        return last is not None and (free is None or longer * last < self.share * free)

    def step(self, estimator: Estimator, *, rates: bool, device: str) -> Callable[[], None]:
        """A training step of a fresh model."""
        model = self.run.build().to(device)
        model = model.rate_model() if rates else model
        source = generator(self.run.seed, BATCH)
        x = torch.rand(self.batch, *model.network.populations[0].shape, generator=source).to(device)
        classes = model.cost.width(model.network.populations[-1].shape)
        y = torch.randint(classes, (self.batch,), generator=source).to(device)
        return training_step(model, estimator, self.run.optimizer.build(model), x, y)

    def table(self, found: Mapping[str, Any]) -> Table:
        """A line a method, in MiB, and how many times as much as spiking EP it takes at each T."""
        base = found["peaks"][EP_SPIKES]
        rows = [
            [label, *(size(peak, own) for peak, own in zip(peaks, base, strict=True))]
            for label, peaks in found["peaks"].items()
        ]
        return Table(("by", *(f"T = {steps}" for steps in self.lengths)), rows)

    def short(self, found: Mapping[str, Any]) -> Iterator[str]:
        """How EP's peak grows, and what BPTT takes."""
        peaks = found["peaks"]
        own = peaks[EP_SPIKES]
        longest = max(n for n, peak in enumerate(own) if peak is not None)
        grows = 100 * (own[longest] / own[0] - 1)
        yield (
            f"**Memory** of a training step by spiking EP: {own[longest] / MIB:.0f} MiB at T = {self.lengths[longest]}, "
            f"{grows:+.1f} % against T = {self.lengths[0]}."
        )
        for label in (BPTT_RATES, BPTT_SPIKES):
            known = [n for n, peak in enumerate(peaks[label]) if peak is not None and own[n] is not None]
            more = ", ".join(f"{peaks[label][n] / own[n]:.1f} at T = {self.lengths[n]}" for n in known)
            yield f"{label} takes so many times as much as spiking EP: {more}."

    def draw(self, found: Mapping[str, Any], path: Path) -> None:
        """Peaks over T."""
        curves = {
            label: [(float(T), peak / MIB) for T, peak in zip(self.lengths, peaks, strict=True) if peak is not None]
            for label, peaks in found["peaks"].items()
        }
        plots.over_length(curves, path, "length T of the free phase", "peak of a training step (MiB)")


def training_step(
    model: Model, estimator: Estimator, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor
) -> Callable[[], None]:
    """One step of a training, to be called."""

    def step() -> None:
        for loss in estimator(model, x, y):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return step


def free_bytes(device: str) -> int | None:
    """How much memory is free; None where nobody says."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def size(peak: int | None, own: int | None) -> str:
    """ "1175 MiB (11.2x)"."""
    if peak is None:
        return "left out"
    return f"{peak / MIB:.0f} MiB" + (f" ({peak / own:.2g}x)" if own else "")
