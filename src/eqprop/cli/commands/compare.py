"""``eqprop compare RECIPE [OPTIONS]``: EP, or a variant of it, and BPTT from the same initial weights, over the same batches."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from eqprop._core.checks import positive_int
from eqprop.cli.commands.train import LeftOut, folder_name, resume, split, wants_resume
from eqprop.cli.distributed import together
from eqprop.cli.options import parse, refusing
from eqprop.cli.overrides import swapped
from eqprop.cli.runs import ExecutionOptions, at_once, carry_out, lay_out
from eqprop.cli.summary import tell
from eqprop.papers.registry import baseline, recipe
from eqprop.training.config.run import Run
from eqprop.training.distributed.processes import Processes

__all__ = ["Compare", "main"]


@dataclass(frozen=True)
class Compare:
    """Train a recipe as it is and by BPTT over its last K + 1 steps, from the same weights; leave a table and a picture.

    Args:
        run: what is trained, by its estimator and by BPTT.
        means: how it is carried out.
        out: folder of all runs; runs/compare-RECIPE, or the next free number of it, where left out.
        seeds: so many pairs of trainings, from --seed on.
        optimizer: another optimizer than the recipe's, for both.
        schedule: another schedule of the learning rates than the recipe's, for both.
    """

    run: Annotated[Run, tyro.conf.arg(name="")]
    means: Annotated[ExecutionOptions, tyro.conf.arg(name="")] = field(default_factory=ExecutionOptions)
    out: Annotated[Path | None, LeftOut] = None
    seeds: int = 1
    optimizer: Annotated[Literal["sgd", "adam", "adamw", "quantized"] | None, LeftOut] = None
    schedule: Annotated[Literal["constant", "cosine", "step"] | None, LeftOut] = None

    def __post_init__(self) -> None:
        positive_int("seeds", self.seeds)
        folder_name(self.run.name)


def main(words: list[str]) -> int:
    """Compare, or go on with a comparison."""
    with together() as processes:
        return resume(words, "eqprop compare", processes) if wants_resume(words) else compare(words, processes)


def compare(words: list[str], processes: Processes) -> int:
    """Compare in a new folder."""
    name, rest = split(words, "compare")
    prog, default = f"eqprop compare {name}", Compare(recipe(name))
    with refusing(Compare, prog, default):
        default = Compare(swapped(recipe(name), rest, ("optimizer", "schedule")))
    options = parse(Compare, rest, prog, default)
    runs = {}
    for seed in range(options.run.seed, options.run.seed + options.seeds):
        run = replace(options.run, seed=seed)
        runs |= {f"{run.method.lower()}/seed-{seed}": run, f"bptt/seed-{seed}": baseline(run)}
    with refusing(Compare, prog, default):
        top = lay_out(runs, options.out, f"compare-{options.run.name}", options.means, processes)
    folders = [top / part for part in runs]
    carry_out(at_once(folders, processes), options.means, options.run.data.root, top, processes)
    return tell(top, folders, plots=options.means.plots) if processes.is_rank0 else 0
