"""What an import loads, which is no more than what is used."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, torch
before = set(sys.modules)
import eqprop.data
eqprop.data.load("digits")
print(*set(sys.modules) - before)
import eqprop.plots
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def loaded() -> list[set[str]]:
    """By a data set, beside torch; and by then with the pictures."""
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    return [set(line.split()) for line in run.stdout.splitlines()]


def test_only_what_is_used_is_imported(loaded):
    assert "eqprop.data.loading" in loaded[0]
    assert not loaded[0] & {
        "eqprop.data.download", "eqprop.data.packages", "PIL", "http.client", "tarfile", "urllib.request",
    }  # fmt: skip


def test_importing_the_pictures_imports_no_matplotlib(loaded):
    assert "eqprop.plots.canvas" in loaded[1]
    assert not any(name.split(".")[0] == "matplotlib" for name in loaded[1])
