"""Processes forked from one that has loaded everything, one by itself or a team that trains together.

Each calls a function that all can import, begins at once, and is stopped and killed like any other.
"""

import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import torch
from torch.distributed import TCPStore

LOADED = [
    "eqprop.cli.commands.train", "eqprop.plots", "numpy.random", "safetensors.torch", "torch._dynamo", "torch.distributed",
    "torch.distributed.run",    "torch.utils.data",
]  # fmt: skip
"""What takes long to load; each process finds it done."""

LIMIT = 120
"""Seconds that they have."""


def meeting() -> TCPStore:
    """Where a team meets, at a free port; like torchrun's, it outlives the team."""
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


@dataclass(frozen=True)
class End:
    """How a process ended: what its function returned, or the error that it raised, or its exit code if it was killed."""

    value: object = None
    error: str = ""
    code: int = 0
    where: str = field(default="", compare=False)

    def done(self):
        assert (self.error, self.code) == ("", 0), self
        return self.value


class Running:
    """Processes that have begun."""

    def __init__(self, environments: Sequence[dict[str, str]], function: Callable, arguments: Sequence):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LOADED)
        self.pipes, self.processes = [], []
        for environment in environments:
            here, there = context.Pipe(duplex=False)
            words = (there, environment, function, arguments)
            self.processes.append(context.Process(target=child, args=words, daemon=True))
            self.processes[-1].start()
            there.close()
            self.pipes.append(here)

    def send(self, rank: int, number: int) -> None:
        """A signal to one of them."""
        os.kill(self.processes[rank].pid, number)

    def ends(self) -> list[End]:
        """How all of them end, within the limit."""
        found = []
        for process, pipe in zip(self.processes, self.pipes, strict=True):
            assert pipe.poll(LIMIT), "a process hangs"
            try:
                end = pickle.loads(pipe.recv_bytes())
            except EOFError:
                end = None
            process.join(LIMIT)
            found.append(end or End(code=process.exitcode))
        return found

    def stop(self) -> None:
        """Leave nothing behind."""
        for process, pipe in zip(self.processes, self.pipes, strict=True):
            process.kill()
            process.join()
            pipe.close()


def child(pipe: Connection, environment: dict[str, str], function: Callable, arguments: Sequence) -> None:
    """What each of them does."""
    os.environ |= environment
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    torch.manual_seed(int(environment.get("RANK", 0)))  # alike by what is told, not by chance
    try:
        end = End(function(*arguments))
    except BaseException as error:
        end = End(error=f"{type(error).__name__}: {error}", where=traceback.format_exc())
    pipe.send_bytes(pickle.dumps(end))  # not `send`, which shares the memory of tensors with a process that has gone
    pipe.close()


@contextmanager
def at_work(environments: Sequence[dict[str, str]], function: Callable, *arguments):
    """Processes while they are at work."""
    begun = Running(environments, function, arguments)
    try:
        yield begun
    finally:
        begun.stop()


@contextmanager
def running(size: int, function: Callable, *arguments):
    """A team while it is at work."""
    store = meeting()
    environment = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    environment["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    with at_work([environment | {"RANK": str(rank)} for rank in range(size)], function, *arguments) as begun:
        yield begun


@contextmanager
def another(function: Callable, *arguments):
    """One process, by itself, while it is at work."""
    with at_work([{}], function, *arguments) as begun:
        yield begun


def elsewhere(function: Callable, *arguments) -> End:
    """How it ends."""
    with another(function, *arguments) as begun:
        (end,) = begun.ends()
    return end


def team(size: int, function: Callable, *arguments) -> list[End]:
    """How the processes end, by rank."""
    with running(size, function, *arguments) as begun:
        return begun.ends()
