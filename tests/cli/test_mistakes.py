"""A mistake on the command line: exit code 2, an error that names the word or the option, and nothing is created."""

import gzip
import os
import sys

import pytest

from command import call, files
from eqprop.cli import main
from eqprop.data.sources import SOURCES
from eqprop.papers.registry import recipe
from eqprop.training import create_run
from small_sets import secluded, small_mnist

HUGE = "9" * 23


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty folder, without data sets and without a network."""
    return secluded(tmp_path, monkeypatch)


COMMANDS = {
    "trian": "'trian': did you mean 'train'",
    "evalute x": "did you mean 'evaluate'",
    "--versio": "'--versio'",
    "xyzzy": "'xyzzy'",
    "train xyzzy": "'xyzzy'",
    "train DIGTS": "'DIGTS'",
    "train digit": "'digit': did you mean 'digits'",
    "compare p-1": "'p-1': did you mean 'p-1h'",
    "train --epochs 3 digits": "'--epochs'",
    "train digits extra": "extra",
    "train digits p-1h": "p-1h",
    "recipes digits": "digits",
    "recipes --all": "--all",
    "data list": "list",
    "data --roots x": "Perhaps you meant: --root",
    "data fetch": "NAME",
    "data fetch mnits": "'mnits': did you mean 'mnist'",
    "data fetch mnist fashion-mnist": "fashion-mnist",
    "data fetch mnist --via npm": "--via",
    "data fetch mnist": "EQPROP_OFFLINE",
    "evaluate": "FOLDER",
    "evaluate a b": "b",
    "evaluate nowhere": "nowhere",
    "evaluate . --which bst": "bst",
    "plot": "FOLDER",
    "plot nowhere": "nowhere",
    "plot .": "config.json",
    "train --resume": "--resume",
    "train --resume nowhere": "nowhere",
    "train --resume .": "config.json",
    "train --resume . --epochs 3": "--epochs",
    "train digits --resume .": "'digits'",
    "compare digits --resume .": "'digits'",
    "train --resume=": "--resume",
    "compare digits --estimator bptt": "bptt",
}

OPTIONS = {
    "--epoch 3": "Perhaps you meant: --epochs",
    "--beta 0.1": "--estimator.beta",
    "--optimzer adam": "Perhaps you meant: --optimizer",
    "--lr 0.1": "--lr",
    "-e 3": "-e",
    "--epochs": "--epochs",
    "--epochs=": "''",
    "--epochs 0": "got 0",
    "--epochs -3": "got -3",
    "--epochs=-3": "got -3",
    "--epochs three": "'three'",
    "--epochs 1.5": "'1.5'",
    "--seed -1": "got -1",
    "--seeds 0": "got 0",
    "--seeds -2": "got -2",
    "--threads 0": "got 0",
    f"--threads {HUGE}": HUGE,
    "--estimator.beta 0": "got 0.0",
    "--estimator.beta nan": "got nan",
    "--estimator.beta inf": "got inf",
    "--estimator.beta abc": "'abc'",
    "--estimator.beta 1.5 --model.dynamics.nudge outside": "1.5",
    "--estimator.free-steps 0": "got 0",
    "--estimator.free-steps 10:0": "got 0.0",
    "--estimator.free-steps 10:": "'10:'",
    "--estimator.free-steps 10:x": "'x'",
    "--estimator.free-steps None": "got None",
    "--estimator.nudging centre": "centre",
    "--estimator bpt": "'bpt': did you mean 'bptt'",
    "--estimator": "--estimator",
    "--estimator bptt --estimator.beta 0.1": "--estimator.beta",
    "--estimator bptt --estimator.unrolled-steps 30": "got 30",
    "--estimator continual-ep --estimator.nudged-steps 10:1e-3": "'10:1e-3'",
    "--estimator continual-ep --estimator.rates 0.1": "--estimator.rates",
    "--estimator continual-sgd --estimator.rates -1": "--estimator.rates must be a finite number of at least 0, got -1.0",
    "--estimator continual-sgd --estimator.rates 1 2 3": "names 3 learning rates",
    "--estimator continual-sgd --optimizer.rates 1 2 3": "names 3 learning rates",
    "--estimator continual-sgd --optimizer adam": "Adam",
    "--estimator continual-sgd --optimizer.momentum 0.9": "rates` is left out",
    "--optimizer adm": "did you mean 'adam'",
    "--optimizer.rates nan": "got nan",
    "--optimizer.rates inf": "got inf",
    "--optimizer.rates -1": "got -1.0",
    "--optimizer.rates 0": "got 0.0",
    "--optimizer.rates abc": "'abc'",
    "--optimizer.rates 0.1 0.2 0.3": "3 learning rates",
    "--optimizer.rates 1e308": "1e+308",
    "--optimizer.rates": "rates",
    "--optimizer.momentum 1": "got 1.0",
    "--optimizer.weight-decay -1": "got -1.0",
    "--schedule cosin": "did you mean 'cosine'",
    "--schedule step --schedule.every 0": "got 0",
    "--schedule.floor -1": "got -1.0",
    "--model.sizes 63 10": "63",
    "--model.sizes 784 512 10": "784",
    "--model.sizes 64 128 9": "0 to 8",
    "--model.sizes 64": "64",
    "--model.sizes 64 0 10": "got 0",
    "--model.sizes 64 1.5 10": "1.5",
    "--model.sizes 64 999999999999 10": "999999999999",
    "--model.activation sigmod": "did you mean 'sigmoid'",
    "--model.settle 0": "got 0",
    "--model.angle 30": "30.0",
    "--model.angle nan --model.no-tied": "nan",
    "--model.dynamics.nudge up": "'up'",
    "--data.name minst": "did you mean 'mnist'",
    "--data.name mnist": "mnist was not found",
    "--data.batch-size 0": "got 0",
    f"--data.batch-size {HUGE}": HUGE,
    "--data.validation -1": "got -1",
    "--data.validation 1437": "got 1437",
    "--data.augment crop": "--data.augment must be pad:PIXELS or edge:PIXELS, flip, or both as pad:4,flip, got 'crop'",
    "--data.augment pad": "got 'pad'",
    "--data.augment flip,pad:4": "got 'flip,pad:4'",
    "--data.augment pad:4,": "got 'pad:4,'",
    "--data.augment pad:4,edge:4": "got 'pad:4,edge:4'",
    "--data.augment=": "got ''",
    "--data.augment": "--data.augment",
    "--data.augment pad:x": "--data.augment must be a whole number, got 'x'",
    "--data.augment pad:-1": "at least 0, got -1",
    "--data.augment.pad 4": "Perhaps you meant: --data.augment",
    "--data.no-augment": "Perhaps you meant: --data.augment",
    "--data.augment pad:8": "--data.augment must pad by fewer pixels than the shorter side of an image, 8, got 8",
    "--data.normalize 0.1": "--data.normalize must be MEAN:STD",
    "--data.normalize 0.1:": "got '0.1:'",
    "--data.normalize 0.1,:1": "got '0.1,:1'",
    "--data.normalize 0.1:1:1": "got '0.1:1:1'",
    "--data.normalize x:1": "--data.normalize must be a number, got 'x'",
    "--data.normalize nan:1": "got nan",
    "--data.normalize 0.1:0": "above 0, got 0.0",
    "--data.normalize 1,2:1,2,3": "got 2 and 3 numbers",
    "--data.normalize 1,2,3:1": "numbers for 3 channels, but a sample is 64",
    "--device nonsense": "'nonsense'",
    "--device mps": "'mps'",
    "--device meta": "'meta'",
    "--device cuda:99": "'cuda:99'",
    "--checkpoint-every -1": "got -1.0",
    "--checkpoint-every nan": "got nan",
    "--checkpoint-every inf": "got inf",
    "--plots false": "false",
    "--tensorboard=yes": "yes",
    "--optimizer adam --optimizer.betas 0.8": "--optimizer.betas",
    "--optimizer adam --optimizer.betas 0.8 1.5": "got 1.5",
    "--name a/b": "'a/b'",
    "--name ..": "'..'",
    "--out=": "--out",
}


@pytest.mark.parametrize("words", COMMANDS)
def test_a_wrong_command(words, tmp_path):
    before = files(tmp_path)
    assert COMMANDS[words] in call(words).complaint()
    assert files(tmp_path) == before


@pytest.mark.parametrize("options", OPTIONS)
def test_a_wrong_option(options, tmp_path):
    before = files(tmp_path)
    assert OPTIONS[options] in call("train digits --no-plots", options).complaint()
    assert files(tmp_path) == before


@pytest.mark.parametrize("command", ["evaluate", "plot"])
def test_an_empty_name_is_not_the_present_folder(command, tmp_path, capsys):
    before = files(tmp_path)
    assert main([command, ""]) == 2
    assert "must name a folder" in capsys.readouterr().err
    assert files(tmp_path) == before


@pytest.mark.parametrize("option", ["--epochs 0", "--estimator.beta 0", "--seeds 0", "--device nonsense"])
def test_a_wrong_option_of_compare(option, tmp_path):
    before = files(tmp_path)
    assert option.split()[-1] in call("compare digits", option).complaint()
    assert files(tmp_path) == before


@pytest.fixture
def run_folder(here):
    """A run folder that has not been trained."""
    create_run(recipe("digits"), here / "begun")
    return "begun"


@pytest.mark.parametrize("which", ["last", "best"])
def test_a_run_that_has_not_begun_has_no_weights(which, run_folder, tmp_path):
    before = files(tmp_path)
    assert f"{which}.safetensors" in call(f"evaluate {run_folder} --which {which}").complaint()
    assert files(tmp_path) == before


@pytest.mark.parametrize("seeds", ["1", "2"])
@pytest.mark.parametrize("out", ["file", "file/below", "full", "dangling", "begun"])
def test_a_folder_that_cannot_be_taken(out, seeds, here, run_folder, tmp_path):
    (here / "file").write_text("mine")
    (here / "full").mkdir()
    (here / "full" / "file").write_text("mine")
    (here / "dangling").symlink_to("gone")
    before = files(tmp_path)
    complaint = call(f"train digits --seeds {seeds} --out {out}").complaint()
    assert out in complaint
    assert ("--resume" in complaint) == (out == "begun")
    assert files(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_must_not_be_written_to(here, tmp_path):
    here.chmod(0o555)
    try:
        assert "x: Permission denied" in call("train digits --out x").complaint()
        assert files(here) == {}
    finally:
        here.chmod(0o755)


@pytest.mark.parametrize("name", ["p-1h", "p-3h", "eb-2h"])
def test_data_that_are_nowhere(name, tmp_path):
    before = files(tmp_path)
    complaint = call(f"train {name}").complaint()
    assert "mnist was not found" in complaint
    assert "eqprop data fetch mnist" in complaint
    assert files(tmp_path) == before


@pytest.mark.parametrize("words", ["train p-1h --data.root {}", "compare p-1h --data.root {}", "data --root {}"])
@pytest.mark.parametrize("root", ["missing", "file"])
def test_a_root_that_is_no_folder(root, words, here, tmp_path):
    (here / "file").write_text("mine")
    before = files(tmp_path)
    assert root in call(words.format(root)).complaint()
    assert files(tmp_path) == before


def flip(raw: bytes) -> bytes:
    return raw[:-20] + bytes([raw[-20] ^ 4]) + raw[-19:]


DAMAGES = {
    "truncated": lambda raw: raw[:-20],
    "flipped": flip,
    "flipped within": lambda raw: gzip.compress(flip(gzip.decompress(raw))),
    "empty": lambda raw: b"",
    "no gzip": lambda raw: b"hello",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_damaged_data_file_in_a_named_root(damage, by, here, tmp_path, monkeypatch):
    small = small_mnist()
    monkeypatch.setitem(SOURCES, "mnist", small.source)
    file = small.put(here / "root") / "mnist" / "train-images-idx3-ubyte.gz"
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    monkeypatch.setenv("EQPROP_DATA", str(here / "root") if by == "variable" else "")
    before = files(tmp_path)
    complaint = call("train p-1h", *(["--data.root root"] if by == "option" else [])).complaint()
    assert "mnist/train-images-idx3-ubyte.gz is damaged" in complaint
    assert files(tmp_path) == before


def test_a_missing_data_file_in_a_named_root(here, tmp_path, monkeypatch):
    small = small_mnist()
    monkeypatch.setitem(SOURCES, "mnist", small.source)
    small.put(here / "root", only=list(small.contents)[:3])
    before = files(tmp_path)
    assert list(small.contents)[3] in call("train p-1h --data.root root").complaint()
    assert files(tmp_path) == before


def test_a_network_that_does_not_fit_other_data(here, tmp_path, monkeypatch):
    small = small_mnist()
    monkeypatch.setitem(SOURCES, "mnist", small.source)
    small.put(here / "root")
    before = files(tmp_path)
    complaint = call("train digits --data.name mnist --data.root root").complaint()
    assert "64 units" in complaint
    assert "1x28x28" in complaint
    assert files(tmp_path) == before


@pytest.mark.parametrize(("name", "value"), [("EQPROP_OFFLINE", "maybe"), ("EQPROP_DATA", "missing")])
def test_a_wrong_variable(name, value, tmp_path, monkeypatch):
    monkeypatch.setenv(name, value)
    before = files(tmp_path)
    complaint = call("train p-1h").complaint()
    assert name in complaint
    assert value in complaint
    assert files(tmp_path) == before


@pytest.mark.filterwarnings("always")
def test_a_warning_is_one_line_and_printed_once():
    """This holds before an error too, and does not depend on earlier commands."""
    call("recipes").done()
    answer = call("train p-1h --estimator.beta 0.7")
    warned = [line for line in answer.err.splitlines() if line.startswith("eqprop: warning: ")]
    assert answer.code == 2
    assert len(warned) == 1
    assert "0.7" in warned[0]


def test_without_tensorboard_nothing_is_created(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    before = files(tmp_path)
    assert "pip install" in call("train digits --tensorboard --epochs 1").complaint()
    assert files(tmp_path) == before
