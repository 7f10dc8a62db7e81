"""The work of ``eqprop reproduce``: each item is found finished, copied from the records or computed, then reported."""

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from eqprop import plots
from eqprop._core.files import DamagedError, write_atomic
from eqprop._core.measured_json import dump_measured
from eqprop.cli.commands.gdu import draw
from eqprop.cli.console import download_progress, echo, progress_counter
from eqprop.cli.errors import CommandFailedError, TrainingDivergedError
from eqprop.cli.figures import DrawingFailedError, drawable, report_failed_drawing
from eqprop.cli.runs import ExecutionOptions, train_runs
from eqprop.cli.targets import can_draw
from eqprop.data import DataError, load
from eqprop.papers.reproduction.paper import Check, Paper, Row
from eqprop.papers.reproduction.records import (
    Findings,
    Records,
    config_key,
    find_result,
    load_result,
    load_study,
    load_trainings,
)
from eqprop.papers.reproduction.report import build_report
from eqprop.papers.reproduction.studies import Study
from eqprop.papers.reproduction.tables import angle_panels
from eqprop.report import render_html, render_markdown
from eqprop.theorem import GDUReport
from eqprop.theorem.experiment import RANDOM
from eqprop.theorem.report import layer_errors
from eqprop.theorem.result import Result, run_experiment, write_result
from eqprop.training.environment import environment
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import create_run, read_history, read_run

__all__ = ["Reproduction"]

_FINISHED = "already finished"
_COPIED = "copied from the records"


@dataclass(frozen=True)
class Reproduction:
    """A reproduction of a paper.

    Each ``run_…`` method completes one item, adds it to ``found``, and returns a few words on how it was completed.

    Args:
        paper: the paper.
        found: what is finished so far, and the folder of the report.
        records: folders of records.
        device: where to compute.
        root: folder in which to look for data sets first.
        quick: compute everything that can be computed; the records are used only where data are missing.
        undrawn: figures that could not be drawn.
    """

    paper: Paper
    found: Findings
    records: list[Path]
    device: str
    root: str | None
    quick: bool
    undrawn: list[Path] = field(default_factory=list)

    def trainings(self, *, records: bool = True) -> Records:
        """Return the finished trainings in the folder of the report and, if asked for, in the records."""
        own = [self.found.folder] if self.found.folder.is_dir() else []
        return load_trainings([*own, *self.records] if records else own)

    def run_check(self, check: Check) -> str:
        """Complete a theorem experiment."""
        name = check.experiment.name
        place = self.found.folder / "theorem" / name
        said = _FINISHED
        if load_result(place, check) is None or (drawable() and not (place / "plots" / "increments.svg").exists()):
            first = None if self.quick else self._copy_result(check, place)
            said = first or self._attempt(partial(self._compute_check, check, place), name, check.experiment.data.name)
            if name in self.found.reasons and (instead := self._copy_result(check, place)):
                said = f"{said}; {instead}"
        if (result := load_result(place, check)) is not None:
            self.found.results[name] = result
        return said

    def _copy_result(self, check: Check, place: Path) -> str | None:
        for root in self.records:
            if (source := find_result(check, root)) is not None:
                part = place.with_name(f".{place.name}.part")
                for old in (place, part):
                    shutil.rmtree(old, ignore_errors=True)
                shutil.copytree(source, part)
                part.rename(place)  # atomic: an interrupted copy must not look like a result
                return _COPIED
        return None

    def _compute_check(self, check: Check, place: Path) -> str:
        report, result = self._conduct(check)
        write_result(result, place)
        if drawable():
            self._draw(place, partial(draw, report, result, place))
        return f"done in {result.seconds:.1f} s"

    def _conduct(self, check: Check) -> tuple[GDUReport, Result]:
        experiment = replace(check.experiment, data=replace(check.experiment.data, root=self.root))
        model = experiment.build(self.device)
        batch = experiment.batch(model, download_progress(experiment.data.name))
        with progress_counter(f"{experiment.name}, free phase") as progress:
            return run_experiment(experiment, model, batch, check.betas, progress=progress)

    def draw_check_figures(self) -> None:
        """Draw the figures of several checks that do not exist yet; they need curves, which the records do not hold."""
        checks = {check.experiment.name: check for check in self.paper.checks}
        for figure in self.paper.check_figures:
            path = self.found.folder / "plots" / figure.name
            if drawable() and not path.with_name(f"{path.name}.svg").exists():
                columns = {head: checks[name] for head, name in figure.checks.items()}
                data = next(iter(columns.values())).experiment.data.name
                echo(f"{figure.name}: {self._attempt(partial(self._draw_columns, columns, path), figure.name, data)}")

    def _draw_columns(self, columns: dict[str, Check], path: Path) -> str:
        reports = {head: self._conduct(check)[0] for head, check in columns.items()}
        return "drawn" if self._draw(path, partial(plots.side_by_side, reports, path)) else "not drawn"

    def run_study(self, study: Study) -> str:
        """Complete a study."""
        place = self.found.folder / "studies" / f"{study.name}.json"
        for file in (place, *(file for root in self.records for file in sorted(root.rglob(place.name)))):
            if (facts := load_study(file, study)) is not None:
                self.found.studies[study.name] = facts
                if file == place:
                    return _FINISHED
                place.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(place, file.read_bytes())
                return _COPIED
        return self._attempt(partial(self._compute_study, study, place), study.name, "mnist")

    def _compute_study(self, study: Study, place: Path) -> str:
        start = time.monotonic()
        with progress_counter(study.name) as progress:
            found = study.compute(self.device, self.root, progress)
        seconds = time.monotonic() - start
        facts = {"key": study.key, "found": found, "seconds": seconds, "environment": environment(self.device)}
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, dump_measured(facts))
        self.found.studies[study.name] = facts
        return f"done in {seconds:.1f} s"

    def run_training(self, row: Row, seeds: Sequence[int]) -> str:
        """Train the seeds of a row that are not finished."""
        if not seeds:
            return _FINISHED
        return self._attempt(partial(self._train, row, seeds), row.command, row.run.data.name)

    def _train(self, row: Row, seeds: Sequence[int]) -> str:
        top = self.found.folder / "trainings" / row.folder
        folders = [top / f"seed-{seed}" for seed in seeds]
        for seed, folder in zip(seeds, folders, strict=True):
            if not RunFolder(folder).config.exists():
                create_run(row.with_seed(seed), folder, self.device)
            elif read_run(folder).to_json() != row.with_seed(seed).to_json():
                raise FileExistsError(
                    f"{folder} holds a training with another configuration: set another folder with --out"
                )
            _check_undamaged(RunFolder(folder))
        options, diverged, left = ExecutionOptions(device=self.device, plots=False), [], folders
        while left:
            try:
                groups = [[RunFolder(folder)] for folder in left]
                train_runs(groups, options, self.root, self.found.folder, again="the same `eqprop reproduce` command")
                break
            except TrainingDivergedError as stop:  # the seeds before it are finished: go on with those after it
                number = folders.index(stop.folder)
                self.found.diverged.setdefault(row.command, []).append(seeds[number])
                diverged.append(f"seed {seeds[number]} diverged: {stop.reason}")
                left = folders[number + 1 :]
        return "; ".join(["trained"] * (len(diverged) < len(folders)) + diverged)

    def _draw(self, path: Path, work: Callable[[], None]) -> bool:
        """Draw a figure; what goes wrong is reported, and everything else goes on. Return whether it went well."""
        try:
            with report_failed_drawing(path, "its results are written"):
                work()
        except DrawingFailedError as error:
            sys.stderr.write(f"eqprop: {error}\n")
            self.undrawn.append(path)
            return False
        return True

    def _attempt(self, work: Callable[[], str], key: str, data: str) -> str:
        # Where the data set is missing, the report says so, and the other items are still computed.
        try:
            return work()
        except (FileNotFoundError, DataError) as error:
            if _is_available(data, self.root):
                raise  # something else is missing
            self.found.reasons[key] = (
                f"not run: {data} is not on this machine (`eqprop data fetch {data}`)"
                if isinstance(error, FileNotFoundError)
                else f"not run: {data} could not be read or fetched (`eqprop data` shows details)"
            )
            return f"not run: {str(error).splitlines()[0]}"
        except DamagedError as error:
            self.found.reasons[key] = "not run: its folder is damaged"
            return f"not run: {str(error).splitlines()[0]}"
        except FloatingPointError as error:
            raise CommandFailedError(f"{key}: {error}") from None

    def write_report(self, checks: list[Check], trained: Iterable[Row]) -> None:
        """Write ``report.md`` and ``report.html`` with all figures.

        Args:
            checks: the theorem experiments to report.
            trained: rows outside the paper's table and figures whose trainings are reported.
        """
        paper, found, finished = self.paper, self.found, self.trainings()
        for row in (*paper.rows, *trained, *paper.figure_rows()):
            if trainings := finished.get(config_key(row.run)):
                found.trainings[row.command] = trainings
        found.folder.mkdir(parents=True, exist_ok=True)
        if can_draw():
            self._draw_figures()
        text = render_markdown(build_report(paper, found, checks, list(paper.quick_rows) * self.quick), found.folder)
        write_atomic(found.folder / "report.md", text)
        write_atomic(found.folder / "report.html", render_html(text, found.folder))
        missing = [row.command for row in paper.rows if row.command not in (*found.trainings, *found.diverged)]
        if missing:
            echo(f"{len(missing)} rows of the table are not run yet, such as `{missing[0]}`")
        echo(f"report in {found.folder / 'report.html'} and {found.folder / 'report.md'}")

    def _draw_figures(self) -> None:
        paper, found, folder = self.paper, self.found, self.found.folder / "plots"
        if errors := {name: layer_errors(result.summary) for name, result in found.results.items()}:
            self._draw(folder / "errors", partial(plots.relative_errors, errors, folder / "errors"))
        for name in dict.fromkeys(row.run.name for row in paper.rows):
            rows = [row for row in paper.rows if row.run.name == name and row.command in found.trainings]
            if rows:
                curves = {row.method: [t.epochs for t in found.trainings[row.command]] for row in rows}
                path = folder / f"training-{name}"
                self._draw(path, partial(plots.error_curves, curves, path, name))
        for sweep in paper.sweeps:
            if errors := found.sweep_errors(sweep):
                path, published = folder / sweep.name, sweep.published
                self._draw(path, partial(plots.sweep, errors, path, axis=sweep.axis, published=published))
        for figure in paper.angle_figures:
            panels = angle_panels(figure, found)
            if any(own for own, _ in panels.values()):
                path, published = folder / figure.name, "published (from memory and the figure)"
                self._draw(path, partial(plots.error_by_angle, panels, path, published=published))
        for study in paper.studies:
            if study.name in found.studies:
                path, facts = folder / study.name, found.studies[study.name]["found"]
                self._draw(path, partial(study.draw, facts, path))


def _check_undamaged(place: RunFolder) -> None:
    """Raise DamagedError if a run cannot be resumed, or counts as finished and has no valid rows."""
    try:
        rows = read_history(place)
        is_finished = place.is_finished()
    except DamagedError as error:
        raise DamagedError(f"{error}; remove {place.path} to train it again") from None
    if is_finished and "test_error" not in rows[-1]:
        raise DamagedError(f"{place.metrics} has no test error; remove {place.path} to train it again")


def _is_available(data: str, root: str | None) -> bool:
    try:
        return data == RANDOM or bool(load(data, root))
    except (FileNotFoundError, DataError):
        return False
