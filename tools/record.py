"""Take finished runs into records/: configuration, metrics and environment, without weights and pictures.

    python tools/record.py RUN_FOLDER [RUN_FOLDER ...]

A run goes to records/RECIPE/METHOD-seed-S. What is there already is not overwritten. A run folder is refused if it is not
finished, or if the code that it ran on was not a commit.
"""

import json
import shutil
import sys
from pathlib import Path

from eqprop.training.folder import Folder
from eqprop.training.session import finished, read_run

RECORDS = Path(__file__).resolve().parent.parent / "records"


def record(folder: Path) -> Path:
    """Copy one run, and say where to."""
    place, run = Folder(folder), read_run(folder)
    commit = json.loads(place.environment.read_text())["commit"]
    if not finished(place):
        sys.exit(f"{folder} is not finished")
    if commit is None or commit.endswith("-dirty"):
        sys.exit(f"{folder} ran on code that no commit holds ({commit}): run it again on a clean checkout")
    to = RECORDS / run.name / f"{run.method.lower()}-seed-{run.seed}"
    to.mkdir(parents=True)
    for file in (place.config, place.metrics, place.environment):
        shutil.copyfile(file, to / file.name)
    return to


def main() -> None:
    """Record every folder named."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name in sys.argv[1:]:
        print(record(Path(name)))


if __name__ == "__main__":
    main()
