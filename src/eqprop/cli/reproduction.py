"""The work of a reproduction, item by item: each is there, is taken from the records, or is done; what cannot be says why."""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from eqprop import plots
from eqprop._core.files import write_atomic
from eqprop.cli.commands.gdu import draw
from eqprop.cli.console import download_progress, echo, progress_counter
from eqprop.cli.errors import CommandFailedError, TrainingDivergedError
from eqprop.cli.figures import drawable
from eqprop.cli.runs import ExecutionOptions, train_runs
from eqprop.cli.targets import can_draw
from eqprop.data import DataError, load
from eqprop.papers.ernoult2020.error_by_angle import panels, trained_rules
from eqprop.papers.reproduction.paper import Check, Columns, Paper, Row
from eqprop.papers.reproduction.records import Records, find_result, key, result_in, study_in
from eqprop.papers.reproduction.report import account
from eqprop.papers.reproduction.studies import Study
from eqprop.papers.reproduction.tables import Findings
from eqprop.report import html, markdown
from eqprop.theorem import GDUReport
from eqprop.theorem.experiment import RANDOM
from eqprop.theorem.report import layer_errors
from eqprop.theorem.result import Result, conduct, write
from eqprop.training.environment import environment
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import create_run, read_run

__all__ = ["Work", "checked", "columns", "studied", "tell", "trained"]


@dataclass(frozen=True)
class Work:
    """How a reproduction is carried out, and what has been found.

    Attributes:
        found: what is there by now, and where.
        records: folders of records.
        device: where to compute.
        root: a folder to look for the data in first.
        quick: whether only that is taken from the records which cannot be done.
    """

    found: Findings
    records: list[Path]
    device: str
    root: str | None
    quick: bool

    @property
    def here(self) -> list[Path]:
        """The folder of this reproduction, if it has begun."""
        return [self.found.folder] if self.found.folder.is_dir() else []

    @property
    def everywhere(self) -> list[Path]:
        """Where finished work may be."""
        return [*self.here, *self.records]

    def take(self, shelf: Records, rows: Iterable[Row]) -> None:
        """Note which trainings of some rows are finished."""
        for row in rows:
            if there := shelf.get(key(row.run)):
                self.found.trainings[row.command] = there


def checked(check: Check, work: Work) -> str:
    """See that a check is done, and say how."""
    name = check.experiment.name
    place = work.found.folder / "theorem" / name
    said = "is there"
    if result_in(place, check) is None or (drawable() and not (place / "plots" / "increments.svg").exists()):
        first = None if work.quick else taken(check, place, work)
        said = first or attempt(lambda: carried_out(check, place, work), name, check.experiment.data.name, work)
        if name in work.found.reasons and (instead := taken(check, place, work)):
            said = f"{said}; {instead}"
    if (result := result_in(place, check)) is not None:
        work.found.results[name] = result
    return said


def taken(check: Check, place: Path, work: Work) -> str | None:
    """Copy a result out of the records, if it is there."""
    for root in work.records:
        if (source := find_result(check, root)) is not None:
            draft = place.with_name(f".{place.name}.part")
            for old in (place, draft):
                shutil.rmtree(old, ignore_errors=True)
            shutil.copytree(source, draft)
            draft.rename(place)  # so that a kill leaves all of it or nothing
            return "taken from the records"
    return None


def carried_out(check: Check, place: Path, work: Work) -> str:
    """Do a check, and leave result and pictures."""
    report, result = conducted(check, work)
    if drawable():
        draw(report, result, place)
    write(result, place)
    return f"done in {result.seconds:.1f} s"


def conducted(check: Check, work: Work) -> tuple[GDUReport, Result]:
    """Do a check."""
    asked = replace(check.experiment, data=replace(check.experiment.data, root=work.root))
    model = asked.build(work.device)
    batch = asked.batch(model, download_progress(asked.data.name))
    with progress_counter(f"{asked.name}, free phase") as progress:
        return conduct(asked, model, batch, check.betas, progress=progress)


def columns(paper: Paper, work: Work) -> None:
    """Draw checks side by side, which takes more of them than the records hold, where these pictures are not there yet."""
    by_name = {check.experiment.name: check for check in paper.checks}
    for picture in paper.columns:
        path = work.found.folder / "plots" / picture.name
        if drawable() and not path.with_name(f"{path.name}.svg").exists():
            data = next(iter(by_name[name] for name in picture.checks.values())).experiment.data.name
            done = attempt(partial(beside, picture, path, by_name, work), picture.name, data, work)
            echo(f"{picture.name}: {done}")


def beside(picture: Columns, path: Path, checks: dict[str, Check], work: Work) -> str:
    """Do some checks and draw them side by side."""
    reports = {head: conducted(checks[name], work)[0] for head, name in picture.checks.items()}
    plots.side_by_side(reports, path)
    return "drawn"


def studied(study: Study, work: Work) -> str:
    """See that a computation is done, and say how."""
    place = work.found.folder / "studies" / f"{study.name}.json"
    for file in (place, *(file for root in work.records for file in sorted(root.rglob(place.name)))):
        if (facts := study_in(file, study)) is not None:
            work.found.studies[study.name] = facts
            said = "is there" if file == place else "taken from the records"
            if file != place:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
            return said
    return attempt(partial(computed, study, place, work), study.name, "mnist", work)


def computed(study: Study, place: Path, work: Work) -> str:
    """Do a computation, and keep it."""
    begun = time.monotonic()
    with progress_counter(study.name) as tell:
        found = study.compute(work.device, work.root, tell)
    seconds = time.monotonic() - begun
    facts = {"key": study.key, "found": found, "seconds": seconds, "environment": environment(work.device)}
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(place, json.dumps(facts, indent=2, allow_nan=False) + "\n")
    work.found.studies[study.name] = facts
    return f"done in {seconds:.1f} s"


def trained(row: Row, seeds: Sequence[int], work: Work) -> str:
    """Train some seeds of a row, and say so."""
    if not seeds:
        return "is there"
    return attempt(partial(trainings, row, seeds, work), row.command, row.run.data.name, work)


def trainings(row: Row, seeds: Sequence[int], work: Work) -> str:
    """Train some seeds, or go on with them; one that diverges is noted, and the rest go on."""
    top = work.found.folder / "trainings" / row.folder
    folders = [top / f"seed-{seed}" for seed in seeds]
    for seed, folder in zip(seeds, folders, strict=True):
        if not RunFolder(folder).config.exists():
            create_run(row.seed(seed), folder, work.device)
        elif read_run(folder).to_json() != row.seed(seed).to_json():
            raise FileExistsError(f"{folder} holds another training: name another folder by --out")
    lost, left = [], folders
    while left:
        try:
            train_runs(
                [[folder] for folder in left],
                ExecutionOptions(device=work.device, plots=False),
                work.root,
                work.found.folder,
            )
            break
        except TrainingDivergedError as stop:
            seed = seeds[folders.index(stop.folder)]
            work.found.diverged.setdefault(row.command, []).append(seed)
            lost.append(f"seed {seed} diverged: {stop.reason}")
            left = folders[folders.index(stop.folder) + 1 :]
    return "; ".join(["trained"] * (len(lost) < len(folders)) + lost)


def attempt(work: Callable[[], str], key: str, data: str, state: Work) -> str:
    """Do some work; if its data are not to be had, the account says so, and the rest goes on."""
    try:
        return work()
    except (FileNotFoundError, DataError) as error:
        if available(data, state.root):
            raise  # something else is missing
        state.found.reasons[key] = (
            f"not run: {data} is not on this machine (`eqprop data fetch {data}`)"
            if isinstance(error, FileNotFoundError)
            else f"not run: {data} could not be read or fetched (`eqprop data` tells more)"
        )
        return f"not run: {str(error).splitlines()[0]}"
    except FloatingPointError as error:
        raise CommandFailedError(f"{key}: {error}") from None


def available(data: str, root: str | None) -> bool:
    """Whether a data set is there, or needs not be."""
    try:
        return data == RANDOM or bool(load(data, root))
    except (FileNotFoundError, DataError):
        return False


def tell(paper: Paper, work: Work, checks: list[Check], reduced: list[Row]) -> None:
    """Write the account."""
    found = work.found
    found.folder.mkdir(parents=True, exist_ok=True)
    if can_draw():
        pictures(paper, found)
    document = account(paper, found, checks, reduced)
    write_atomic(found.folder / "report.md", markdown(document, found.folder))
    write_atomic(found.folder / "report.html", html(document))
    owed = [
        row.command for row in paper.rows if not found.trainings.get(row.command) and row.command not in found.diverged
    ]
    if owed:
        echo(f"{len(owed)} rows of the table are not run yet, such as `{owed[0]}`")
    echo(f"account in {found.folder / 'report.html'} and {found.folder / 'report.md'}")


def pictures(paper: Paper, found: Findings) -> None:
    """Those of several experiments or trainings."""
    at = found.folder / "plots"
    if errors := {name: layer_errors(result.summary) for name, result in found.results.items()}:
        plots.relative_errors(errors, at / "errors")
    for name in dict.fromkeys(row.run.name for row in paper.rows):
        rows = [row for row in paper.rows if row.run.name == name and found.trainings.get(row.command)]
        if rows:
            curves = {row.by: [t.epochs for t in found.trainings[row.command]] for row in rows}
            plots.error_curves(curves, at / f"training-{name}", name)
    for sweep in paper.sweeps:
        if errors := found.errors(sweep):
            plots.sweep(errors, at / sweep.name, axis=sweep.axis, published=sweep.known)
    for figure in paper.by_angle:
        if trained_rules(figure, found):
            plots.error_by_angle(panels(figure, found), at / figure.name, published="published (recalled, digitised)")
    for study in paper.studies:
        if study.name in found.studies:
            study.draw(found.studies[study.name]["found"], at / study.name)
