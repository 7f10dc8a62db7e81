"""The README's figures on the theorem are those of the records, and the records are of the recipes' experiments."""

import json
import re
from pathlib import Path
from statistics import mean

import pytest

from eqprop.papers.catalog import PAPERS
from eqprop.papers.registry import EXPERIMENTS
from eqprop.papers.reproduction.records import find_result, study_in
from eqprop.theorem.result import INITIAL, read_result

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ROWS = re.findall(r"^\| `([\w-]+)` \| (\d+ \| \d+ \| .*) \|$", README, re.MULTILINE)
FOLDERS = sorted(path.parent for path in (ROOT / "records/theorem").rglob("experiment.json"))


@pytest.mark.parametrize(("name", "cells"), ROWS)
def test_a_row_of_the_readme_is_that_of_the_records(name, cells):
    result = read_result(ROOT / "records/theorem" / name)
    assert result is not None
    s = result.summary
    populations = max(facts["relative_error"] for facts in s["populations"].values())
    weights = max(facts["relative_error"] for facts in s["parameters"].values() if facts["weight"])
    failing = ", ".join(a["name"] for a in s["assumptions"] if not a["holds"]) or "none"
    start = f"{s['free_steps']} | {s['nudged_steps']} | {s['beta']:g}"
    seconds = f"{result.seconds:.2g}" if result.seconds < 100 else f"{result.seconds:.0f}"
    assert cells == f"{start} | {populations:.2g} | {weights:.2g} | {failing} | {seconds}"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_record_is_of_the_recipe_of_its_name(folder):
    result = read_result(folder)
    assert result is not None
    assert result.experiment == EXPERIMENTS[folder.name]()
    assert result.weights == INITIAL
    assert not result.environment["commit"].endswith("-dirty")


@pytest.mark.parametrize("paper", PAPERS.values(), ids=list(PAPERS))
def test_a_reproduction_finds_its_checks_and_studies(paper):
    for check in paper.checks:
        assert find_result(check, ROOT / "records") is not None
    for study in paper.studies:
        assert study_in(ROOT / f"records/studies/{study.name}.json", study) is not None


def test_the_angles_that_the_readme_quotes():
    found = json.loads((ROOT / "records/studies/update-angles.json").read_text())["found"]
    own = [f"{mean(found[rule]['without_first']):.1f}" for rule in ("EP-1h", "EP-2h", "C-EP-1h", "C-EP-2h")]
    assert f"comes out at {own[0]}, {own[1]}, {own[2]} and {own[3]} degrees" in README.replace("\n", " ")


def test_the_errors_at_the_smallest_beta_that_the_readme_quotes():
    largest = []
    for name in ("toy-exact", "eb-1h-exact", "p-1h-exact"):
        result = read_result(ROOT / "records/theorem" / name)
        assert result is not None
        least = min(result.betas, key=lambda summary: summary["beta"])
        assert least["beta"] == 1e-5
        both = [*least["populations"].values(), *(p for p in least["parameters"].values() if p["weight"])]
        largest.append(f"{max(facts['relative_error'] for facts in both):.1e}")
    assert f"are {largest[0]}, {largest[1]} and {largest[2]} (" in README.replace("\n", " ")
