"""Importing a part of the package loads no modules that it does not need."""

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
    """Modules loaded by a data set, beside torch, and all modules after the import of the plots."""
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    return [set(line.split()) for line in run.stdout.splitlines()]


def test_loading_the_digits_imports_nothing_for_downloads(loaded):
    assert "eqprop.data.loading" in loaded[0]
    assert not loaded[0] & {
        "eqprop.data.download", "PIL", "http.client", "tarfile", "urllib.request",
    }  # fmt: skip


def test_importing_the_plots_does_not_import_matplotlib(loaded):
    assert "eqprop.plots.canvas" in loaded[1]
    assert not any(name.split(".")[0] == "matplotlib" for name in loaded[1])
