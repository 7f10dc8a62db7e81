r"""Several processes that train one model: each takes its part of every batch, and all take the same step.

The gradient of a batch of ``n`` samples is the mean of those of its parts, weighted by their samples,

    g  =  sum_r (n_r / n) g_r,        n  =  sum_r n_r,

whatever the estimator, as long as its losses are means over samples that do not see each other. It is formed in one flat
all-reduce a loss. A part may be empty: its process then takes the batch's first sample once more, at weight zero, so that it
yields as many losses and draws as many signs as the others. So N processes come to what one comes to, up to round-off, except that

    a tolerance      stops each part by itself
    numbers by unit  that a dynamics draws from torch's default generator (noise, Bernoulli spikes) are each process's own, a
                     function of seed, epoch, batch and rank; the optimizer and the samples' order draw the same everywhere

Sums, signals and failures travel in one small packet a batch: every process knows them at the same moment, and all stop together.
A process that dies closes its connections, which the others notice at once; one that hangs, after `PATIENCE`.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from eqprop.estimators.base import Estimator, EstimatorBase
from eqprop.models.model import Model
from eqprop.training.distributed.processes import SINGLE_PROCESS, Position, Processes, Seen
from eqprop.training.metrics import Metrics
from eqprop.training.rng import PROCESS, IsolatedRNG
from eqprop.training.signals import SIGNALS, Interrupts
from eqprop.training.stream import Samples

__all__ = ["DistributedProcesses", "ProcessLostError", "joined", "launched"]

T = TypeVar("T")

PATIENCE = timedelta(minutes=5)
"""How long a process that is still there may keep the others waiting."""

LAUNCHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables by which torchrun tells a process of the others."""


class ProcessLostError(RuntimeError):
    """Another process has ended, or does not answer."""


class StoppedByOther(FloatingPointError):
    """What one process met and all have been told of."""


class DistributedProcesses(Processes):
    """Processes that torchrun started, on CPUs, connected by gloo; every method but `admit`, `share` and `speaks` is called by all.

    Raises:
        Lost: from all of these, if a process is gone or does not answer.

    Args:
        store: where they meet.
        rank: see `Processes`.
        size: see `Processes`.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self.store, self.rank, self.size = store, rank, size
        self.makes = 0

    def admit(self, estimator: Estimator, device: torch.device | str) -> None:
        """On the CPU, estimators that have no need of the whole batch.

        Raises:
            ValueError: if it is on a GPU, or weights would move within a phase by what one process sees of a batch.
        """
        if torch.device(device).type != "cpu":
            raise ValueError(f"`device` must be cpu where {self.size} processes train together, got {str(device)!r}")
        reason = estimator.distribution_unsupported_reason() if isinstance(estimator, EstimatorBase) else None
        if reason is not None:
            raise ValueError(f"estimator: {reason}")

    def broadcast_state(self, model: Model) -> None:
        """See `Processes`."""
        for value in model.state_dict().values():
            value.copy_(self._broadcast(value.contiguous().clone()))
        torch.set_rng_state(self._broadcast(torch.get_rng_state()))

    def share(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
        """Parts lie one after the other, and differ by one sample at most; see the module for an empty one."""
        mine, targets = (whole.tensor_split(self.size)[self.rank] for whole in (x, y))
        return (mine, targets, len(mine) / len(x)) if len(mine) else (x[:1], y[:1], 0.0)

    def gradients(
        self, losses: Callable[[], Iterator[Tensor]], optimizer: Optimizer, weight: float, moment: Position
    ) -> Iterator[Tensor]:
        """See `Processes`."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        own, steps = self._own(moment), backwards(losses, optimizer)
        while True:
            loss, error = None, None
            with own:
                try:
                    loss = next(steps, None)
                except FloatingPointError as found:
                    error = found
            if loss is None and error is None:
                return
            self._average(parameters, weight, error)
            if loss is not None:
                yield loss

    def count(self, tally: Metrics, seen: Seen | None, interrupts: Interrupts) -> None:
        """See `Processes`."""
        batch = Metrics()
        if seen is not None:
            batch.add(*seen)
        self.sync(interrupts, batch)
        tally.include(batch)

    def sync(self, interrupts: Interrupts, tally: Metrics | None = None) -> None:
        """See `Processes`.

        Raises:
            FloatingPointError: if another one has failed.
        """
        asked = self._exchange(tally or Metrics(), interrupts.heard)
        interrupts.asked = interrupts.asked or asked

    def parts(self, batches: Samples, moment: Position) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Processes`."""
        own = self._own(moment)
        for whole in batches:
            x, y, weight = self.share(*whole)
            if weight:
                with own:
                    yield x, y

    @contextmanager
    def failing(self) -> Iterator[None]:
        """See `Processes`."""
        try:
            yield
        except StoppedByOther:
            raise
        except FloatingPointError as error:
            self._exchange(Metrics(), None, error)
            raise

    def broadcast(self, value: T) -> T:
        """See `Processes`."""
        import torch.distributed as dist

        held: list[Any] = [value]
        with answered():
            dist.broadcast_object_list(held, src=0)
        return held[0]

    def run_on_rank0(self, make: Callable[[], T]) -> T:
        """See `Processes`; signals are obeyed meanwhile."""
        self.makes += 1
        key = f"eqprop/made/{self.makes}"
        if not self.first:
            self._await(key)
            return self.broadcast(cast(T, None))
        try:
            value = make()
        except BaseException:
            self.store.set(key, "no")
            raise
        self.store.set(key, "yes")
        return self.broadcast(value)

    def wait(self) -> None:
        """See `Processes`."""
        import torch.distributed as dist

        with answered():
            dist.barrier()

    def should_report(self) -> bool:
        """The store, which torchrun keeps, counts who asks; if it is gone, better twice than never."""
        try:
            return self.store.add("eqprop/told", 1) == 1
        except RuntimeError:
            return True

    def _own(self, moment: Position) -> IsolatedRNG:
        return IsolatedRNG(moment.seed, PROCESS, self.rank, moment.epoch, moment.batch)

    def _await(self, key: str) -> None:
        """Until the first one has made what it makes, or has failed to."""
        with answered():
            while not self.store.check([key]):
                time.sleep(0.05)
            if self.store.get(key) == b"no":
                raise RuntimeError

    def _broadcast(self, tensor: Tensor) -> Tensor:
        """The first one's."""
        import torch.distributed as dist

        with answered():
            dist.broadcast(tensor, src=0)
        return tensor

    def _sum(self, tensor: Tensor) -> None:
        """Over all of them, in place."""
        import torch.distributed as dist

        with answered():
            dist.all_reduce(tensor)

    def _average(self, parameters: Sequence[Tensor], weight: float, error: FloatingPointError | None) -> None:
        """Replace gradients by the weighted sum over all; the last number of what is sent counts those that failed."""
        parts = [torch.zeros_like(p) if p.grad is None or error else p.grad * weight for p in parameters]
        flat = torch.cat([*(part.reshape(-1) for part in parts), parts[0].new_tensor([float(error is not None)])])
        self._sum(flat)
        if flat[-1]:
            raise self._failure(error)
        for p, mean in zip(parameters, flat[:-1].split([p.numel() for p in parameters]), strict=True):
            if p.grad is not None:
                p.grad.copy_(mean.view_as(p))

    def _exchange(self, tally: Metrics, heard: int | None, error: FloatingPointError | None = None) -> int | None:
        """The small packet: sums, signals, failures."""
        sums, counts = tally.state()
        flags = [*(float(number == heard) for number in SIGNALS), float(error is not None)]
        packet = torch.cat([sums, torch.tensor([*map(float, counts), *flags], dtype=torch.float64)])
        self._sum(packet)
        *signals, failed = packet[-len(flags) :].tolist()
        if failed:
            raise self._failure(error)
        tally.restore(packet[: len(sums)], [int(n) for n in packet[len(sums) : -len(flags)].tolist()])
        return next((number for number, times in zip(SIGNALS, signals, strict=True) if times), None)

    def _failure(self, error: FloatingPointError | None) -> StoppedByOther:
        """The error of the lowest rank that has one."""
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        with answered():
            dist.all_gather_object(found, None if error is None else str(error))
        return StoppedByOther(next(text for text in found if text is not None))


def backwards(losses: Callable[[], Iterator[Tensor]], optimizer: Optimizer) -> Iterator[Tensor]:
    """Each loss, when its gradient is in the optimizer's parameters."""
    return SINGLE_PROCESS.gradients(losses, optimizer, 1.0, Position(0, 0, 0))


@contextmanager
def answered() -> Iterator[None]:
    """What torch says of a connection that broke, in plain words."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessLostError("another process of the training has ended, or does not answer") from error


def launched() -> tuple[int, int]:
    """Rank and number of processes, by what torchrun leaves in the environment; ``(0, 1)`` without it."""
    if not all(name in os.environ for name in LAUNCHER):
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes that torchrun started together, for a while; without it, this one alone.

    Raises:
        Lost: if not all of them come.

    >>> with joined() as processes:
    ...     processes.size
    1
    """
    if launched()[1] == 1:
        yield SINGLE_PROCESS
        return
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    with answered():
        store, rank, size = next(iter(rendezvous("env://", timeout=PATIENCE)))
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE)
        dist.barrier()  # nobody leaves, and closes its connections, before all others have theirs
    try:
        yield DistributedProcesses(store, rank, size)
    finally:
        dist.destroy_process_group()
