"""The README's figures are those of the records, and the records' commands give their configurations."""

import re
from pathlib import Path

import pytest

import eqprop as ep
from eqprop.cli.parse import parse
from eqprop.cli.swap import swapped
from eqprop.cli.train import Train
from eqprop.recipes import PUBLISHED, recipe
from eqprop.training.folder import Folder
from eqprop.training.session import read_run
from eqprop.training.summary import summarise

ROOT = Path(__file__).parents[2]
ROW = r"^\| `([\w-]+)` \| ((?:EP|BPTT|C-EP|C-VF|SurrogateBPTT)(?:, rates)?) \| (.*) \|$"
ROWS = re.findall(ROW, (ROOT / "README.md").read_text(), re.MULTILINE)
RUNS = sorted(config.parent for config in (ROOT / "records").rglob("config.json"))
COMMANDS = re.findall(
    r"^\| `(\S+?)/?` \| `eqprop (\w+) (.*?)` \|$", (ROOT / "records/README.md").read_text(), re.MULTILINE
)


def rule(cell):
    """How folders call what a row calls "EP", or "EP, rates" where the recipe's units spike."""
    method, rates, _ = cell.partition(", rates")
    return ("rates-" if rates else "") + method.lower()


@pytest.mark.parametrize(("name", "method", "cells"), ROWS)
def test_a_row_of_the_readme_is_that_of_the_records(name, method, cells):
    runs = [folder for folder in RUNS if folder.match(f"{name}/{rule(method)}-seed-*")]
    found = summarise([Folder(folder).rows() for folder in runs])
    assert found is not None
    known = [p for p in PUBLISHED if (p.recipe, p.method) == (name, method)]
    published = f"{known[0].text} % ({known[0].train:.2f} %)" if known else "–"
    errors = [spread.percent() if spread else "–" for spread in (found.train, found.test, found.test_last)]
    assert cells.split(" | ") == [str(found.seeds), *errors, published]


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: "/".join(folder.parts[-2:]))
def test_a_record_is_whole(folder):
    run = read_run(folder)
    twin = isinstance(recipe(run.name).model.dynamics, ep.Spiking) and not isinstance(run.model.dynamics, ep.Spiking)
    cell = f"{run.method}, rates" if twin else run.method
    assert folder.parts[-2:] == (run.name, f"{rule(cell)}-seed-{run.seed}")
    assert len(Folder(folder).rows()) == run.epochs
    assert any(row[:2] == (run.name, cell) for row in ROWS)


@pytest.mark.parametrize(("record", "command", "words"), COMMANDS)
def test_a_record_has_the_configuration_of_its_command(record, command, words):
    name, *options = words.split()
    given = swapped(recipe(name), options)
    if command == "train":
        given = parse(Train, options, "eqprop train", Train(given)).run
    for folder in (run for run in RUNS if run.is_relative_to(ROOT / "records" / record)):
        run = read_run(folder)
        wanted = swapped(given, ["--estimator", run.method.lower()]) if command == "compare" else given
        assert run.model == wanted.model
        assert run.estimator == wanted.estimator
        assert run.optimiser == wanted.optimiser
        assert (run.data, run.schedule, run.epochs) == (wanted.data, wanted.schedule, wanted.epochs)


def test_every_record_has_its_command():
    named = [record for record, *_ in COMMANDS]
    assert all(any(run.is_relative_to(ROOT / "records" / record) for record in named) for run in RUNS)
    assert len(ROWS) == 19
