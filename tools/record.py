"""Take finished work into records/.

    python tools/record.py FOLDER [FOLDER ...]
    python tools/record.py --pack NAME FOLDER

A run folder goes to records/RECIPE/METHOD-seed-S (rates-METHOD-seed-S, if it is the rate twin of a spiking recipe): configuration,
metrics and environment, without weights and pictures. The folder of a check of the theorem goes to records/theorem/NAME, whole; a
study's file to records/studies. ``--pack`` puts every finished run below FOLDER into one file, records/NAME/trainings.jsonl, a
training a line.

What is there already is not overwritten. Work is refused if it is not finished, or if the code that it ran on was not a commit.
"""

import json
import shutil
import sys
from pathlib import Path

from eqprop._core.files import write_atomic
from eqprop.papers.registry import RECIPES, recipe
from eqprop.papers.reproduction.records import in_folders
from eqprop.spiking import Spiking
from eqprop.theorem.result import read
from eqprop.training.config.run import Run
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import read_run

RECORDS = Path(__file__).resolve().parent.parent / "records"


def record(path: Path) -> Path:
    """Copy one piece of work, and say where to."""
    if path.suffix == ".json":
        return study(path)
    return check(path) if (path / "experiment.json").exists() else run(path)


def run(folder: Path) -> Path:
    """A training."""
    place, run = RunFolder(folder), read_run(folder)
    if not place.is_finished():
        sys.exit(f"{folder} is not finished")
    committed(json.loads(place.environment.read_text()), folder)
    to = RECORDS / run.name / f"{rule(run)}-seed-{run.seed}"
    new(to).mkdir(parents=True)
    for file in (place.config, place.metrics, place.environment):
        shutil.copyfile(file, to / file.name)
    return to


def rule(run: Run) -> str:
    """How it was trained; of the rate twin of a spiking recipe, that too."""
    spikes = run.name in RECIPES and isinstance(recipe(run.name).model.dynamics, Spiking)
    rates = "rates-" if spikes and not isinstance(run.model.dynamics, Spiking) else ""
    return f"{rates}{run.method.lower()}"


def check(folder: Path) -> Path:
    """A check of the theorem, with its pictures."""
    result = read(folder)
    if result is None:
        sys.exit(f"{folder} is not finished")
    committed(result.environment, folder)
    return Path(shutil.copytree(folder, new(RECORDS / "theorem" / result.experiment.name)))


def study(file: Path) -> Path:
    """A computation of a paper."""
    committed(json.loads(file.read_text())["environment"], file)
    to = new(RECORDS / "studies" / file.name)
    to.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(file, to))


def pack(name: str, folder: Path) -> Path:
    """Many trainings in one file."""
    to = new(RECORDS / name / "trainings.jsonl")
    lines = []
    for training in in_folders(folder):
        committed(training.environment, f"{training.run.title} in {folder}")
        facts = {"config": json.loads(training.run.to_json()), "environment": training.environment}
        lines.append(json.dumps(facts | {"rows": training.epochs}) + "\n")
    if not lines:
        sys.exit(f"{folder} holds no finished training")
    to.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(to, "".join(lines))
    return to


def new(to: Path) -> Path:
    """A place where nothing is yet."""
    if to.exists():
        sys.exit(f"{to} is there already")
    return to


def committed(environment: dict[str, object], path: Path | str) -> None:
    """Refuse what ran on code that nobody can go back to."""
    commit = environment["commit"]
    if commit is None or str(commit).endswith("-dirty"):
        sys.exit(f"{path} ran on code that no commit holds ({commit}): run it again on a clean checkout")


def main() -> None:
    """Record everything named."""
    words = sys.argv[1:]
    if not words:
        sys.exit(__doc__)
    if words[0].startswith("--") and (words[0] != "--pack" or len(words) != 3):
        sys.exit(__doc__)
    if words[0] == "--pack":
        print(pack(words[1], Path(words[2])))
        return
    for name in words:
        print(record(Path(name)))


if __name__ == "__main__":
    main()
