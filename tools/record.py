"""Copy finished work into records/.

    python tools/record.py FOLDER_OR_FILE [FOLDER_OR_FILE ...]
    python tools/record.py --pack NAME FOLDER

A run folder is copied to records/RECIPE/METHOD-seed-S, or to rates-METHOD-seed-S if it trains the rate model of a spiking recipe:
configuration, metrics and environment, without weights and figures. The folder of a theorem experiment is copied to
records/theorem/NAME with all files, the file of a study to records/studies. ``--pack`` writes all finished runs below FOLDER
into one file, records/NAME/trainings.jsonl, one training a line.

Existing records are never overwritten. Work is refused if it is not finished, or if the code that it ran on was not committed.
"""

import json
import shutil
import sys
from pathlib import Path

from eqprop._core.files import write_atomic
from eqprop.papers import RECIPES, recipe
from eqprop.papers.reproduction.records import load_run_folders
from eqprop.theorem.result import read_result
from eqprop.training.config.run import Run
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import read_run

RECORDS = Path(__file__).resolve().parent.parent / "records"


def record(path: Path) -> Path:
    """Copy a run folder, the folder of an experiment or the file of a study; return the new path."""
    if path.suffix == ".json":
        return _record_study(path)
    return _record_experiment(path) if (path / "experiment.json").exists() else _record_run(path)


def _record_run(folder: Path) -> Path:
    place, run = RunFolder(folder), read_run(folder)
    if not place.is_finished():
        sys.exit(f"{folder} is not finished")
    _check_committed(json.loads(place.environment.read_text()), folder)
    target = RECORDS / run.name / f"{method_label(run)}-seed-{run.seed}"
    _check_new(target).mkdir(parents=True)
    for file in (place.config, place.metrics, place.environment):
        shutil.copyfile(file, target / file.name)
    return target


def method_label(run: Run) -> str:
    """Return the method as the beginning of a folder's name: "ep", or "rates-ep" for the rate model of a spiking recipe."""
    spiking = run.name in RECIPES and recipe(run.name).model.dynamics.spiking
    return ("rates-" if spiking and not run.model.dynamics.spiking else "") + run.method.lower()


def _record_experiment(folder: Path) -> Path:
    result = read_result(folder)
    if result is None:
        sys.exit(f"{folder} is not finished")
    _check_committed(result.environment, folder)
    return Path(shutil.copytree(folder, _check_new(RECORDS / "theorem" / result.experiment.name)))


def _record_study(file: Path) -> Path:
    _check_committed(json.loads(file.read_text())["environment"], file)
    target = _check_new(RECORDS / "studies" / file.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(file, target))


def pack(name: str, folder: Path) -> Path:
    """Write all finished runs below a folder into one file; return its path."""
    target = _check_new(RECORDS / name / "trainings.jsonl")
    lines = []
    for training in load_run_folders(folder):
        _check_committed(training.environment, f"{training.run.title} in {folder}")
        facts = {"config": json.loads(training.run.to_json()), "environment": training.environment}
        lines.append(json.dumps(facts | {"rows": training.epochs}) + "\n")
    if not lines:
        sys.exit(f"{folder} holds no finished training")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, "".join(lines))
    return target


def _check_new(target: Path) -> Path:
    if target.exists():
        sys.exit(f"{target} exists already")
    return target


def _check_committed(environment: dict[str, object], path: Path | str) -> None:
    commit = environment["commit"]
    if commit is None or str(commit).endswith("-dirty"):
        sys.exit(f"{path} ran on uncommitted code ({commit}): run it again on a clean checkout")


def main() -> None:
    """Record everything named on the command line."""
    words = sys.argv[1:]
    if not words or (words[0].startswith("--") and (words[0] != "--pack" or len(words) != 3)):
        sys.exit(__doc__)
    if words[0] == "--pack":
        print(pack(words[1], Path(words[2])))
        return
    for name in words:
        print(record(Path(name)))


if __name__ == "__main__":
    main()
