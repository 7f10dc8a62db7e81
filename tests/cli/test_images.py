"""Convolutional recipes on the command line, with few channels and few images."""

import json
import re

import pytest

import eqprop as ep
from command import call, files
from eqprop.papers.registry import RECIPES, recipe
from eqprop.training.session import read_run
from small_sets import isolate, small_cifar, small_mnist

pytestmark = pytest.mark.filterwarnings("ignore:epoch .*does not learn")  # too few samples

IMAGES = [name for name in RECIPES if isinstance(recipe(name).model, ep.ConvNet) and name.endswith("-small")]
FEW = {  # channels, for speed
    "p-conv-small": "2 3",
    "p-conv-fashion-small": "2 3",
    "laborieux-cifar10-small": "2 2 2 64",
    "dchn-mnist-small": "2 2 2 2",
    "dchn-fashion-small": "2 2 2 2",
    "dchn-cifar10-small": "2 2 2 2",
    "resnet13-cifar10-small": "2 2 2 2 2 2 2 2",
    "spiking-mnist-small": "2 3",
    "spiking-fashion-small": "2 3",
}


@pytest.fixture
def here(tmp_path, monkeypatch, known):
    """Work in an empty folder, with tiny versions of the three image data sets and without a network."""
    isolate(tmp_path, monkeypatch)
    for small in (small_mnist(), small_mnist("fashion-mnist"), small_cifar()):
        known(small).put(tmp_path / "data")
    monkeypatch.setenv("EQPROP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("EQPROP_OFFLINE", "1")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_every_small_recipe_is_tried():
    assert set(IMAGES) == set(FEW)


@pytest.mark.parametrize("name", IMAGES)
def test_a_recipe_trains_and_is_loaded(name, here):
    call(f"train {name} --epochs 1 --no-plots --out run --model.channels {FEW[name]}").done()
    (row,) = [json.loads(line) for line in (here / "run/metrics.jsonl").read_text().splitlines()]
    assert (row["epoch"], row["steps"]) == (1, steps_of(recipe(name)))
    shape = recipe(name).model.input_shape
    assert ep.load("run").network.populations[0].shape == shape
    assert "| test " in call("evaluate run").done()


def steps_of(run):
    free = run.estimator.free_steps
    return free.steps if isinstance(free, ep.Settle) else free


@pytest.mark.parametrize("name", ["p-conv-small", "dchn-mnist-small", "resnet13-cifar10-small"])
def test_by_bptt_from_the_same_weights(name, here):
    call(f"train {name} --epochs 1 --no-plots --out run --estimator bptt --model.channels {FEW[name]}").done()
    run = read_run(here / "run")
    assert run.method == "BPTT"
    assert run.estimator.free_steps == recipe(name).estimator.free_steps


@pytest.mark.parametrize(
    "name", ["p-conv-small-training", "dchn-mnist-small-training", pytest.param("p-conv-exact", marks=pytest.mark.slow)]
)
def test_the_theorem_is_checked(name, here):
    model = "--model.channels 2 2 2 2" if name.startswith("dchn") else "--model.channels 2 3"
    plots = "" if name == "p-conv-exact" else "--no-plots "
    said = call(f"gdu {name} {model} {plots}--estimator.free-steps 60 --data.batch-size 2 --out checked").done()
    assert "0→1 weight" in said
    assert (here / "checked/report.json").is_file()


def test_tune(here):
    said = call("tune p-conv-small --model.channels 2 3 --free-steps 20 --nudged-steps 2 4 --betas 0.1 0.4 --no-plots")
    assert said.code == 0, said


def test_the_network_is_changed_by_options(here):
    words = "--model.pool None --model.kernel-size 3 --model.stride 2 1 --model.padding 1 --model.skips 0-2 --model.gain 0.5 1 2"
    words += " --optimizer.rates 0.1"
    call(
        f"train p-conv-small --epochs 1 --no-plots --out run --model.channels 2 3 {words} --estimator.free-steps 5:async"
    ).done()
    run = read_run(here / "run")
    assert run.model == ep.ConvNet(
        (1, 28, 28), (2, 3), kernel_size=3, padding=1, stride=(2, 1), pool=None, skips=((0, 2),), gain=(0.5, 1.0, 2.0)
    )
    assert run.estimator.free_steps == ep.Settle(5, schedule=ep.Asynchronous())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--model.kernel-size 29", "--model.kernel-size|population 1 would be empty"),
        ("--model.kernel-size 5 5 5", "kernel.size.? must be one value, or 2 of them"),
        ("--model.kernel-size five", "--model.kernel-size must be a whole number, got 'five'"),
        ("--model.pool mean", "'mean'.*--model.pool.*avg"),
        ("--model.skips 0:2", "--model.skips must be PRE-POST, such as 0-2, got '0:2'"),
        ("--model.skips 0-1", "skips`? joins populations 0 and 1, but no stride"),
        ("--model.activation tanh", "max pooling below a population .*tanh.* can be negative"),
        ("--model.gain 0", "--model.gain must be a finite number above 0"),
        ("--model.tied False", "Unrecognized options: False"),
        ("--model.dense 7", "output does not fit|classes from 0 to 6"),
        ("--model.input-shape 1 28", "--model.input-shape.*3 values"),
        (
            "--model.input-shape 1 24 24",
            "input has 1x24x24 units, but a sample has 1x28x28 values: change",
        ),
        ("--model.chanels 4", "--model.channels"),
    ],
)
def test_mistakes_are_reported_and_leave_nothing(words, said, here):
    before = files(here)
    complaint = call(f"train p-conv-small {words} --out run").complaint()
    assert re.search(said, complaint), complaint
    assert files(here) == before
