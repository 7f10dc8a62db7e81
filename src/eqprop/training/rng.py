"""Streams of random numbers: one seed and one independent stream per purpose."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["BATCH", "ESTIMATOR", "PROCESS", "REST", "WEIGHTS", "IsolatedRNG", "generator", "seeded", "stream"]

WEIGHTS, ESTIMATOR, REST, BATCH, PROCESS = 0, 1, 2, 3, 4
"""Purposes. REST is torch's default generator during a run; BATCH is a random batch in the place of data. Streams of PROCESS are
further keyed by rank, epoch and batch. The order of samples has one stream per epoch: see `eqprop.data.Batches`."""


def stream(seed: int, *purpose: int) -> int:
    """Return the seed of a purpose. NumPy guarantees that it never changes, and nearby seeds give independent streams."""
    return int(np.random.SeedSequence(seed, spawn_key=purpose).generate_state(1)[0])


def generator(seed: int, *purpose: int) -> torch.Generator:
    """Return a new CPU generator for a purpose."""
    return torch.Generator().manual_seed(stream(seed, *purpose))


@contextmanager
def seeded(seed: int, purpose: int) -> Iterator[None]:
    """Seed torch's default CPU generator, and restore its state at the end."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(stream(seed, purpose))  # `torch.manual_seed` would seed all devices
    try:
        yield
    finally:
        torch.set_rng_state(before)


class IsolatedRNG:
    """Reusable context in which torch's default CPU generator is another stream, which continues at every entry.

    Args:
        seed: seed of the stream.
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
