"""``eqprop compare RECIPE [OPTIONS]``: EP and BPTT from the same initial weights, over the same batches."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from eqprop.checks import positive_int
from eqprop.cli.outcome import tell
from eqprop.cli.parse import parse
from eqprop.cli.study import Means, carry_out, free_folder, lay_out
from eqprop.cli.train import resume, split, wants_resume
from eqprop.recipes import baseline, recipe
from eqprop.training.run import Run

__all__ = ["Compare", "main"]


@dataclass(frozen=True)
class Compare:
    """Train a recipe by EP and by BPTT over its last K + 1 steps, from the same weights; leave a table and a picture.

    Args:
        run: what is trained by EP.
        means: how it is carried out.
        out: folder of all runs; runs/compare-RECIPE, or the next free number of it, where left out.
        seeds: so many pairs of trainings, from --seed on.
    """

    run: Annotated[Run, tyro.conf.arg(name="")]
    means: Annotated[Means, tyro.conf.arg(name="")] = field(default_factory=Means)
    out: Path | None = None
    seeds: int = 1

    def __post_init__(self) -> None:
        positive_int("seeds", self.seeds)


def main(words: list[str]) -> int:
    """Compare, or go on with a comparison."""
    if wants_resume(words):
        return resume(words, "eqprop compare")
    name, rest = split(words, "compare")
    options = parse(Compare, rest, f"eqprop compare {name}", Compare(recipe(name)))
    runs = {}
    for seed in range(options.run.seed, options.run.seed + options.seeds):
        run = replace(options.run, seed=seed)
        runs |= {f"ep/seed-{seed}": run, f"bptt/seed-{seed}": baseline(run)}
    out = options.out or free_folder(f"compare-{options.run.name}")
    folders = lay_out(runs, out, options.means)
    carry_out(folders, options.means, options.run.data.root, out)
    return tell(out, folders, plots=options.means.plots)
