"""Streams of random numbers: one seed, and a stream of its own for each purpose, so that none disturbs another."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["BATCH", "ESTIMATOR", "PROCESS", "REST", "WEIGHTS", "IsolatedRNG", "generator", "seeded", "stream"]

WEIGHTS, ESTIMATOR, REST, BATCH, PROCESS = 0, 1, 2, 3, 4
"""Purposes; the rest is whatever draws from torch's default generator while a run goes on, a batch one that stands for data.
A process is one of several that train together: its streams have its rank and a moment beside their purpose.

The order of samples has streams of its own, one an epoch: see `eqprop.data.Batches`.
"""


def stream(seed: int, *purpose: int) -> int:
    """The seed of that purpose; NumPy promises that these words never change and that nearby seeds give unrelated ones."""
    return int(np.random.SeedSequence(seed, spawn_key=purpose).generate_state(1)[0])


def generator(seed: int, *purpose: int) -> torch.Generator:
    """A generator of its own on the CPU."""
    return torch.Generator().manual_seed(stream(seed, *purpose))


@contextmanager
def seeded(seed: int, purpose: int) -> Iterator[None]:
    """Seed torch's default CPU generator for a while, then put it back as it was."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(
        stream(seed, purpose)
    )  # not `torch.manual_seed`, which reaches for every device
    try:
        yield
    finally:
        torch.set_rng_state(before)


class IsolatedRNG:
    """A context in which torch's default CPU generator is another stream, which goes on from one time to the next.

    Args:
        seed: of the stream.
        purpose: see `stream`.
    """

    def __init__(self, seed: int, *purpose: int) -> None:
        self.inside = self.outside = generator(seed, *purpose).get_state()

    def __enter__(self) -> None:
        self.outside = torch.get_rng_state()
        torch.set_rng_state(self.inside)

    def __exit__(self, *exception: object) -> None:
        self.inside = torch.get_rng_state()
        torch.set_rng_state(self.outside)
