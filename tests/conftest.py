"""Fixtures for every test: fixed random numbers, one thread, a local server, and small sets in place of published ones."""

import pytest
import torch

from eqprop.data.sources import SOURCES
from small_sets import loopback


@pytest.fixture(autouse=True)
def _reproducible():
    """Give every test the same random numbers, and one thread: with pytest-xdist each worker has one core."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def server():
    with loopback() as running:
        yield running


@pytest.fixture
def known(monkeypatch):
    """Replace a published data set by a small one of the same name."""

    def replace(small):
        monkeypatch.setitem(SOURCES, small.source.name, small.source)
        return small

    return replace
