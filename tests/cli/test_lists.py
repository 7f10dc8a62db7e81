"""Help, lists of recipes and data sets, and progress: the content, and that it is readable on any terminal."""

import re
from itertools import count
from types import SimpleNamespace

import pytest

import eqprop
from command import call, files, frames
from eqprop.cli import COMMANDS
from eqprop.data.sources import SOURCES
from eqprop.papers.registry import PUBLISHED, RECIPES
from small_sets import isolate, small_mnist

HELPS = [
    "--help", "train --help", "compare --help", "train digits --help", "train p-1h --estimator bptt --optimizer adam --help",
    "train eb-1h --schedule step --help", "compare eb-2h --help", "train --resume . --help", "evaluate --help", "plot --help",
    "recipes --help", "data --help", "data fetch --help", "bench --help",
]  # fmt: skip

OF_A_RUN = {
    "--name", "--epochs", "--seed", "--threads", "--device", "--checkpoint-every", "--tensorboard", "--plots", "--out", "--seeds",
    "--data.name", "--data.batch-size", "--data.validation", "--data.root", "--data.normalize", "--data.augment",
    "--data.pad",
    "--model.sizes", "--model.activation", "--model.output-activation", "--model.settle", "--model.tied", "--model.angle",
    "--model.mismatch", "--model.dynamics.nudge",
    "--estimator.free-steps", "--estimator.nudged-steps", "--estimator.beta", "--estimator.nudging",
    "--optimizer.rates", "--optimizer.momentum", "--optimizer.weight-decay", "--schedule.floor",
}  # fmt: skip
OF_A_TRAINING = {"--estimator", "--dynamics", "--optimizer", "--schedule"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work without data sets, in an empty folder, on a terminal of 80 columns."""
    isolate(tmp_path, monkeypatch)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return folder


def options(said: str) -> set[str]:
    """Return the names of the options in a help."""
    return set(re.findall(r"^│ (?:-h, )?(--[\w.-]+)", said, re.MULTILINE))


def test_version():
    assert call("--version").done() == f"eqprop {eqprop.__version__}\n"


def test_every_command_is_in_the_help():
    said = call("--help").done()
    assert all(f"\n  {name} " in said for name in COMMANDS)
    assert call("-h").out == call("help").out == said
    nothing = call()
    assert nothing.code == 2
    assert said in (nothing.out, nothing.err)


@pytest.mark.parametrize("words", HELPS)
@pytest.mark.parametrize("terminal", [False, True])
def test_a_help_fits_80_columns(words, terminal):
    said = frames(call(words, terminal=terminal).done())
    assert said[0].startswith("usage: eqprop")
    assert max((len(line) for line in said if line[0] in "│╭╰"), default=0) <= 80


@pytest.mark.parametrize("command", ["train", "compare"])
def test_recipes_are_in_the_help(command):
    said = call(f"{command} --help").done()
    assert all(name in said for name in RECIPES)
    assert "--resume" in said


def test_the_options_of_train_are_these():
    """Scripts depend on these names: add new ones here, and do not rename any."""
    assert options(call("train digits --help").done()) - {"--help"} == OF_A_RUN | OF_A_TRAINING


def test_the_options_of_compare_are_these():
    assert options(call("compare digits --help").done()) - {"--help"} == OF_A_RUN | OF_A_TRAINING - {
        "--estimator",
        "--dynamics",
    }


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("train digits --estimator bptt", "--estimator.free-steps --estimator.unrolled-steps"),
        ("train digits --estimator implicit", "--estimator.free-steps"),
        ("train digits --estimator continual-ep", "--estimator.free-steps --estimator.nudged-steps --estimator.beta"),
        ("train cep-1h", "--estimator.rates --estimator.nudging --optimizer.rates"),
        ("train digits --optimizer adam", "--optimizer.rates --optimizer.betas --optimizer.weight-decay"),
        ("train digits --schedule step", "--schedule.every --schedule.factor"),
        ("train eb-1h", "--model.dynamics.dt --model.dynamics.clamp --model.dynamics.output-derivative"),
        ("train --resume x", "--resume --device --checkpoint-every --tensorboard --plots --data.root"),
        ("evaluate", "--which --device --data.root"),
        ("plot", "--device --data.root"),
        ("data", "--root"),
        ("data fetch", "--root"),
        ("bench", "--batch --threads --free-steps --nudged-steps --rounds --residual --out --plots"),
    ],
)
def test_options_of_other_parts_and_commands(words, names):
    assert set(names.split()) <= options(call(f"{words} --help").done())


def test_a_help_shows_the_values_of_the_recipe():
    said = " ".join(frames(call("train p-1h --help").done())).replace("│", " ")
    for value in ("784 512 10", "0.08 0.04", "mnist", "outside", "30", "0.1"):
        assert f"(default: {value})" in re.sub(r"\s+", " ", said)


def test_recipes_and_what_was_published():
    said = call("recipes").done()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines() if line[:2] == "| "]
    head, rows = lines[0], {line[0]: line for line in lines[1:]}
    assert list(rows) == list(RECIPES)
    for figure in PUBLISHED:
        column = head.index("published, by BPTT (%)" if figure.method == "BPTT" else "published test error (%)")
        if figure.angle == 0:
            assert rows[figure.recipe][column] == figure.text
    assert rows["p-conv"][:8] == ["p-conv", "mnist", "1-32-64-10", "200", "10", "0.4", "0.15 0.035 0.015", "40"]
    assert rows["dchn-mnist"][2:6] == ["1-128-256-512-512-10", "60:async", "15:async", "0.25"]
    assert rows["dchn-mnist"][-2:] == ["0.44", "0.42"]
    assert rows["digits"][-2:] == ["–", "–"]
    assert rows["p-2h"][:8] == ["p-2h", "mnist", "784-512-512-10", "100", "20", "0.5", "0.2 0.05 0.005", "50"]
    assert "from memory and not checked against the paper" in said
    assert all(figure.source in said for figure in PUBLISHED)


@pytest.mark.parametrize("columns", [80, 120])
def test_recipes_on_a_terminal(columns, monkeypatch):
    """No name and no number is shortened."""
    monkeypatch.setenv("COLUMNS", str(columns))
    said = [line for line in frames(call("recipes", terminal=True).done()) if line[0] in "│┃|┏└"]
    assert max(map(len, said)) <= columns
    assert all(re.search(rf"(^|[│ ]){name} ", "\n".join(said)) for name in RECIPES)
    assert "…" not in "\n".join(said)


def test_the_list_of_data_sets():
    said = call("data").done()
    lines = {line.split("|")[1].strip(): line for line in said.splitlines()[2:]}
    assert list(lines) == list(SOURCES)
    assert "shipped" in lines["digits"]
    assert all("missing" in lines[name] for name in ("mnist", "fashion-mnist", "cifar-10"))
    assert all(number in lines["mnist"] for number in ("60000", "10000", "28"))


@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_data_set_is_found(by, here, monkeypatch):
    small = small_mnist()
    monkeypatch.setitem(SOURCES, "mnist", small.source)
    small.put(here / "root")
    if by == "variable":
        monkeypatch.setenv("EQPROP_DATA", str(here / "root"))
    said = call("data --root root" if by == "option" else "data").done()
    (line,) = [line for line in said.splitlines() if line.startswith("| mnist ")]
    assert "found" in line
    assert f"{'root' if by == 'option' else here / 'root'}/mnist" in line


@pytest.mark.parametrize("damage", [b"", b"hello"])
def test_a_damaged_data_set_is_listed_and_not_hidden(damage, here, monkeypatch):
    small = small_mnist()
    monkeypatch.setitem(SOURCES, "mnist", small.source)
    (small.put(here / "root") / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(damage)
    before = files(here)
    said = call("data --root root").done()
    assert "corrupt" in said
    assert "t10k-labels-idx1-ubyte" in said
    assert files(here) == before


def test_places_of_data_sets_can_be_copied_from_a_terminal(here, monkeypatch):
    small = small_mnist()
    monkeypatch.setitem(SOURCES, "mnist", small.source)
    small.put(here / "a folder with quite a long name of its own")
    monkeypatch.setenv("EQPROP_DATA", str(here / "a folder with quite a long name of its own"))
    shown = frames(call("data", terminal=True).done())
    assert max(map(len, shown)) <= 80
    assert "…" not in "".join(shown)


def test_fetch_leaves_alone_what_is_sound(here, monkeypatch):
    small = small_mnist()
    monkeypatch.setitem(SOURCES, "mnist", small.source)
    small.put(here / "root")
    before = files(here)
    assert call("data fetch mnist --root root").done() == "mnist: root/mnist\n"
    assert files(here) == before
    assert call("data fetch digits").done().startswith("digits: ")


@pytest.mark.parametrize("columns", [80, 120])
def test_the_bar_on_a_terminal(columns, monkeypatch):
    """The bar stays in one line and shows the position, the cost, the errors and the remaining time."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("eqprop.training.progress.callbacks.ProgressBar.INTERVAL", 0.0)
    said = call("train digits --no-plots --epochs 2 --out run --data.batch-size 200", terminal=True).done()
    shown = frames(said)
    assert max(map(len, shown)) <= columns
    live = [line for line in shown if "━" in line and "cost" in line]
    assert len(live) > 10
    for line in live:
        assert re.search(r"[12]/2 .*━.* cost 0\.\d", line)
        assert re.search(r"train +\d+\.\d+%", line)
        assert re.search(r"(\d+|-):(\d\d|--)$", line)
    assert any(re.search(r"test +\d+\.\d+%", line) for line in live)
    assert shown[-1] == "results in run"
    assert "\x1b[?25h" in said  # the cursor is shown again


def test_the_bars_speed_is_that_of_the_clock(monkeypatch):
    """The speed is right even if an epoch ends between two updates of the bar."""
    clock = count()  # a second from one batch to the next; an epoch has fifteen batches of a hundred
    monkeypatch.setattr("eqprop.training.progress.callbacks.time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr("eqprop.training.progress.callbacks.ProgressBar.INTERVAL", 18.5)
    monkeypatch.setenv("COLUMNS", "160")
    said = call("train digits --no-plots --epochs 9 --out run --data.batch-size 100", terminal=True).done()
    speeds = {int(found.replace(",", "")) for found in re.findall(r"([\d,]+) samples/s", said)}
    assert all(85 <= speed <= 110 for speed in speeds), speeds


def test_one_epoch_of_a_table_on_a_terminal():
    said = frames(call("compare digits --no-plots --epochs 1 --out both", terminal=True).done())
    assert max(map(len, said)) <= 80
    table = "\n".join(line for line in said if line[0] in "│|")
    assert "…" not in table
    assert re.search(r"digits, EP ", table)
    assert re.search(r"digits, BPTT ", table)


@pytest.mark.parametrize("name", ["TERM", "NO_COLOR"])
def test_a_terminal_without_colors(name, monkeypatch):
    monkeypatch.setenv(name, "dumb" if name == "TERM" else "1")
    said = call("train digits --no-plots --epochs 1 --out run", terminal=True).done()
    assert not re.search(r"\x1b\[[0-9;]*m", said)
    assert "epoch 1/1" in said


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    "words", ["--help", "recipes", "data", "train digits --help", "compare digits --no-plots --epochs 1 --out both"]
)
def test_an_output_without_unicode(words, terminal, encoding):
    """A character that the output cannot encode does not end a command."""
    assert len(call(words, encoding=encoding, terminal=terminal).done()) > 100


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_near_miss_is_named_whatever_the_output_takes(encoding):
    assert "--epoch, 3 Perhaps you meant: --epochs" in call("train digits --epoch 3", encoding=encoding).complaint()
