"""Fixtures for a machine without data sets, and small data sets in the place of the published ones."""

import pytest

from small_sets import isolate, small_mnist


@pytest.fixture
def isolated(tmp_path, monkeypatch):
    """A user with an empty cache on a machine without data sets."""
    isolate(tmp_path, monkeypatch)


@pytest.fixture
def mnist(known):
    return known(small_mnist())


@pytest.fixture
def fashion(known):
    return known(small_mnist("fashion-mnist", debian_package="dataset-fashion-mnist"))


@pytest.fixture
def mirrored(known, server):
    """MNIST with a working mirror."""
    small = known(small_mnist(mirrors=[f"{server.url}/m"]))
    server.serve(small, "/m")
    return small


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("EQPROP_OFFLINE", "1")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "xdg" / "eqprop"
