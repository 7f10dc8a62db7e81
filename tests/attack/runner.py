"""Draw cases from a seed and run them."""

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

from attack.api import argument_case, gradient_case
from attack.case import Case, failure
from attack.commands import command_case
from attack.folders import build_folders, folder_case
from attack.steady import steady_case

KINDS = {"command": 5, "folder": 4, "gradient": 2, "steady": 1, "argument": 4}
"""Kinds of cases and how often each is drawn."""


def cases(seed: int, number: int, top: Path) -> Iterator[Case]:
    """Yield random cases; folders are made in ``top``, which becomes the working directory."""
    os.chdir(top)
    here = top / "commands"
    here.mkdir()
    (here / "file").write_text("mine")
    (here / "full").mkdir()
    (here / "full" / "file").write_text("mine")
    os.mkfifo(here / "pipe")
    originals = build_folders(top / "originals")
    rng = Random(seed)
    for n in range(number):
        kind = rng.choices(tuple(KINDS), tuple(KINDS.values()))[0]
        own = Random(rng.randrange(2**63))
        os.chdir(here if kind == "command" else top)
        if kind == "command":
            yield command_case(own, here)
        elif kind == "folder":
            yield folder_case(own, originals, top, n)
        else:
            yield {"gradient": gradient_case, "steady": steady_case, "argument": argument_case}[kind](own)


def failures(seed: int, number: int, top: Path) -> Iterator[str]:
    """Run cases and yield what fails."""
    for case in cases(seed, number, top):
        if (said := failure(case)) is not None:
            yield said
