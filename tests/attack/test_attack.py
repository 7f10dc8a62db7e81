"""A thousand hostile uses end well."""

import warnings

import pytest

from attack.runner import failures


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # an interrupt may meet a destructor
def test_a_thousand_hostile_uses(tmp_path, monkeypatch):
    monkeypatch.setenv("EQPROP_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        found = list(failures(1, 1000, tmp_path))
    assert not found, "\n".join(found[:10])
