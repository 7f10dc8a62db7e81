"""Environment variables of launchers, standard streams that are closed, and messages that name the right option."""

import subprocess
import sys

import pytest

from command import call, files
from eqprop.training.distributed.gloo import LAUNCHER_VARIABLES, launched
from small_sets import secluded

SMALL = "--epochs 1 --no-plots --model.sizes 64 4 10 --estimator.free-steps 4 --estimator.nudged-steps 2"
COMPLETE = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    for name in (*LAUNCHER_VARIABLES, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return secluded(tmp_path, monkeypatch)


ENVIRONMENTS = [
    ({"RANK": "x"}, "RANK must be a whole number, got 'x'"),
    ({"RANK": "1.0"}, "got '1.0'"),
    ({"RANK": "²"}, "got '²'"),
    ({"RANK": "9" * 30}, "RANK"),
    ({"RANK": "1"}, "WORLD_SIZE, MASTER_ADDR, MASTER_PORT are not set"),
    ({"RANK": "-1"}, "RANK is -1"),
    ({"WORLD_SIZE": "2"}, "RANK, MASTER_ADDR, MASTER_PORT are not set"),
    ({"WORLD_SIZE": "0"}, "WORLD_SIZE must be at least 1, got 0"),
    ({"WORLD_SIZE": "two"}, "got 'two'"),
    (COMPLETE | {"RANK": "2"}, "RANK must be from 0 to 1"),
    (COMPLETE | {"RANK": "-1"}, "RANK must be from 0 to 1"),
    (COMPLETE | {"RANK": "1", "WORLD_SIZE": "1"}, "RANK must be from 0 to 0"),
    (COMPLETE | {"MASTER_PORT": "http"}, "MASTER_PORT must be a whole number"),
    (COMPLETE | {"MASTER_PORT": "65536"}, "MASTER_PORT must be a number from 1 to 65535"),
    (COMPLETE | {"MASTER_PORT": "0"}, "MASTER_PORT"),
    (COMPLETE | {"MASTER_ADDR": ""}, "MASTER_ADDR is not set"),
    (COMPLETE | {"LOCAL_RANK": "x"}, "LOCAL_RANK must be a whole number"),
    (COMPLETE | {"LOCAL_RANK": "5"}, "LOCAL_RANK must be from 0 to 1"),
]


@pytest.mark.parametrize(("variables", "message"), ENVIRONMENTS, ids=range(len(ENVIRONMENTS)))
@pytest.mark.parametrize("words", ["recipes", "train digits --out x"])
def test_variables_of_a_launcher_that_do_not_fit(words, variables, message, here, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    answer = call(words)
    assert answer.code == 2
    assert message in answer.error()
    assert "torchrun" in answer.err
    assert files(here) == {}


@pytest.mark.parametrize(
    "variables",
    [{}, {"RANK": "0"}, {"WORLD_SIZE": "1"}, {"RANK": ""}, {"LOCAL_RANK": "3"}, {"MASTER_ADDR": "x"}],
    ids=range(6),
)
def test_variables_that_mean_one_process(variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launched() == (0, 1)
    call("recipes").done()


def test_variables_of_several_processes(monkeypatch):
    for name, value in (COMPLETE | {"RANK": "1", "LOCAL_RANK": "1"}).items():
        monkeypatch.setenv(name, value)
    assert launched() == (1, 2)


CLOSING = """
import os, sys
for number in {closed}:
    os.close(number)
os.execv({python!r}, [{python!r}, "-m", "eqprop", *{words!r}])
"""


def closed(streams: list[int], words: str, here) -> subprocess.CompletedProcess:
    """Run a command without some of its standard streams."""
    code = CLOSING.format(closed=streams, python=sys.executable, words=words.split())
    return subprocess.run(
        [sys.executable, "-c", code], cwd=here, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "words",
    ["--help", *(pytest.param(w, marks=pytest.mark.slow) for w in ("recipes", f"train digits {SMALL} --out x"))],
)
def test_standard_output_that_is_closed(words, here):
    ended = closed([1], words, here)
    assert ended.returncode == 0
    assert ended.stderr == "eqprop: warning: standard output is closed: only files are written, nothing is printed\n"
    assert (here / "x" / "metrics.jsonl").exists() == words.startswith("train")


@pytest.mark.slow
def test_all_streams_are_closed(here):
    """No file of the training gets the number, and with it the output, of a stream."""
    assert closed([0, 1, 2], f"train digits {SMALL} --out x", here).returncode == 0
    assert (here / "x" / "metrics.jsonl").read_text().count("\n") == 1
    assert closed([0, 1, 2], "trian", here).returncode == 2


OPTIONS = {
    "--model.output-activation x": "--model.output-activation: 'x' is unknown",
    "--model.activation x": "--model.activation: 'x' is unknown",
    "--data.normalize 0:inf": "--data.normalize",
    "--data.normalize inf:1": "--data.normalize",
    "--schedule cosine --schedule.floor 5": "--schedule.floor must be at most the initial learning rate, 0.3, got 5.0",
    "--schedule cosine --schedule.floor 0.2 --optimizer.rates 0.1": "0.1, got 0.2",
    "--schedule cosine --schedule.floor 0.2 --optimizer.rates 0.1 0.3": "0.1, got 0.2",
    "--optimizer.weight-decay 3.5e38": "--optimizer.weight-decay must be at most 3.4e+38",
    "--optimizer adam --optimizer.weight-decay 1e39": "--optimizer.weight-decay must be at most",
    "--optimizer adam --optimizer.rates 1e38": "--optimizer.rates",
    "--optimizer adamw --optimizer.rates 1e30 --optimizer.weight-decay 1e30": "--optimizer.rates",
    "--optimizer adam --optimizer.betas 0.99 0.9 --optimizer.rates 1e37": "--optimizer.rates",
    "--checkpoint-every 1e39": "--checkpoint-every",
    "--out a\x1bb": "control character: 'a\\x1bb'",
    "--name a\x07": "control character: 'a\\x07'",
    "--optimzer\x9b": "control character",
}


@pytest.mark.parametrize("options", OPTIONS)
def test_a_message_names_the_option(options, here):
    assert OPTIONS[options] in call(f"train digits {SMALL} {options}").complaint()
    assert files(here) == {}


@pytest.mark.parametrize("recipe", ["p-1h-noise", "p-1h"])
def test_a_normalization_does_not_blame_the_noise(recipe, here):
    from eqprop.papers.registry import RECIPES

    recipe = next((name for name in RECIPES if "noise" in name), "digits") if "noise" in recipe else recipe
    assert "--data.normalize" in call(f"train {recipe} --data.normalize 0:inf").complaint()


def test_a_floor_at_the_rate_is_constant(here):
    call(f"train digits {SMALL} --schedule cosine --schedule.floor 0.3 --out x").done()


@pytest.mark.parametrize("seeds", ["1", "2"])
def test_a_foreign_folder_is_not_a_run_to_resume(seeds, here):
    """Some programs keep a config.json deep below; only folders that eqprop laid out are resumed."""
    (here / "usr" / "lib" / "program").mkdir(parents=True)
    (here / "usr" / "lib" / "program" / "config.json").write_text("{}")
    assert "--resume" not in call(f"train digits {SMALL} --seeds {seeds} --out usr").complaint()
    call(f"train digits {SMALL} --seeds 2 --out mine").done()
    assert "--resume mine" in call(f"train digits {SMALL} --seeds 2 --out mine").complaint()
