"""``eqprop compare RECIPE [OPTIONS]``: train by the recipe's estimator and by BPTT, from the same weights and batches."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from eqprop._core.checks import positive_int
from eqprop.cli.commands.train import FLAT, is_resume, resume, split_recipe
from eqprop.cli.distributed import join_processes
from eqprop.cli.layout import remove_unless_started
from eqprop.cli.options import HIDE_DEFAULT, name_options, parse
from eqprop.cli.overrides import OptimizerName, ScheduleName, apply_overrides
from eqprop.cli.runs import MAX_SEEDS, ExecutionOptions, create_runs, group_seeds, train_runs
from eqprop.cli.summary import print_summary
from eqprop.cli.targets import check_folder_name
from eqprop.papers.registry import baseline, recipe
from eqprop.training.config.run import Run
from eqprop.training.distributed.processes import Processes

__all__ = ["Compare", "main"]


@dataclass(frozen=True)
class Compare:
    """Train a recipe as it is, and by BPTT through its last K + 1 steps, from the same weights; write a table and a figure.

    Args:
        run: what is trained.
        execution: how it is executed.
        out: folder of all runs; default: the first of runs/compare-RECIPE, runs/compare-RECIPE-2, … that does not exist.
        seeds: number of seeds to train by each method, from --seed on.
        optimizer: replace the recipe's optimizer, for both methods.
        schedule: replace the recipe's schedule of the learning rates, for both methods.
    """

    run: Annotated[Run, FLAT]
    execution: Annotated[ExecutionOptions, FLAT] = field(default_factory=ExecutionOptions)
    out: Annotated[Path | None, HIDE_DEFAULT] = None
    seeds: int = 1
    optimizer: Annotated[OptimizerName | None, HIDE_DEFAULT] = None
    schedule: Annotated[ScheduleName | None, HIDE_DEFAULT] = None

    def __post_init__(self) -> None:
        positive_int("seeds", self.seeds, most=MAX_SEEDS)
        check_folder_name(self.run.name)


def main(words: list[str]) -> int:
    """Compare, or resume a comparison."""
    with join_processes() as processes:
        return resume(words, "eqprop compare", processes) if is_resume(words) else _compare(words, processes)


def _compare(words: list[str], processes: Processes) -> int:
    name, rest = split_recipe(words, "compare")
    default = Compare(recipe(name))
    with name_options(default):
        default = Compare(apply_overrides(recipe(name), rest, ("optimizer", "schedule")))
    options = parse(Compare, rest, f"eqprop compare {name}", default)
    runs = {}
    for seed in range(options.run.seed, options.run.seed + options.seeds):
        run = replace(options.run, seed=seed)
        runs |= {f"{run.method.lower()}/seed-{seed}": run, f"bptt/seed-{seed}": baseline(run)}
    with name_options(options):
        top, prepared = create_runs(runs, options.out, f"compare-{options.run.name}", options.execution, processes)
    folders = [top / part for part in runs]
    with remove_unless_started(folders, top, processes):
        groups = group_seeds(folders, processes)
        code = train_runs(groups, options.execution, options.run.data.root, top, processes, prepared)
    summary = print_summary(top, folders, plots=options.execution.plots) if processes.is_rank0 else 0
    return 1 if code else summary
