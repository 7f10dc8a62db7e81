"""Work that does not fit into memory is refused before it begins, or reported in one line; nothing is created or lost."""

import pytest
import torch

from command import call, files
from eqprop import MLP, ConvNet
from eqprop._core import available_memory
from eqprop._core.available_memory import available_bytes, is_out_of_memory
from eqprop.cli.errors import describe
from eqprop.training import Trainer
from small_sets import secluded

GB = 10**9
TRAIN = "train digits --no-plots --epochs 1 --model.sizes 64 4 10 --estimator.free-steps 4 --estimator.nudged-steps 2"
MESSAGE = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    return secluded(tmp_path, monkeypatch)


def refused(words: str, here) -> str:
    before = files(here)
    complaint = call(words).complaint()
    assert files(here) == before
    return complaint


@pytest.fixture
def one_gigabyte(monkeypatch):
    monkeypatch.setattr(available_memory, "available_bytes", lambda: GB)


TOO_LARGE = {
    "train digits --model.sizes 64 20000 20000 10": "--model.sizes is too large: the weights need 1.6 GB",
    "train digits --model.sizes 64 200000 200000 10": "160.1 GB",
    "train digits --model.sizes 64 20000 20000 10 --model.no-tied": "--model.sizes",
    "compare digits --model.sizes 64 20000 20000 10": "--model.sizes",
    "tune digits --model.sizes 64 20000 20000 10": "--model.sizes",
    "gdu digits --model.sizes 64 20000 20000 10": "--model.sizes",
    "train p-conv-small --model.channels 60000 60000": "--model.channels",
    "train p-conv-small --model.kernel-size 2147483647 --model.padding 2147483647": "--model.channels",
    "train p-conv-small --model.padding 99999": "--model.channels",
    "gdu toy --model.hidden 2147483647": "--model.hidden",
    "gdu toy --data.batch-size 2147483647": "--data.batch-size is too large",
    "bench digits --batch 2147483647": "--batch is too large",
    "bench digits --batch 2 2147483647": "--batch is too large",
}


@pytest.mark.parametrize("words", TOO_LARGE)
@pytest.mark.parametrize("out", ["", " --out x"])
def test_too_large_for_memory(words, out, here, one_gigabyte):
    assert TOO_LARGE[words] in refused(words + out, here)


def test_the_gradients_need_as_much_as_the_weights(here, monkeypatch):
    left = iter([2000, 1000])  # before and after the weights, (64 + 1) 4 + (4 + 1) 10 numbers of 4 bytes
    monkeypatch.setattr(available_memory, "available_bytes", lambda: next(left))
    assert "--model.sizes is too large: the gradients need" in refused(TRAIN, here)


def test_a_model_without_memory_for_its_weights(here, monkeypatch):
    """Where the estimate does not know the limit, the allocation fails."""

    def fail(self, *arguments):
        raise RuntimeError(MESSAGE)

    monkeypatch.setattr(available_memory, "available_bytes", lambda: None)
    monkeypatch.setattr("eqprop.connections.dense.Dense.__init__", fail)
    assert "--model.sizes is too large" in refused(TRAIN, here)


def test_a_batch_larger_than_the_data_needs_no_more_than_the_data(here, one_gigabyte):
    call(f"{TRAIN} --data.batch-size 2147483647 --out x").done()


@pytest.mark.parametrize("spec", [MLP((64, 20000, 20000, 10)), ConvNet((1, 28, 28), (32, 64)), MLP((4, 3), tied=False)])
def test_the_estimate_draws_no_numbers(spec):
    before = torch.get_rng_state()
    from eqprop.models.memory import check_weights_memory

    check_weights_memory(spec)
    assert torch.equal(torch.get_rng_state(), before)


FAILURES = [
    RuntimeError(MESSAGE),
    MemoryError(),
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:75] . DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."
    ),
]


@pytest.mark.parametrize("error", FAILURES, ids=range(len(FAILURES)))
def test_a_failed_allocation_says_what_to_make_smaller(error, here, monkeypatch):
    def step(*arguments, **options):
        raise error

    monkeypatch.setattr(Trainer, "fit", step)
    answer = call(f"{TRAIN} --out x")
    assert answer.code == 1
    assert "out of memory" in answer.error()
    assert "--data.batch-size" in answer.err
    assert files(here) == {}, "nothing was trained"


@pytest.mark.parametrize("command", ["gdu toy --no-plots", "tune digits --no-plots", "bench digits --no-plots"])
def test_a_failed_allocation_of_other_commands(command, here, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError(MESSAGE)

    for name in ("gdu.run_experiment", "tune.tune", "bench.measure"):
        monkeypatch.setattr(f"eqprop.cli.commands.{name}", fail)
    answer = call(command)
    assert answer.code == 1
    assert "out of memory: tried to allocate 8 bytes" in answer.error()
    assert files(here) == {}


def test_seeds_without_memory_leave_nothing(here, monkeypatch):
    monkeypatch.setattr("eqprop.cli.runs.train_seeds", lambda *a, **o: (_ for _ in ()).throw(MemoryError))
    answer = call(f"{TRAIN} --seeds 2 --out x")
    assert answer.code == 1
    assert files(here) == {}


def test_a_training_that_has_begun_is_kept(here, monkeypatch):
    call(f"{TRAIN} --out x").done()
    kept = files(here)
    monkeypatch.setattr("eqprop.cli.runs.train_run", lambda *a, **o: (_ for _ in ()).throw(MemoryError))
    monkeypatch.setattr("eqprop.training.run_folder.RunFolder.is_finished", lambda place: False)
    assert call("train --resume x").code == 1
    assert files(here) == kept


def test_other_errors_are_not_of_memory():
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))
    assert describe(RuntimeError("shapes do not match"))[1] is None


def test_available_memory_is_that_of_the_machine_at_most():
    left = available_bytes()
    assert left is None or 0 <= left < 2**50


def test_a_limit_of_the_container_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(available_memory, "_CGROUP", tmp_path)
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 700\ninactive_file 150\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert available_bytes() == 250  # the page cache can be reclaimed
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes() != 250


def test_a_wide_window_takes_no_memory_for_steps_that_are_not_taken(here):
    """Five steps have four differences: a window of a million mixes the same as one of five."""
    narrow, wide = (
        call(f"{TRAIN} --estimator.free-steps 5:anderson{window} --out {window}").done() for window in (32, 999999)
    )
    assert narrow.split("test")[1].split("residual")[0] == wide.split("test")[1].split("residual")[0]


@pytest.mark.parametrize("command", ["train digits", "compare digits", "reproduce ernoult2019"])
@pytest.mark.parametrize("seeds", [1001, 100000000])
def test_more_seeds_than_can_be_trained(command, seeds, here):
    assert f"--seeds must be at most 1000, got {seeds}" in refused(f"{command} --seeds {seeds}", here)
