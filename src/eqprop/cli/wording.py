"""Errors in the words of the command line: what tyro or a constructor says, with options in the place of arguments."""

import re
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["OPTION", "named", "plain"]

OPTION = re.compile(r"--\w[\w.-]*\w")
"""An option in a text."""

WIDTH = 300
"""Letters of an error's line; what a person gives can be longer."""

TYRO = (
    (r"Error parsing (run\.|means\.)?", ""),
    (r"Unrecognized options: ", "not understood: "),
    (r"Missing from [^:]*: (\S+) (.*?)\.? \(required\)", r"missing: \1, \2"),
    (r"invalid choice '(.*)' for argument '(.*?)'\. Expected one of \((.*?),?\)\.", r"\2 must be one of \3, got '\1'"),
    (r"Missing value for argument '(.*?)'\. Expected 1 values\.", r"\1 needs a value"),
    (r"Missing value for argument '(.*?)'\. Expected (\d+) values\.", r"\1 needs \2 values"),
    (r"Missing value for argument '(.*?)'\.", r"\1 needs a value"),
    (r"([\w.-]+): must", r"\1 must"),
)
"""How tyro says it, and how we do."""

SPELLINGS = (
    ("`tied=False`", "--model.no-tied"),
    ('`Prototypical(nudge="inside")`', "--model.dynamics.nudge inside"),
    ("`count`", "--data.validation"),
    ("no data set is called", "--data.name: no data set is called"),
    ("change the first size", "change the first of --model.sizes"),
    ("the model's output does not fit", "the last of --model.sizes does not fit"),
)
"""How the library says it, and how a command does that has the option."""


def plain(box: str) -> str:
    """What a tyro error says, without its box: the message and the nearest option."""
    body = [line.strip("│ ") for line in box[box.find("╭") :].splitlines()[1:]]
    rules = [n for n, line in enumerate(body) if line[:1] in ("─", "╰")] or [len(body)]
    message = " ".join(body[: rules[0]])
    for pattern, said in TYRO:
        message = re.sub(rf"^{pattern}", said, message)
    hint = next((after.split()[0] for line, after in pairwise(body[rules[0] :]) if line.startswith("Perhaps")), "")
    return f"{message}; did you mean {hint}?" if hint else message


def named(message: str, options: Sequence[str]) -> str:
    """The message with the options of a command in the place of the arguments in backquotes, and with lines of some length."""
    for old, new in SPELLINGS:
        if set(OPTION.findall(new)) <= set(options):
            message = message.replace(old, new)
    found = re.match(r"([\w.-]+): (?=`)", message)
    scope, text = (found[1], message[found.end() :]) if found else ("", message)
    text = re.sub(r"`(\w+)`", lambda argument: option(argument[1], scope, options) or argument[0], text)
    text = f"{scope}: {text}" if scope.startswith("--") and not text.startswith(scope) else text
    return "\n".join(line if len(line) <= WIDTH else f"{line[: WIDTH - 4]} ..." for line in text.splitlines())


def option(argument: str, scope: str, options: Sequence[str]) -> str | None:
    """The option that gives an argument: the one of that part of the run, else the shortest of that name."""
    name = argument.replace("_", "-")
    same = [option for option in options if option.removeprefix("--").split(".")[-1] == name]
    return min(same, key=lambda option: (not option.startswith((scope, f"--{scope}.")), len(option)), default=None)
