"""``eqprop export`` writes a trained model as a NIR graph; errors are one line and write nothing."""

import sys

import pytest
import torch
from numpy.testing import assert_array_equal

from command import call, files
from eqprop import load
from eqprop.spiking import to_nir

nir = pytest.importorskip("nir", reason="needs the extra: pip install 'eqprop[nir]'")

SHORT = "--model.sizes 64 5 10 --epochs 1 --data.validation 1300 --estimator.free-steps 20 --no-plots"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short training of a spiking network."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    call(f"train spiking-digits {SHORT} --out {folder}").done()
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("which", ["last", "best"])
def test_the_file_contains_the_trained_weights(which, trained, here):
    said = call(f"export {trained} --to model.nir --which {which} --tick 0.001").done()
    assert said == "model.nir: a NIR graph; run it for 20 ticks of 0.001 from the zero state\n"
    assert list(files(here)) == ["model.nir"]
    read, model = nir.read(here / "model.nir"), load(trained, which)
    assert_array_equal(read.nodes["up_1_2"].weight, model.network.connections[1].weight.detach())
    for name, node in to_nir(model, 0.001).nodes.items():
        for field in {"weight", "tau", "v_leak", "r", "scale", "threshold", "delay"} & vars(node).keys():
            assert_array_equal(getattr(read.nodes[name], field), getattr(node, field))


def test_the_same_model_gives_the_same_file(trained, here):
    for name in ("a.nir", "b.nir"):
        call(f"export {trained} --to {name}").done()
    assert (here / "a.nir").read_bytes() == (here / "b.nir").read_bytes()


MISTAKES = {
    "export": "folder",
    "export {run}": "--to",
    "export nowhere --to m.nir": "nowhere",
    "export . --to m.nir": "config.json",
    "export {run} --to taken": "taken already exists: name another file",
    "export {run} --to gone/m.nir": "the folder gone does not exist",
    "export {run} --to m.nir --tick 0": "tick",
    "export {run} --to m.nir --which bst": "'bst'",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes(words, trained, here):
    (here / "taken").write_text("mine")
    assert MISTAKES[words] in call(words.format(run=trained)).complaint()
    assert files(here) == {"taken": b"mine"}


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("train digits", "must have spiking dynamics, got Prototypical("),
        ("train spiking-digits --model.dynamics.lam 0.5 --model.dynamics.coder bernoulli", "got Bernoulli()"),
    ],
)
def test_unsupported_models(words, part, here):
    call(f"{words} {SHORT} --out run").done()
    before = files(here)
    assert part in call("export run --to model.nir").complaint()
    assert files(here) == before


def test_without_nir(trained, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    assert "pip install 'eqprop[nir]'" in call(f"export {trained} --to model.nir").complaint()
    assert files(here) == {}


def test_single_precision_weights_stay_single(trained):
    weight = load(trained).network.connections[0].weight
    assert weight.dtype == torch.float32
    assert to_nir(load(trained)).nodes["up_0_1"].weight.dtype.name == "float32"
