import pytest

from eqprop.data.sources import SOURCES
from small_sets import loopback


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
