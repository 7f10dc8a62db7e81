"""Peak memory of one training step over the length of the free phase: EP and BPTT, with rates and with spikes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eqprop import plots
from eqprop._core.memory import peak_bytes
from eqprop.estimators import BPTT, EquilibriumProp
from eqprop.estimators.base import Estimator
from eqprop.models.model import Model
from eqprop.papers.reproduction.studies import Progress, Study
from eqprop.report import Table
from eqprop.solvers.settle import Settle
from eqprop.training.config.run import Run
from eqprop.training.rng import BATCH, generator
from eqprop.training.session import threads

__all__ = ["TrainingMemory", "training_step"]

_MIB = 2**20

# keys of the results
_EP_SPIKES, _EP_RATES = "EP, spikes", "EP, rates"
_BPTT_RATES, _BPTT_SPIKES = "BPTT, rates", "BPTT through spikes"

_TEXT = (
    "Peak memory of the tensors alive at the same time during one training step, including gradients and momentum, without weights "
    "and batch: `{name}`, batch {batch}, K = T/2, both nudged phases in one batch as in training. Every block of memory "
    "that a torch operation returns is counted until it is freed, so that the number is the same on every machine; scratch memory "
    "within an operation is not counted. BPTT goes back over all T steps; over the last K steps only, it would need half of that. "
    "A cell is left out if it would take more than {share:.0%} of the free memory."
)


@dataclass(frozen=True)
class TrainingMemory(Study):
    """Peak memory of one training step.

    Attributes:
        run: training of a spiking network by centred EP; its phases are replaced.
        lengths: increasing lengths T of the free phase; K = T/2.
        average: ticks over which the nudged phases are averaged, for every T.
        batch: batch size.
        share: largest share of the free memory that a step may take.
    """

    run: Run
    lengths: Sequence[int] = (25, 50, 100, 200)
    average: int = 6
    batch: int = 128
    share: float = 0.6
    name = "training-memory"
    title = "Memory of a training step"

    @property
    def text(self) -> str:
        """The paragraph that explains table and figure."""
        return _TEXT.format(name=self.run.name, batch=self.batch, share=self.share)

    @property
    def key(self) -> list[str]:
        """The run and the sizes."""
        sizes = f"T {', '.join(map(str, self.lengths))}, average {self.average}, batch {self.batch}"
        return [f"run {self.run.to_json()}", sizes]

    def candidates(self, steps: int) -> dict[str, tuple[Estimator, bool]]:
        """Return, by label, an estimator with ``steps`` free steps and whether it trains the rate model."""
        assert isinstance(self.run.estimator, EquilibriumProp)
        ep = replace(self.run.estimator, free_steps=steps, nudged_steps=Settle(steps // 2, average=self.average))
        return {
            _EP_SPIKES: (ep, False),
            _EP_RATES: (ep, True),
            _BPTT_RATES: (BPTT(steps), True),
            _BPTT_SPIKES: (BPTT(steps, surrogate=True), False),
        }

    def compute(self, device: str, root: str | None, progress: Progress) -> dict[str, Any]:
        """Return, by label, the peak in bytes for each T; None where it was left out."""
        found: dict[str, Any] = {label: [] for label in self.candidates(self.lengths[0])}
        total = sum(self.lengths)
        for n, steps in enumerate(self.lengths):
            for label, (estimator, rates) in self.candidates(steps).items():
                progress(sum(self.lengths[:n]), total)
                fits = n == 0 or self._fits(found[label][-1], steps / self.lengths[n - 1], device)
                with threads(self.run.threads):
                    found[label].append(peak_bytes(self.step(estimator, rates=rates, device=device)) if fits else None)
        return {"peaks": found}

    def _fits(self, last: int | None, longer: float, device: str) -> bool:
        # assumes that memory grows in proportion to the length of the phase
        free = _free_bytes(device)
        return last is not None and (free is None or longer * last < self.share * free)

    def step(self, estimator: Estimator, *, rates: bool, device: str) -> Callable[[], None]:
        """Return one training step of a new model on random data, to be called."""
        model = self.run.build().to(device)
        model = model.rate_model() if rates else model
        source = generator(self.run.seed, BATCH)
        x = torch.rand(self.batch, *model.network.populations[0].shape, generator=source).to(device)
        classes = model.cost.width(model.network.populations[-1].shape)
        y = torch.randint(classes, (self.batch,), generator=source).to(device)
        return training_step(model, estimator, self.run.optimizer.build(model), x, y)

    def table(self, found: Mapping[str, Any]) -> Table:
        """Return the peaks in MiB and their ratios to spiking EP, a row for each method."""
        base = found["peaks"][_EP_SPIKES]
        rows = [
            [label, *(_peak_text(peak, own) for peak, own in zip(peaks, base, strict=True))]
            for label, peaks in found["peaks"].items()
        ]
        return Table(("method", *(f"T = {steps}" for steps in self.lengths)), rows)

    def summary(self, found: Mapping[str, Any]) -> Iterator[str]:
        """Yield the growth of EP's peak, and the ratio of BPTT's peaks to it."""
        peaks = found["peaks"]
        own = peaks[_EP_SPIKES]
        longest = max(n for n, peak in enumerate(own) if peak is not None)
        growth = 100 * (own[longest] / own[0] - 1)
        yield (
            f"**Memory** of a training step by spiking EP: {own[longest] / _MIB:.0f} MiB at T = {self.lengths[longest]}, "
            f"{growth:+.1f} % against T = {self.lengths[0]}."
        )
        for label in (_BPTT_RATES, _BPTT_SPIKES):
            known = [n for n, peak in enumerate(peaks[label]) if peak is not None and own[n] is not None]
            ratios = ", ".join(f"{peaks[label][n] / own[n]:.1f}x at T = {self.lengths[n]}" for n in known)
            yield f"{label}, relative to spiking EP: {ratios}."

    def draw(self, found: Mapping[str, Any], path: Path) -> None:
        """Draw the peaks over T."""
        curves = {
            label: [(float(T), peak / _MIB) for T, peak in zip(self.lengths, peaks, strict=True) if peak is not None]
            for label, peaks in found["peaks"].items()
        }
        plots.over_length(curves, path, "length T of the free phase", "peak memory of a training step (MiB)")


def training_step(
    model: Model, estimator: Estimator, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor
) -> Callable[[], None]:
    """Return a function that trains the model on one batch."""

    def step() -> None:
        for loss in estimator(model, x, y):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return step


def _free_bytes(device: str) -> int | None:
    # None where the system does not report it
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def _peak_text(peak: int | None, own: int | None) -> str:
    # "1175 MiB (11.2x)"
    if peak is None:
        return "left out"
    return f"{peak / _MIB:.0f} MiB" + (f" ({peak / own:.2g}x)" if own else "")
