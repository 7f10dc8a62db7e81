"""What docs/performance.md counts is what the library counts."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

import eqprop as ep
from eqprop._core.memory import peak_bytes
from eqprop.bench import Task, extract_phases, make_candidates, multiply_adds
from eqprop.bench.candidates import make_estimator_step
from eqprop.papers.registry import recipe

TEXT = (Path(__file__).parents[2] / "docs/performance.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| `")]
COUNTS = [(name.strip("`"), *cells) for name, *cells in ROWS if len(cells) == 7]
BYTES = [(name.strip("`"), int(batch), cells) for name, batch, *cells in ROWS if len(cells) == 5 and batch.isdigit()]


def whole(cell: str) -> int:
    return int(cell.replace(",", ""))


@pytest.mark.parametrize(("name", "free", "nudged", "copies", "first", "step", "training", "times"), COUNTS)
def test_products_and_convolutions(name, free, nudged, copies, first, step, training, times):
    run = recipe(name)
    phases, model = extract_phases(run), run.build()
    assert (phases.free.steps, phases.nudged.steps, phases.copies) == (int(free), int(nudged), int(copies))
    parts = Task(run, phases, 1).arithmetic(model)
    assert multiply_adds(model, parts) == whole(training)
    assert multiply_adds(model, parts[:1]) == whole(first)
    assert multiply_adds(model, [replace(parts[1], times=1)]) == whole(step)
    backpropagation = 2 * whole(first) + 3 * whole(step) / 2  # the input wants no gradient
    assert float(times) == pytest.approx(whole(training) / backpropagation, rel=0.02)


@pytest.mark.parametrize(("name", "batch", "cells"), BYTES)
def test_bytes(name, batch, cells):
    run = recipe(name)
    task = Task(run, extract_phases(run), batch)
    makers = make_candidates(task) | {"all": make_estimator_step(task, ep.BPTT(task.phases.free))}
    found = [peak_bytes(makers[label]()) / 2**20 for label in ("EP", "implicit", "BPTT", "all", "backprop")]
    assert found == pytest.approx([float(cell) for cell in cells], abs=0.006)


def test_imagenet_on_paper():
    """The sizes of VGG-11, by its definition: channels, pixels of what is convolved, and what follows from them."""
    channels, pixels = (3, 64, 128, 256, 256, 512, 512, 512, 512), (224, 112, 56, 56, 28, 28, 14, 14)
    convolved = [9 * a * b * n**2 for (a, b), n in zip(pairwise(channels), pixels, strict=True)]
    dense = 512 * 49 * 1000
    step = 2 * (sum(convolved[1:]) + dense)
    training = convolved[0] + (60 + 2 * 20) * step + convolved[0] + 2 * (sum(convolved[1:]) + dense)
    backpropagation = 2 * convolved[0] + 3 * (sum(convolved[1:]) + dense)
    units = [
        channels[1] * 112**2,
        128 * 56**2,
        256 * 56**2,
        256 * 28**2,
        512 * 28**2,
        512 * 14**2,
        512 * 14**2,
        512 * 7**2,
        1000,
    ]
    weights = sum(9 * a * b + b for a, b in pairwise(channels)) + dense + 1000
    for number, unit in (
        (convolved[0] / 1e9, "0.087 G"),
        (step / 1e9, "14.85 G"),
        (training / 1e12, "1.50 T"),
        (backpropagation / 1e9, "22.4 G"),
        (weights / 1e6, "34.3 M"),
        (sum(units) / 1e6, "2.84 M"),
        (4 * weights / 1e6, "137 MB"),
        (training / backpropagation, "67 times"),
        (2 * training * 1.281e6 / 1e18, "3.8 x 10^18"),
        (90 * 2 * training * 1.281e6 / 1e20, "3.5 x 10^20"),
        (90 * 2 * training * 1.281e6 / 30e12 / 86400, "| 133 |"),
    ):
        assert unit in TEXT
        digits = re.search(r"[\d.]+", unit)[0]
        assert f"{number:.{len(digits.partition('.')[2])}f}" == digits, unit


def test_every_table_is_there():
    assert (len(COUNTS), len(BYTES)) == (6, 5)
