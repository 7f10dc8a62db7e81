"""``eqprop data``: list the data sets; ``eqprop data fetch NAME``: download one."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from eqprop.cli.console import download_progress, echo, table
from eqprop.cli.options import HIDE_DEFAULT, name_options, parse
from eqprop.data import fetch, survey

__all__ = ["Fetch", "Survey", "main"]


@dataclass(frozen=True)
class Survey:
    """List the data sets and where they are. `eqprop data fetch NAME` downloads one.

    Args:
        root: folder to look in first.
    """

    root: Annotated[str | None, HIDE_DEFAULT] = None


@dataclass(frozen=True)
class Fetch:
    """Download a data set and verify it. Files that are already there and valid are kept.

    Args:
        name: digits, mnist, fashion-mnist or cifar-10.
        root: folder to put it into; default: EQPROP_DATA, or the user's cache.
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    root: Annotated[str | None, HIDE_DEFAULT] = None


def main(words: list[str]) -> int:
    """List the data sets, or fetch one."""
    if words[:1] == ["fetch"]:
        options = parse(Fetch, words[1:], "eqprop data fetch")
        with name_options(options):
            echo(f"{options.name}: {fetch(options.name, options.root, download_progress(options.name))}")
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
