"""``eqprop train RECIPE [OPTIONS]``, ``eqprop train --resume FOLDER``."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from eqprop._core.checks import positive_int
from eqprop.cli.distributed import together
from eqprop.cli.errors import UsageError, unknown
from eqprop.cli.options import parse, refusing
from eqprop.cli.overrides import swapped
from eqprop.cli.runs import ExecutionOptions, at_once, carry_out, lay_out, runs_in
from eqprop.cli.summary import tell
from eqprop.papers.registry import RECIPES, recipe
from eqprop.training.config.run import Run
from eqprop.training.distributed.processes import Processes

__all__ = ["LeftOut", "Resume", "Train", "folder_name", "main", "resume", "split", "usage", "wants_resume"]

Flat = tyro.conf.arg(name="")
LeftOut = tyro.conf.arg(help_behavior_hint="")
"""Of an option that has no value where it is left out."""


@dataclass(frozen=True)
class Train:
    """Train a recipe in a new folder.

    Args:
        run: what is trained.
        means: how it is carried out.
        out: folder of the run; runs/RECIPE, or the next free number of it, where left out.
        seeds: train so many seeds, from --seed on, each in a folder of its own below that.
        estimator: another estimator than the recipe's, with its T and K; bptt and surrogate-bptt go over the last K + 1 steps.
        dynamics: other dynamics than the recipe's; energy, of a spiking recipe, is its rate twin.
        optimizer: another optimizer than the recipe's.
        schedule: another schedule of the learning rates than the recipe's.
    """

    run: Annotated[Run, Flat]
    means: Annotated[ExecutionOptions, Flat] = field(default_factory=ExecutionOptions)
    out: Annotated[Path | None, LeftOut] = None
    seeds: int = 1
    estimator: Annotated[
        Literal["ep", "continual-ep", "continual-sgd", "bptt", "surrogate-bptt", "implicit"] | None, LeftOut
    ] = None
    dynamics: Annotated[Literal["prototypical", "energy", "spiking"] | None, LeftOut] = None
    optimizer: Annotated[Literal["sgd", "adam", "adamw", "quantized"] | None, LeftOut] = None
    schedule: Annotated[Literal["constant", "cosine", "step"] | None, LeftOut] = None

    def __post_init__(self) -> None:
        positive_int("seeds", self.seeds)
        folder_name(self.run.name)


@dataclass(frozen=True)
class Resume:
    """Go on with the runs of a folder, to the same result as if they had never stopped.

    Args:
        resume: a folder that train or compare made.
        means: how they are carried out.
        root: a folder to look for the data in first.
    """

    resume: Path
    means: Annotated[ExecutionOptions, Flat] = field(default_factory=ExecutionOptions)
    root: Annotated[str | None, tyro.conf.arg(name="data.root", help_behavior_hint="")] = None


def folder_name(name: str) -> str:
    """The name of a run, after which its folder is called.

    Raises:
        ValueError: if it is not the name of a folder.
    """
    if name.strip() in ("", ".", "..") or "/" in name or not name.isprintable():
        raise ValueError(f"`name` must be a plain name, without a /, got {name!r}")
    return name


def main(words: list[str]) -> int:
    """Train, or go on with a training."""
    with together() as processes:
        return resume(words, "eqprop train", processes) if wants_resume(words) else train(words, processes)


def train(words: list[str], processes: Processes) -> int:
    """Train in a new folder."""
    name, rest = split(words, "train")
    prog, default = f"eqprop train {name}", Train(recipe(name))
    with refusing(Train, prog, default):
        default = Train(swapped(recipe(name), rest))
    options = parse(Train, rest, prog, default)
    seeds = range(options.run.seed, options.run.seed + options.seeds)
    runs = {f"seed-{seed}" if len(seeds) > 1 else ".": replace(options.run, seed=seed) for seed in seeds}
    with refusing(Train, prog, default):
        top = lay_out(runs, options.out, options.run.name, options.means, processes)
    folders = [top / part for part in runs]
    carry_out(at_once(folders, processes), options.means, options.run.data.root, top, processes)
    return tell(top, folders, plots=options.means.plots) if processes.is_rank0 else 0


def wants_resume(words: list[str]) -> bool:
    """Whether ``--resume`` is among the words."""
    return any(word.split("=")[0] == "--resume" for word in words)


def resume(words: list[str], prog: str, processes: Processes) -> int:
    """Go on with every unfinished run of a folder."""
    if {"-h", "--help"} & set(words):
        words = ["--help"]
    elif not words[0].startswith("-"):
        raise UsageError(f"--resume takes the run from its folder: leave {words[0]!r} out\nsee `{prog} --help`")
    options = parse(Resume, words, prog)
    folders = runs_in(options.resume)
    carry_out(at_once(folders, processes), options.means, options.root, options.resume, processes)
    return tell(options.resume, folders, plots=options.means.plots) if processes.is_rank0 else 0


def split(words: list[str], command: str) -> tuple[str, list[str]]:
    """The recipe's name and the rest.

    Raises:
        UsageError: if there is no such recipe.
        SystemExit: after ``--help``.
    """
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(usage(command))
        raise SystemExit(0 if words else 2)
    if words[0].startswith("-"):
        raise UsageError(f"the recipe comes first: `eqprop {command} RECIPE [OPTIONS]`, got {words[0]!r}")
    if words[0] not in RECIPES:
        raise unknown("recipe", words[0], list(RECIPES), "`eqprop recipes` lists them")
    return words[0], words[1:]


def usage(command: str) -> str:
    """What ``--help`` says before a recipe is named."""
    return (
        f"usage: eqprop {command} RECIPE [OPTIONS]\n       eqprop {command} --resume FOLDER [OPTIONS]\n\n"
        f"recipes: {', '.join(RECIPES)}\n\n"
        f"`eqprop {command} RECIPE --help` lists the options, with that recipe's values\n"
        f"`eqprop {command} --resume --help` lists those of a run that goes on: --device,\n"
        "  --checkpoint-every, --tensorboard, --no-plots, --data.root\n"
    )
