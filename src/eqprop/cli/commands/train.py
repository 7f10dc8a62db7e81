"""``eqprop train RECIPE [OPTIONS]``, ``eqprop train --resume FOLDER``."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from eqprop._core.checks import positive_int
from eqprop.cli.distributed import join_processes
from eqprop.cli.errors import UsageError, unknown
from eqprop.cli.layout import complete_runs, find_runs, remove_unless_started
from eqprop.cli.options import DATA_ROOT, HIDE_DEFAULT, name_options, parse
from eqprop.cli.overrides import DynamicsName, EstimatorName, OptimizerName, ScheduleName, apply_overrides
from eqprop.cli.runs import MAX_SEEDS, ExecutionOptions, create_runs, group_seeds, train_runs
from eqprop.cli.summary import print_summary
from eqprop.cli.targets import check_folder_name
from eqprop.papers.registry import RECIPES, recipe
from eqprop.training.config.run import Run
from eqprop.training.distributed.processes import Processes

__all__ = ["Resume", "Train", "is_resume", "main", "resume", "split_recipe"]

FLAT = tyro.conf.arg(name="")
"""Marks an object whose options have no prefix."""


@dataclass(frozen=True)
class Train:
    """Train a recipe in a new folder.

    Args:
        run: what is trained.
        execution: how it is executed.
        out: folder of the run; default: the first of runs/RECIPE, runs/RECIPE-2, … that does not exist.
        seeds: number of seeds to train, from --seed on, each in its own folder below --out.
        estimator: replace the recipe's estimator, with the same T and K; bptt and surrogate-bptt unroll the last K + 1 steps.
        dynamics: replace the recipe's dynamics; for a spiking recipe, energy is the equivalent network of rates.
        optimizer: replace the recipe's optimizer.
        schedule: replace the recipe's schedule of the learning rates.
    """

    run: Annotated[Run, FLAT]
    execution: Annotated[ExecutionOptions, FLAT] = field(default_factory=ExecutionOptions)
    out: Annotated[Path | None, HIDE_DEFAULT] = None
    seeds: int = 1
    estimator: Annotated[EstimatorName | None, HIDE_DEFAULT] = None
    dynamics: Annotated[DynamicsName | None, HIDE_DEFAULT] = None
    optimizer: Annotated[OptimizerName | None, HIDE_DEFAULT] = None
    schedule: Annotated[ScheduleName | None, HIDE_DEFAULT] = None

    def __post_init__(self) -> None:
        positive_int("seeds", self.seeds, most=MAX_SEEDS)
        check_folder_name(self.run.name)


@dataclass(frozen=True)
class Resume:
    """Resume the runs of a folder. The results are the same as without the interruption.

    Args:
        resume: a folder that train or compare created.
        execution: how the runs are executed.
        root: folder to look for the data in first.
    """

    resume: Path
    execution: Annotated[ExecutionOptions, FLAT] = field(default_factory=ExecutionOptions)
    root: Annotated[str | None, DATA_ROOT] = None


def main(words: list[str]) -> int:
    """Train a recipe, or resume a training."""
    with join_processes() as processes:
        return resume(words, "eqprop train", processes) if is_resume(words) else _train(words, processes)


def _train(words: list[str], processes: Processes) -> int:
    name, rest = split_recipe(words, "train")
    default = Train(recipe(name))
    with name_options(default):
        default = Train(apply_overrides(recipe(name), rest))
    options = parse(Train, rest, f"eqprop train {name}", default)
    seeds = range(options.run.seed, options.run.seed + options.seeds)
    runs = {f"seed-{seed}" if len(seeds) > 1 else ".": replace(options.run, seed=seed) for seed in seeds}
    with name_options(options):
        top, prepared = create_runs(runs, options.out, options.run.name, options.execution, processes)
    folders = [top / part for part in runs]
    with remove_unless_started(folders, top, processes):
        groups = group_seeds(folders, processes)
        code = train_runs(groups, options.execution, options.run.data.root, top, processes, prepared)
    summary = print_summary(top, folders, plots=options.execution.plots) if processes.is_rank0 else 0
    return 1 if code else summary


def is_resume(words: list[str]) -> bool:
    """Return whether ``--resume`` is among the words."""
    return any(word.split("=")[0] == "--resume" for word in words)


def resume(words: list[str], prog: str, processes: Processes) -> int:
    """Resume every unfinished run of a folder, and train those that are missing."""
    if {"-h", "--help"} & set(words):
        words = ["--help"]
    elif not words[0].startswith("-"):
        raise UsageError(f"--resume takes the run from its folder: leave {words[0]!r} out (see `{prog} --help`)")
    options = parse(Resume, words, prog)
    processes.run_on_rank0(lambda: complete_runs(options.resume, options.execution.device, processes))
    folders = find_runs(options.resume)
    code = train_runs(group_seeds(folders, processes), options.execution, options.root, options.resume, processes)
    summary = print_summary(options.resume, folders, plots=options.execution.plots) if processes.is_rank0 else 0
    return 1 if code else summary


def split_recipe(words: list[str], command: str) -> tuple[str, list[str]]:
    """Return the name of the recipe and the remaining words.

    Raises:
        UsageError: if there is no such recipe.
        SystemExit: after ``--help``.
    """
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(_usage(command))
        raise SystemExit(0 if words else 2)
    if words[0].startswith("-"):
        raise UsageError(f"the recipe comes first: `eqprop {command} RECIPE [OPTIONS]`, got {words[0]!r}")
    if words[0] not in RECIPES:
        raise unknown("recipe", words[0], list(RECIPES), "`eqprop recipes` lists the recipes")
    return words[0], words[1:]


def _usage(command: str) -> str:
    """Return the help that is shown when no recipe is named."""
    return (
        f"usage: eqprop {command} RECIPE [OPTIONS]\n       eqprop {command} --resume FOLDER [OPTIONS]\n\n"
        f"recipes: {', '.join(RECIPES)}\n\n"
        f"`eqprop {command} RECIPE --help` lists the options, with that recipe's values\n"
        f"`eqprop {command} --resume --help` lists the options of a resumed run: --device,\n"
        "  --checkpoint-every, --tensorboard, --no-plots, --data.root\n"
    )
