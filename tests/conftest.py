import pytest
import torch

from eqprop.data.sources import SOURCES
from small_sets import loopback


@pytest.fixture(autouse=True)
def _reproducible():
    """Every test draws the same numbers whatever ran before it, and the tiny networks run on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def server():
    with loopback() as running:
        yield running


@pytest.fixture
def known(monkeypatch):
    """Put a small set in the place of a published one."""

    def replace(small):
        monkeypatch.setitem(SOURCES, small.source.name, small.source)
        return small

    return replace
