"""``eqprop data``: what is found where; ``eqprop data fetch NAME``: put a data set on disk."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from eqprop.cli.console import download_progress, echo, table
from eqprop.cli.options import parse, refusing
from eqprop.data import fetch, survey

__all__ = ["Fetch", "Survey", "main"]

LeftOut = tyro.conf.arg(help_behavior_hint="")


@dataclass(frozen=True)
class Survey:
    """List the data sets and where they are. `eqprop data fetch NAME` gets one.

    Args:
        root: a folder to look in first.
    """

    root: Annotated[str | None, LeftOut] = None


@dataclass(frozen=True)
class Fetch:
    """Put a data set on disk and check it; what is there and sound is left alone.

    Args:
        name: of the data set: digits, mnist, fashion-mnist or cifar-10.
        root: the folder of data sets to put it into; EQPROP_DATA or the user's cache where left out.
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    root: Annotated[str | None, LeftOut] = None


def main(words: list[str]) -> int:
    """List, or fetch."""
    if words[:1] == ["fetch"]:
        prog = "eqprop data fetch"
        wanted = parse(Fetch, words[1:], prog)
        with refusing(Fetch, prog):
            echo(f"{wanted.name}: {fetch(wanted.name, wanted.root, download_progress(wanted.name))}")
        return 0
    entries = survey(parse(Survey, words, "eqprop data").root)
    states = [entry.state.split(": ", 1) for entry in entries]
    table(
        ("data set", "training", "test", "sample", "state", "where"),
        [
            [entry.name, *map(str, entry.samples), "x".join(map(str, entry.shape)), state[0], str(entry.path or "–")]
            for entry, state in zip(entries, states, strict=True)
        ],
    )
    for entry, (state, *reasons) in zip(entries, states, strict=True):
        for reason in reasons:
            echo(f"{entry.name} is {state}: {reason}")
    return 0
