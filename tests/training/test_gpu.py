"""A training on a GPU stops, goes on and is tested as one on the CPU does."""

from dataclasses import replace

import pytest
import torch

from eqprop.papers.registry import recipe
from eqprop.training import create_run, evaluate, load, prepare_run, train_run
from eqprop.training.run_folder import RunFolder
from eqprop.training.signals import Interrupted
from small_trainings import CallbackSpy

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]


def test_a_training_on_a_gpu_goes_on_to_the_same_end(tmp_path):
    run = replace(recipe("digits"), epochs=2)
    for name in ("whole", "broken"):
        create_run(run, tmp_path / name, "cuda")
    rows = train_run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train_run(tmp_path / "broken", callbacks=[CallbackSpy(batch=interrupt)])
    train_run(tmp_path / "broken")
    assert RunFolder(tmp_path / "broken").last.read_bytes() == RunFolder(tmp_path / "whole").last.read_bytes()
    score = evaluate(load(tmp_path / "whole").to("cuda"), prepare_run(run, "cuda").test)
    assert score.error == rows[-1]["test_error"]


def interrupt(epoch, batch):
    """Ctrl-C in the middle of the first epoch."""
    if (epoch, batch) == (1, 30):
        import signal

        signal.raise_signal(signal.SIGINT)
