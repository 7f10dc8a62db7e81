"""Runs that were stopped, are damaged or in use: they resume with identical results, or are not changed."""

import json
import os
import re
import resource
import shutil
import signal
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from command import call, files
from eqprop.training.config.optimizers import Adam
from eqprop.training.config.run import Run
from eqprop.training.config.schedules import StepDecay
from eqprop.training.progress.callbacks import PlainLines
from eqprop.training.run_folder import RunFolder
from small_trainings import outcome

TRAIN = "train digits --no-plots --epochs 3 --data.validation 100 --data.batch-size 60"
RESUME = "train --no-plots --resume"
LAST, BEST, CONFIG, METRICS = (
    "checkpoint/last.safetensors",
    "checkpoint/best.safetensors",
    "config.json",
    "metrics.jsonl",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training that was never stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    torch.manual_seed(0)  # as before every test; whether it matters is a test of its own
    call(f"{TRAIN} --out {folder}").done()
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@contextmanager
def after_epoch(epoch: int, act):
    """Call a function as soon as that epoch was reported."""
    told = PlainLines.on_epoch_end

    def tell(self, row):
        told(self, row)
        if row["epoch"] == epoch:
            act()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainLines, "on_epoch_end", tell)
        yield


def stopped(folder, number=signal.SIGINT, epoch=2):
    """Train until a signal stops it in the batch after that epoch."""
    with after_epoch(epoch, lambda: signal.raise_signal(number)):
        return call(f"{TRAIN} --out {folder}")


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A training that was stopped in the batch after the second epoch of three."""
    folder = tmp_path_factory.mktemp("half") / "run"
    torch.manual_seed(0)
    assert stopped(folder).code == 130
    return folder


@pytest.fixture
def broken(half, here):
    """A copy of the stopped training, to be damaged."""
    return Path(shutil.copytree(half, here / "run"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_training_stopped_by_a_signal_resumes_with_identical_results(number, code, here, whole):
    answer = stopped("run", number)
    assert answer.code == code
    assert answer.err == "stopped; go on with `eqprop train --resume run`\n"
    assert [line.split("epoch ")[1][0] for line in answer.out.splitlines()] == ["1", "2"]
    torch.manual_seed(123)  # what torch's default generator holds is another matter
    said = call(f"{RESUME} run").done().splitlines()
    assert "resumes after epoch 2" in said[0]
    assert "epoch 3/3" in said[1]
    assert said[2:] == ["results in run"]
    assert outcome(here / "run") == outcome(whole)
    assert (here / "run" / CONFIG).read_bytes() == (whole / CONFIG).read_bytes()


def test_after_a_second_signal_it_still_resumes(here, whole):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with after_epoch(2, twice):
        answer = call(f"{TRAIN} --out run")
    assert answer.code == 130
    assert "--resume run" in answer.err
    call(f"{RESUME} run").done()
    assert outcome(here / "run") == outcome(whole)


def test_stopped_again_and_again(here, whole):
    assert stopped("run", epoch=1).code == 130
    with after_epoch(2, lambda: signal.raise_signal(signal.SIGINT)):
        assert call(f"{RESUME} run").code == 130
    call(f"{RESUME}=run").done()
    assert outcome(here / "run") == outcome(whole)


def test_the_default_generator_does_not_affect_results(here, whole):
    torch.manual_seed(987)
    call(f"{TRAIN} --out run").done()
    assert outcome(here / "run") == outcome(whole)


def test_a_stopped_study_goes_on_with_what_is_left(here):
    words = "compare digits --no-plots --epochs 2 --out study"
    with after_epoch(1, lambda: signal.raise_signal(signal.SIGINT)):
        assert call(words).code == 130
    again = call(f"{RESUME} study")
    direct = call(words.replace("study", "direct")).done()
    assert again.code == 0
    for method in ("ep", "bptt"):
        assert outcome(here / "study" / method / "seed-0") == outcome(here / "direct" / method / "seed-0")
    table = re.compile(r"^\| digits, (\w+)", re.MULTILINE)
    assert table.findall(again.out) == table.findall(direct) == ["EP", "BPTT"]


def test_resume_by_compare(here):
    with after_epoch(1, lambda: signal.raise_signal(signal.SIGINT)):
        assert call("compare digits --no-plots --epochs 2 --out study").code == 130
    assert call("compare --no-plots --resume study").code == 0


def test_a_finished_run_is_left_alone(whole):
    before = files(whole)
    assert "finished" in call(f"{RESUME} {whole}").complaint()
    assert files(whole) == before


def test_a_run_in_use_is_left_alone(here, broken):
    before = files(here)
    with RunFolder(broken).lock():
        assert "run is in use" in call(f"{RESUME} run").complaint()
        assert files(here) == before
        assert call("evaluate run").code == 0  # reading is allowed


def test_options_of_a_run_cannot_be_changed_on_the_way(here, broken):
    before = files(here)
    for option in ("--epochs 9", "--seed 1", "--estimator.beta 0.1", "--out other"):
        assert option.split()[0] in call(f"{RESUME} run {option}").complaint()
    assert files(here) == before


@pytest.mark.parametrize("words", ["evaluate run", "evaluate run --which best", "plot run", f"{RESUME} run"])
def test_an_unfinished_run_can_be_looked_at(words, here):
    stopped("run", epoch=1)
    assert call(words).code == 0


@pytest.mark.parametrize("words", ["evaluate run", "plot run", f"{RESUME} run"])
def test_a_run_without_a_whole_epoch_can_be_looked_at(words, here, whole):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eqprop.training.trainer.Trainer._train_epoch", no_pass)
        assert call(f"{TRAIN} --out run").code == 1
    assert not (here / "run" / METRICS).exists()
    assert call(words).code == 0
    if "--resume" in words:
        assert outcome(here / "run") == outcome(whole)


def no_pass(*arguments):
    raise FloatingPointError("stopped by the test")


def flipped(at):
    def damage(path):
        raw = bytearray(path.read_bytes())
        raw[at] ^= 1
        path.write_bytes(bytes(raw))

    return damage


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


def removed(path):
    path.unlink()


CHECKPOINT = {
    "bit in a weight": flipped(-100),
    "bit in the facts": flipped(40),
    "bit in the length": flipped(7),
    "cut": cut,
    "emptied": emptied,
    "removed": removed,
}


@pytest.mark.parametrize("words", ["evaluate run", "plot run", f"{RESUME} run"])
@pytest.mark.parametrize("damage", CHECKPOINT)
def test_a_damaged_checkpoint(damage, words, here, broken):
    CHECKPOINT[damage](broken / LAST)
    before = files(here)
    assert "last.safetensors" in call(words).complaint()
    assert files(here) == before


@pytest.mark.parametrize("damage", CHECKPOINT)
def test_damaged_weights_of_the_best_epoch(damage, here, broken):
    CHECKPOINT[damage](broken / BEST)
    before = files(here)
    assert "best.safetensors" in call("evaluate run --which best").complaint()
    assert files(here) == before
    assert call("evaluate run").code == 0


def replaced(old, new):
    def damage(path):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return damage


CONFIGURATION = {
    "cut": (cut, ""),
    "emptied": (emptied, ""),
    "bytes": (lambda path: path.write_bytes(b"\xff\xfe\x00"), ""),
    "another value": (lambda path: path.write_text("[1]\n"), ""),
    "deep": (lambda path: path.write_text("[" * 100_000), ""),
    "another class": (replaced('"Cosine"', '"Cosin"'), "'Cosin'"),
    "no class": (replaced('"Cosine"', "[1]"), "[1]"),
    "another field": (replaced('"floor"', '"flor"'), "'flor'"),
    "a bad value": (replaced('"beta": 0.2', '"beta": 0'), "got 0"),
    "a bad number": (replaced('"epochs": 3', '"epochs": 2.5'), "got 2.5"),
}


@pytest.mark.parametrize("words", ["evaluate run", "plot run", f"{RESUME} run"])
@pytest.mark.parametrize("damage", CONFIGURATION)
def test_a_damaged_configuration(damage, words, here, broken):
    act, value = CONFIGURATION[damage]
    act(broken / CONFIG)
    before = files(here)
    complaint = call(words).complaint()
    assert "run/config.json" in complaint
    assert value in complaint
    assert files(here) == before


@pytest.mark.parametrize("words", ["evaluate run", "plot run", f"{RESUME} run"])
def test_a_configuration_of_another_network(words, here, broken):
    replaced("128", "64")(broken / CONFIG)
    before = files(here)
    assert re.search("another (model|configuration)", call(words).complaint())
    assert files(here) == before


CHANGES = {
    "optimizer": lambda run: replace(run, optimizer=Adam(0.3)),
    "schedule": lambda run: replace(run, schedule=StepDecay(every=2)),
    "batches": lambda run: replace(run, data=replace(run.data, batch_size=30)),
    "beta": lambda run: replace(run, estimator=replace(run.estimator, beta=0.3)),
    "seed": lambda run: replace(run, seed=1),
}


@pytest.mark.parametrize("part", CHANGES)
def test_a_configuration_that_was_changed_on_the_way(part, here, broken):
    """A run whose configuration was changed cannot be resumed: its results would belong to neither."""
    config = broken / CONFIG
    config.write_text(CHANGES[part](Run.from_json(config.read_text())).to_json())
    before = files(here)
    assert "config.json" in call(f"{RESUME} run").complaint()
    assert files(here) == before


ROWS = {
    "a list": lambda path: path.write_text("[1]\n"),
    "a number": lambda path: path.write_text("1\n"),
    "another object": lambda path: path.write_text('{"a": 1}\n'),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\n"),
    "a bad first line": lambda path: path.write_text("x" + path.read_text()),
    "a lost last line": lambda path: path.write_text(path.read_text().splitlines()[0] + "\n"),
    "half a line too few": lambda path: path.write_text(path.read_text()[:-30]),
    "removed": removed,
}


@pytest.mark.parametrize("damage", ROWS)
def test_damaged_metrics(damage, here, broken):
    """Rows of epochs before the checkpoint must be there, as they cannot be measured again."""
    ROWS[damage](broken / METRICS)
    before = files(here)
    assert "metrics.jsonl" in call(f"{RESUME} run").complaint()
    assert files(here) == before


@pytest.mark.parametrize("damage", ["a list", "a number", "another object", "bytes"])
def test_metrics_that_cannot_be_drawn(damage, here, broken):
    ROWS[damage](broken / METRICS)
    before = files(here)
    assert "metrics.jsonl" in call("plot run").complaint()
    assert files(here) == before


def test_half_a_line_that_a_kill_left_is_dropped(whole, broken):
    with (broken / METRICS).open("a") as file:
        file.write('{"epoch": 3, "train_c')
    call(f"{RESUME} run").done()
    assert outcome(broken) == outcome(whole)


def test_an_invalid_run_is_found_before_the_others_are_trained(here):
    with after_epoch(1, lambda: signal.raise_signal(signal.SIGINT)):
        call("train digits --no-plots --epochs 2 --seeds 2 --out study")
    (here / "study" / "seed-1" / CONFIG).write_text("{")
    for words in (f"{RESUME} study", "plot study"):
        before = files(here)
        assert "seed-1/config.json" in call(words).complaint()
        assert files(here) == before


def test_a_study_is_no_run_to_evaluate(here):
    call("train digits --no-plots --epochs 1 --seeds 2 --out study").done()
    assert "study/seed-0" in call("evaluate study").complaint()


@contextmanager
def no_file_larger_than(size):
    """Limit the size of files, which has the effect of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("when", ["before the first checkpoint", "later"])
def test_a_full_disk(when, here, whole):
    if when == "later":
        stopped("run")
    with no_file_larger_than(20_000):
        answer = call(f"{RESUME} run" if when == "later" else f"{TRAIN} --out run")
    assert answer.code == 1
    assert "--resume run" in answer.error()
    assert "too large" in answer.err
    assert not [name for name in files(here) if ".part" in name or ".tmp" in name]
    call(f"{RESUME} run").done()
    assert outcome(here / "run") == outcome(whole)


def test_a_disk_full_of_figures_does_not_lose_the_training(here, whole):
    """The training finishes, and the error says how to draw the figures later."""
    with no_file_larger_than(70_000):
        answer = call(f"{TRAIN.replace(' --no-plots', '')} --out run")
    assert outcome(here / "run") == outcome(whole)
    assert answer.code == 1
    assert "run" in answer.error()
    assert "eqprop plot run" in answer.err
    assert not [name for name, content in files(here).items() if content is not None and len(content) == 70_000]


def test_a_rate_of_a_million_diverges(here):
    answer = call("train digits --no-plots --epochs 2 --model.activation identity --optimizer.rates 1e6 --out run")
    assert answer.code == 1
    assert "diverged" in answer.error()
    assert "run" in answer.err
    assert "learning rate" in answer.err
    said = call("evaluate run")
    assert said.code == 0
    assert "nan" not in said.out


@pytest.mark.filterwarnings("always")
def test_a_rate_of_a_million_into_saturation_is_warned_of(here):
    answer = call("train digits --no-plots --epochs 3 --optimizer.rates 1e6 --out run")
    assert answer.code == 0
    assert answer.err.startswith("eqprop: warning: ")
    assert "does not learn" in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("options", ["--data.batch-size 1437", "--model.sizes 64 32 16 10 --optimizer.rates 0.2"])
def test_a_slow_beginning_is_not_warned_of(options, here):
    """These trainings learn, but not in the first epoch."""
    assert "does not learn" not in call(f"train digits --no-plots --epochs 2 {options} --out run").err


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_run_that_must_not_be_written_to(broken):
    (broken).chmod(0o555)
    try:
        assert "Permission denied" in call(f"{RESUME} run").complaint()
    finally:
        (broken).chmod(0o755)


def test_the_metrics_of_a_resumed_run_are_whole(broken):
    call(f"{RESUME} run").done()
    rows = [json.loads(line) for line in (broken / METRICS).read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
