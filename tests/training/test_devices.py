"""A device that this machine does not have is refused in one line; a run that began on a GPU continues without one."""

import json

import pytest
import torch

import eqprop as ep
from command import call, files
from eqprop._core.checks import ArgumentError
from eqprop._core.devices import available_device
from eqprop.papers.registry import recipe
from eqprop.training import create_run, prepare_run, train_run
from eqprop.training.run_folder import RunFolder
from eqprop.training.seeds import train_seeds
from eqprop.training.session import initial_device
from small_trainings import outcome

SMALL = "--no-plots --model.sizes 64 8 10 --data.batch-size 200"
ABSENT = ["cuda", "cuda:7", "mps", "xpu", "meta", "nonsense", "cuda:x", "", None, 1.5]


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    """A machine without a GPU, also where there is one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    zeros = torch.zeros

    def refuse(*size, device=None, **options):
        if torch.device(device or "cpu").type == "cuda":
            raise RuntimeError("No CUDA GPUs are available")
        return zeros(*size, device=device, **options)

    monkeypatch.setattr(torch, "zeros", refuse)


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A run stopped after its first epoch, whose files say that it began on a GPU; and one that was never stopped."""
    top = tmp_path_factory.mktemp("gpu")
    call(f"train digits {SMALL} --epochs 2 --out {top / 'whole'}").done()
    call(f"train digits {SMALL} --epochs 2 --out {top / 'half'}").done()
    return top


@pytest.fixture
def begun(half, tmp_path, monkeypatch):
    """A run that was created on a GPU and has not trained yet."""
    monkeypatch.chdir(tmp_path)
    run = RunFolder(half / "whole").run
    create_run(run, "r")
    pretend_gpu(RunFolder(tmp_path / "r"))
    return RunFolder(tmp_path / "r")


def pretend_gpu(place):
    facts = json.loads(place.environment.read_text())
    place.environment.write_text(json.dumps(facts | {"gpu": "NVIDIA H200"}))


@pytest.mark.parametrize("started", [True, False])
def test_a_resume_without_the_gpu_says_what_to_do(started, begun, tmp_path):
    if started:
        begun.metrics.write_text("")
    before = files(tmp_path)
    said = call("train --no-plots --resume r").complaint()
    assert said == ("eqprop: r began on a GPU (NVIDIA H200), and PyTorch finds none here: continue with --device cpu\n")
    assert files(tmp_path) == before


def test_it_continues_on_the_cpu(begun, half, tmp_path):
    answer = call("train --no-plots --resume r --device cpu")
    assert answer.code == 0
    assert outcome(tmp_path / "r") == outcome(half / "whole")


@pytest.mark.filterwarnings("always")
def test_a_checkpoint_of_the_gpu_continues_on_the_cpu_with_a_warning(half, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    create_run(RunFolder(half / "whole").run, "r")
    place = RunFolder(tmp_path / "r")

    class Stop:
        def on_fit_start(self, *numbers): ...
        def on_batch_end(self, *numbers): ...
        def on_fit_end(self): ...
        def on_epoch_end(self, row):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run("r", callbacks=[Stop()])
    pretend_gpu(place)
    assert call("train --no-plots --resume r").complaint().endswith("continue with --device cpu\n")
    answer = call("train --no-plots --resume r --device cpu")
    assert answer.code == 0
    assert "gpu None, not NVIDIA H200" in answer.err
    assert outcome(place.path) == outcome(half / "whole")


def test_readers_of_its_weights_need_no_gpu(half, tmp_path):
    pretend_gpu(RunFolder(half / "half"))
    assert ep.load(half / "half").network is not None
    assert call(f"evaluate {half / 'half'}").done()


@pytest.mark.parametrize("command", ["evaluate {}", "plot {}", "gdu {}", "tune {}", "train --no-plots --resume {}"])
@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_commands_with_a_gpu_that_is_not_there(device, command, half, tmp_path):
    before = files(half)
    said = call(f"{command.format(half / 'half')} --device {device}").complaint()
    assert f"--device must be a device of this machine, got '{device}': PyTorch finds no CUDA device; use cpu" in said
    assert files(half) == before


@pytest.mark.parametrize("device", ABSENT)
def test_programs_with_a_device_that_is_not_there(device, begun, tmp_path):
    before = files(tmp_path)
    run = recipe("digits")
    calls = [lambda: available_device(device), lambda: prepare_run(run, device), lambda: create_run(run, "s", device)]
    if device is not None:
        calls += [lambda: train_run("r", device=device), lambda: train_seeds(["r"], device=device)]
    for function in calls:
        with pytest.raises(ArgumentError, match=r"`device` ") as caught:
            function()
        assert caught.value.argument == "device"
        assert len(str(caught.value).splitlines()) == 1
    assert files(tmp_path) == before


def test_seeds_that_began_on_a_gpu(begun):
    for function in (lambda: initial_device("r"), lambda: train_run("r"), lambda: train_seeds(["r"])):
        with pytest.raises(ArgumentError, match="continue with --device cpu"):
            function()


def test_a_missing_run_of_a_gpu_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(f"train digits {SMALL} --epochs 1 --seeds 2 --out r").done()
    facts = json.loads((tmp_path / "r" / "runs.json").read_text())
    (tmp_path / "r" / "runs.json").write_text(json.dumps(facts | {"device": "cuda"}))
    (tmp_path / "r" / "seed-1").rename(tmp_path / "kept")
    before = files(tmp_path)
    assert "continue with --device cpu" in call("train --no-plots --resume r").complaint()
    assert files(tmp_path) == before
    call("train --no-plots --resume r --device cpu").done()
    assert outcome(tmp_path / "r" / "seed-1") == outcome(tmp_path / "kept")


def test_the_cpu_is_there():
    assert available_device("cpu") == available_device(torch.device("cpu")) == torch.device("cpu")
