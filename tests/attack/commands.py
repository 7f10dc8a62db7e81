"""Random command lines. Each ends with a documented code and at most three lines of error, and creates nothing if refused."""

import re
import shlex
from functools import cache
from pathlib import Path
from random import Random

from attack.case import Case, Fault
from command import Answer, call, files

COMMANDS = ("train", "compare", "gdu", "tune", "bench", "evaluate", "plot", "export", "recipes", "data", "reproduce")
WEIGHTS = (8, 4, 4, 3, 2, 2, 1, 1, 1, 1, 1)

RECIPES = ("digits", "toy", "spiking-digits", "p-1h", "nothing", "", "digits ", "--epochs")

WORDS = [
    "", " ", "0", "1", "-1", "2.5", "1e-30", "1e-320", "1e38", "1e400", "nan", "inf", "-inf", "True", "None", "tanh", "relu6", "x",
    "2147483648", "99999999999999999999", "0x10", "1_0", "١", "½", "é", "a b", "a/b", "..", ".", "~", "$x$", "%s", "{}", "\x1b[31m",
    "\x00", "\n", "-", "--", "-h", "a" * 400, "5:async", "5:async:x", "0:inf", "20:tol1e-3", "anderson5", "random-sign", "centred",
    "inside", "outside", "64", "64 10", "64 5 10", "cpu", "cuda", "cuda:99", "mps", "meta", "sgd", "adam", "cosine", "step", "bptt",
    "ep", "continual-ep", "c-ep", "implicit", "energy", "prototypical", "spiking", "digits", "mnist", "0.1", "0.1,0.2", "0.5:0.5",
    "0:0", "-1e38:1", "pad:4", "pad:4,flip", "flip", "max", "avg", "file", "file/x", "full", "new", "pipe", "/dev/null", "/proc/x",
]  # fmt: skip

CHEAP = {"train": ["--epochs", "1", "--no-plots"], "compare": ["--epochs", "1", "--no-plots"]}
"""What keeps an accepted command short; other options come after it and may override it."""

LONG = re.compile(r"--(epochs|seeds|.*steps|.*settle|batches|repeats|.*threads)$")
"""Options whose valid large values just take long: they get small ones."""

CODES = (0, 1, 2, 130)


@cache
def options_of(command: str) -> tuple[str, ...]:
    """Return the options that the help of a command lists."""
    recipe = {"train": " digits", "compare": " digits", "gdu": " toy", "tune": " digits", "bench": " digits"}.get(
        command, ""
    )
    return tuple(sorted(set(re.findall(r"--[a-z][a-z.\-]+", call(f"{command}{recipe} --help").out)) - {"--help"}))


def random_words(rng: Random) -> list[str]:
    """Return a random command line."""
    command = rng.choices(COMMANDS, WEIGHTS)[0] if rng.random() < 0.97 else rng.choice(["", "trian", "--version", "-x"])
    words = [command]
    if command in ("evaluate", "plot", "export"):
        words.append(rng.choice(["full", "file", "pipe", "nowhere", "", "."]))
    elif command in ("train", "compare", "gdu", "tune", "bench") and rng.random() < 0.95:
        words.append(rng.choices(RECIPES, (12, 4, 1, 1, 1, 1, 1, 1))[0])
    elif command == "reproduce":
        words.append(rng.choice(["ernoult2019", "lin2024", "nobody", ""]))
    words += CHEAP.get(command, [])
    known = options_of(command) if command in COMMANDS else ()
    for _ in range(rng.choice([1, 1, 2, 2, 3, 4])):
        option = (
            rng.choice(known)
            if known and rng.random() < 0.9
            else rng.choice(["--x", "--optimiser.rates", "--seed", "-v"])
        )
        if rng.random() < 0.05:
            option = option[:-1]
        value = rng.choice(["1", "2", "0", "-1", "x", "nan"]) if LONG.match(option) else rng.choice(WORDS)
        if command in ("bench", "reproduce") and LONG.match(option):
            value = rng.choice(["0", "-1", "x", "nan"])
        words += rng.choice([[option, value], [option, value], [f"{option}={value}"], [option]])
    if command in ("bench", "reproduce"):
        words += [rng.choice(["--x", "--device"]), "nowhere"]  # an accepted one would take minutes
    return words


def check_answer(answer: Answer) -> None:
    """Raise Fault unless the command ended as documented."""
    text = answer.err + answer.out
    if answer.code not in CODES:
        raise Fault(f"exit code {answer.code}")
    if "Traceback" in text and "Exception ignored" not in text:  # an interrupt that met a destructor
        raise Fault("a traceback")
    if re.search("[\x00-\x08\x0b-\x1f\x7f]", text.replace("\x1b[", "") if "╭" in text else text.replace("\r", "")):
        raise Fault(f"a control character is echoed: {text!r}")
    errors = [line for line in answer.err.splitlines() if line.strip() and not line.startswith("eqprop: warning: ")]
    if answer.code == 2 and "╭" not in answer.err and "usage:" not in answer.err and not 1 <= len(errors) <= 3:
        raise Fault(f"an error of {len(errors)} lines: {answer.err!r}")


def command_case(rng: Random, folder: Path) -> Case:
    """Return a random command line, to be run in a folder with a file, a full folder and a pipe."""
    words = random_words(rng)

    def run() -> None:
        before = files(folder)
        answer = call_words(words)
        check_answer(answer)
        after = files(folder)
        lost = [name for name, content in before.items() if after.get(name, b"-") != content]
        if lost:
            raise Fault(f"changed what was there: {lost}")
        if answer.code == 2 and after != before:
            raise Fault(f"refused ({answer.err.strip()!r}), but created {sorted(after.keys() - before.keys())}")

    return Case("eqprop " + shlex.join(words), run)


def call_words(words: list[str]) -> Answer:
    """Call the command line with exactly these words."""
    import io
    from contextlib import redirect_stderr, redirect_stdout

    from command import Output
    from eqprop.cli import main

    out, err = Output(), Output()
    with redirect_stdout(out), redirect_stderr(err), io.StringIO():
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
    return Answer(code, out.text(), err.text())
