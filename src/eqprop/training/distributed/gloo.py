r"""Data-parallel training on CPUs: each process computes its part of every batch, and all take the same optimizer step.

The gradient of a batch of ``n`` samples is the mean of those of its parts, weighted by their numbers of samples,

    g  =  sum_r (n_r / n) g_r,        n  =  sum_r n_r,

for every estimator whose losses are means over independent samples. One all-reduce of a flat tensor per loss computes it. A part
may be empty: its process then takes the first sample of the batch with weight zero, so that it yields as many losses and draws as
many random signs as the others. N processes give the result of one process up to rounding, with two exceptions:

- With a tolerance, each part takes as many steps as it needs.
- Dynamics that draw numbers per unit (noise, Bernoulli spikes) draw different ones in each process, as a function of seed, epoch,
  batch and rank. The optimizer and the order of samples draw the same numbers everywhere.

Metrics, signals and failures travel in one small all-reduce per batch, so every process knows them at the same batch and all stop
together. If a process dies, its connections close and the others notice immediately; if one hangs, they notice after `TIMEOUT`.
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

from eqprop._core.checks import ArgumentError
from eqprop.estimators.base import Estimator, EstimatorBase
from eqprop.models.model import Model
from eqprop.training.batch_steps import BatchIterable
from eqprop.training.distributed.processes import SINGLE_PROCESS, Measured, Position, Processes
from eqprop.training.metrics import Metrics
from eqprop.training.rng import PROCESS, IsolatedRNG
from eqprop.training.signals import SIGNALS, Interrupts

__all__ = ["DistributedProcesses", "ProcessLostError", "joined", "launched"]

T = TypeVar("T")

TIMEOUT = timedelta(minutes=5)
"""How long a process that is alive may keep the others waiting."""

LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that torchrun sets."""


class ProcessLostError(RuntimeError):
    """Another process has ended, or does not answer."""


class _StoppedError(FloatingPointError):
    """A FloatingPointError of one process, raised in all of them."""


class DistributedProcesses(Processes):
    """Processes that torchrun started, on CPUs, connected by gloo.

    All processes must call every method except `check_estimator`, `shard` and `should_report`, which involve no communication.
    These raise `ProcessLostError` if a process has ended or does not answer.

    Args:
        store: key-value store of the process group.
        rank: of this process, from 0.
        size: number of processes.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self.store, self.rank, self.size = store, rank, size
        self._reports: bool | None = None  # whether this process reports an error, once one has asked
        self._calls = 0  # of `run_on_rank0`: each has a key of its own in the store

    def check_estimator(self, estimator: Estimator, device: torch.device | str) -> None:
        """Accept the CPU and estimators whose losses are means over independent samples.

        Raises:
            ArgumentError: if the device is not a CPU, or weights move within a phase by the samples of one process.
        """
        if torch.device(device).type != "cpu":
            raise ArgumentError(
                "device", f"`device` must be cpu where {self.size} processes train together, got {str(device)!r}"
            )
        reason = estimator.distribution_unsupported_reason() if isinstance(estimator, EstimatorBase) else None
        if reason is not None:
            raise ArgumentError("estimator", f"`estimator` cannot train in {self.size} processes: {reason}")

    def broadcast_state(self, model: Model) -> None:
        """See `Processes`."""
        for value in model.state_dict().values():
            value.copy_(self._broadcast_tensor(value.contiguous().clone()))
        torch.set_rng_state(self._broadcast_tensor(torch.get_rng_state()))

    def shard(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return a contiguous part; sizes differ by one sample at most. An empty part becomes one sample of weight 0."""
        own, targets = (whole.tensor_split(self.size)[self.rank] for whole in (x, y))
        return (own, targets, len(own) / len(x)) if len(own) else (x[:1], y[:1], 0.0)

    def average_gradients(
        self, losses: Callable[[], Iterator[Tensor]], optimizer: Optimizer, weight: float, position: Position
    ) -> Iterator[Tensor]:
        """See `Processes`."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        rng, own = self._rng(position), SINGLE_PROCESS.average_gradients(losses, optimizer, 1.0, position)
        while True:
            loss, error = None, None
            with rng:
                try:
                    loss = next(own, None)
                except FloatingPointError as caught:
                    error = caught
            if loss is None and error is None:
                return
            self._average(parameters, weight, error)
            if loss is not None:
                yield loss

    def add_batch(self, metrics: Metrics, measured: Measured | None, interrupts: Interrupts) -> None:
        """See `Processes`."""
        batch = Metrics()
        if measured is not None:
            batch.add(*measured)
        self.sync(interrupts, batch)
        metrics.merge(batch)

    def sync(self, interrupts: Interrupts, metrics: Metrics | None = None) -> None:
        """See `Processes`.

        Raises:
            FloatingPointError: if another process has failed.
        """
        received = self._all_reduce_status(metrics or Metrics(), interrupts.received)
        interrupts.requested = interrupts.requested or received

    def shard_batches(self, batches: BatchIterable, position: Position) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Processes`."""
        rng = self._rng(position)
        for whole in batches:
            x, y, weight = self.shard(*whole)
            if weight:
                with rng:
                    yield x, y

    @contextmanager
    def share_failure(self) -> Iterator[None]:
        """See `Processes`."""
        try:
            yield
        except _StoppedError:
            raise
        except FloatingPointError as error:
            self._all_reduce_status(Metrics(), None, error)
            raise

    def broadcast(self, value: T) -> T:
        """See `Processes`."""
        import torch.distributed as dist

        values: list[Any] = [value]
        with _lost_as_error():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def run_on_rank0(self, function: Callable[[], T]) -> T:
        """See `Processes`; the others poll the store, so that they still react to signals and no collective times out."""
        self._calls += 1
        key = f"eqprop/rank0/{self._calls}"
        if not self.is_rank0:
            self._wait_for(key)
            return self.broadcast(cast(T, None))
        try:
            value = function()
        except BaseException:
            self.should_report()  # asks first: the others get another error as soon as they see the key
            self.store.set(key, "failed")
            raise
        self.store.set(key, "done")
        return self.broadcast(value)

    def barrier(self) -> None:
        """See `Processes`."""
        import torch.distributed as dist

        with _lost_as_error():
            dist.barrier()

    def should_report(self) -> bool:
        """Count calls in the store, which torchrun keeps alive; without the store, report: twice is better than never."""
        if self._reports is None:
            self._reports = self._is_first_to_report()
        return self._reports

    def _is_first_to_report(self) -> bool:
        try:
            return self.store.add("eqprop/reported", 1) == 1
        except RuntimeError:
            return True

    def _rng(self, position: Position) -> IsolatedRNG:
        return IsolatedRNG(position.seed, PROCESS, self.rank, position.epoch, position.batch)

    def _wait_for(self, key: str) -> None:
        """Wait until rank 0 has set the key; raise if it failed."""
        with _lost_as_error():
            while not self.store.check([key]):
                time.sleep(0.05)
            if self.store.get(key) == b"failed":
                raise RuntimeError

    def _broadcast_tensor(self, tensor: Tensor) -> Tensor:
        import torch.distributed as dist

        with _lost_as_error():
            dist.broadcast(tensor, src=0)
        return tensor

    def _all_reduce(self, tensor: Tensor) -> None:
        import torch.distributed as dist

        with _lost_as_error():
            dist.all_reduce(tensor)

    def _average(self, parameters: Sequence[Tensor], weight: float, error: FloatingPointError | None) -> None:
        """Replace gradients by the weighted sum over all processes; the last element of the tensor counts failures."""
        parts = [torch.zeros_like(p) if p.grad is None or error else p.grad * weight for p in parameters]
        flat = torch.cat([*(part.reshape(-1) for part in parts), parts[0].new_tensor([float(error is not None)])])
        self._all_reduce(flat)
        if flat[-1]:
            raise self._gather_failure(error)
        for p, mean in zip(parameters, flat[:-1].split([p.numel() for p in parameters]), strict=True):
            if p.grad is not None:
                p.grad.copy_(mean.view_as(p))

    def _all_reduce_status(
        self, metrics: Metrics, received: int | None, error: FloatingPointError | None = None
    ) -> int | None:
        """Sum metrics, signals and failures over all processes in one tensor; return the signal that one received."""
        sums, counts = metrics.sums.cpu(), metrics.counts()
        flags = [*(float(number == received) for number in SIGNALS), float(error is not None)]
        packet = torch.cat([sums, torch.tensor([*map(float, counts), *flags], dtype=torch.float64)])
        self._all_reduce(packet)
        *signals, failed = packet[-len(flags) :].tolist()
        if failed:
            raise self._gather_failure(error)
        metrics.load_state(packet[: len(sums)], [int(n) for n in packet[len(sums) : -len(flags)].tolist()])
        return next((number for number, times in zip(SIGNALS, signals, strict=True) if times), None)

    def _gather_failure(self, error: FloatingPointError | None) -> _StoppedError:
        """Return the error of the lowest rank that has one."""
        import torch.distributed as dist

        texts: list[Any] = [None] * self.size
        with _lost_as_error():
            dist.all_gather_object(texts, None if error is None else str(error))
        return _StoppedError(next(text for text in texts if text is not None))


@contextmanager
def _lost_as_error() -> Iterator[None]:
    """Raise torch's RuntimeError of a broken connection as ProcessLostError."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessLostError("another process of this training has ended, or does not answer") from error


def launched() -> tuple[int, int]:
    """Return rank and number of processes from torchrun's environment variables; ``(0, 1)`` without them.

    Raises:
        ValueError: if they ask for several processes and do not fit each other.
    """
    rank, size = _variable("RANK", 0), _variable("WORLD_SIZE", 1)
    if rank == 0 and size == 1:
        return 0, 1  # one process needs no address
    if missing := [name for name in LAUNCHER_VARIABLES if not os.environ.get(name)]:
        are = "are" if len(missing) > 1 else "is"
        raise ValueError(f"RANK is {rank} and WORLD_SIZE is {size}, but {', '.join(missing)} {are} not set: {_ADVICE}")
    local = _variable("LOCAL_RANK", 0)
    for name, number, most in (("RANK", rank, size - 1), ("LOCAL_RANK", local, size - 1)):
        if not 0 <= number <= most:
            raise ValueError(f"{name} must be from 0 to {most}, as WORLD_SIZE is {size}, got {number}: {_ADVICE}")
    if not 0 < (port := _variable("MASTER_PORT", 0)) < 2**16:
        raise ValueError(f"MASTER_PORT must be a number from 1 to 65535, got {port}: {_ADVICE}")
    return rank, size


_ADVICE = "start with torchrun, which sets all of them, or unset them"


def _variable(name: str, default: int) -> int:
    """Return the whole number that an environment variable holds."""
    word = os.environ.get(name, "")
    if not word:
        return default
    if not (word.isascii() and word.removeprefix("-").isdigit() and len(word) < 10):
        raise ValueError(f"the environment variable {name} must be a whole number, got {word!r}: {_ADVICE}")
    if name == "WORLD_SIZE" and int(word) < 1:
        raise ValueError(f"the environment variable WORLD_SIZE must be at least 1, got {word}: {_ADVICE}")
    return int(word)


@contextmanager
def joined() -> Iterator[Processes]:
    """Connect the processes that torchrun started, and disconnect at the end; without torchrun, return `SINGLE_PROCESS`.

    Raises:
        ProcessLostError: if not all of them connect in time.

    >>> with joined() as processes:
    ...     processes.size
    1
    """
    if launched()[1] == 1:
        yield SINGLE_PROCESS
        return
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    with _lost_as_error():
        store, rank, size = next(iter(rendezvous("env://", timeout=TIMEOUT)))
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        dist.barrier()  # no process leaves, and closes its connections, before all others have theirs
    try:
        yield DistributedProcesses(store, rank, size)
    finally:
        dist.destroy_process_group()
