"""Seeds at once: the trainings of single seeds up to round-off; stopped, killed, beside one that diverges: the same to the bit."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import eqprop as ep
from eqprop.papers.registry import recipe
from eqprop.training import Data, QuantizedSGD, Run, Trainer, checkpoint, create_run, train_run
from eqprop.training.batch_steps import FitArguments
from eqprop.training.run_folder import RunFolder
from eqprop.training.seeds import SeedTraining, _train_batched, train_seeds, unsupported_reason
from eqprop.training.signals import Interrupted, Interrupts
from small_trainings import CENTRED, TEST, TRAIN, VALIDATION, CallbackSpy, after, assert_nearly, mlp, outcome, sgd

DIGITS = replace(recipe("digits"), epochs=2, data=Data("digits", 100, validation=100))
SEEDS = (0, 1, 2)


def lay_out(top: Path, run: Run = DIGITS) -> list[Path]:
    """A folder a seed."""
    folders = [top / f"seed-{seed}" for seed in SEEDS]
    for seed, folder in zip(SEEDS, folders, strict=True):
        create_run(replace(run, seed=seed), folder)
    return folders


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Trained at once, and never stopped."""
    folders = lay_out(tmp_path_factory.mktemp("whole"))
    train_seeds(folders)
    return folders


def assert_as(folders, whole) -> None:
    """To the bit."""
    for one, other in zip(folders, whole, strict=True):
        assert outcome(one) == outcome(other)


def test_each_is_the_training_of_its_seed(whole, tmp_path):
    for folder, alone in zip(whole, lay_out(tmp_path), strict=True):
        train_run(alone)
        assert_nearly(folder, alone)
        assert RunFolder(folder).config.read_bytes() == RunFolder(alone).config.read_bytes()


def test_seeds_differ(whole):
    weights = [checkpoint.read(RunFolder(folder).last)[0]["model.network.connections.0.weight"] for folder in whole]
    assert not torch.allclose(weights[0], weights[1], atol=0.01)
    assert not torch.allclose(weights[1], weights[2], atol=0.01)


def test_what_torch_draws_elsewhere_changes_nothing_and_is_left_alone(whole, tmp_path):
    torch.manual_seed(77)
    before, folders = torch.get_rng_state(), lay_out(tmp_path)
    train_seeds(folders)
    assert torch.equal(torch.get_rng_state(), before)
    assert_as(folders, whole)


@pytest.mark.parametrize(("count", "place"), [(1, 0), (9, 1), (14, 2), (20, 0)])
def test_a_signal_stops_all_with_their_checkpoints(count, place, whole, tmp_path):
    """Whichever of them has the word when it comes: at the first batch, on the way, at the end of an epoch, in the second."""
    folders = lay_out(tmp_path)
    stop = after(count, lambda: signal.raise_signal(signal.SIGTERM))
    reports = {folder: [stop] if n == place else [] for n, folder in enumerate(folders)}
    with pytest.raises(Interrupted) as caught:
        train_seeds(folders, callbacks=reports, checkpoint_every=1e9)
    assert caught.value.signal == signal.SIGTERM
    for n, folder in enumerate(folders):
        facts = checkpoint.read(RunFolder(folder).last)[1]
        assert facts["epoch"] * 14 + facts["batch"] - count in ((0,) if n >= place else (0, 1))
        with RunFolder(folder).lock():
            pass
    train_seeds(folders)
    assert_as(folders, whole)


@pytest.mark.parametrize("rewound", [(1,), (0, 2)])
def test_some_may_stand_behind_the_others(rewound, whole, tmp_path):
    """As after a kill: batches of two sizes then meet, and some are finished before the others."""
    folders, begun = lay_out(tmp_path / "a"), lay_out(tmp_path / "b")
    for part, count in ((begun, 5), (folders, 16)):
        stop = after(count, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(Interrupted):
            train_seeds(part, callbacks={folder: [stop] * (folder == part[0]) for folder in part})
    for n in rewound:
        shutil.rmtree(folders[n])
        shutil.copytree(begun[n], folders[n])
    train_seeds(folders)
    assert_as(folders, whole)


@pytest.mark.parametrize("left", [(2,), (0, 1)])
def test_what_is_finished_is_left_and_still_has_its_place(left, whole, tmp_path):
    folders = lay_out(tmp_path)
    for n in set(range(3)) - set(left):
        shutil.rmtree(folders[n])
        shutil.copytree(whole[n], folders[n])
    assert list(train_seeds(folders)) == [folders[n] for n in left]
    assert_as(folders, whole)
    with pytest.raises(ValueError, match=r"seed-0, .*seed-2 are finished: train in other folders"):
        train_seeds(folders)


PROGRAM = r"""
import sys
from pathlib import Path
from eqprop.training.seeds import train_seeds
from small_trainings import CallbackSpy
class Tells(CallbackSpy):
    def on_fit_start(self, epochs, batches, rows):
        sys.stdout.write("begins\n")
        sys.stdout.flush()
    def on_batch_end(self, epoch, batch, tally):
        if (epoch, batch) == (2, 6):
            sys.stdout.write("there\n")
            sys.stdout.flush()
folders = [Path(word) for word in sys.argv[1:]]
train_seeds(folders, callbacks={f: [Tells()] * (f == folders[1]) for f in folders}, checkpoint_every=0.01)
"""


def test_killed_in_the_middle(whole, tmp_path):
    folders = lay_out(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, *map(str, folders)],
        cwd=Path(__file__).parents[1],
        env=os.environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert [process.stdout.readline() for _ in range(2)] == ["begins\n", "there\n"]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        process.stdout.close()
    assert any(checkpoint.read(RunFolder(folder).last)[1]["epoch"] == 1 for folder in folders)
    train_seeds(folders)
    assert_as(folders, whole)


def test_what_an_optimizer_draws_is_its_own(tmp_path):
    """Weights rounded at random: by the stream of each training, which its checkpoint keeps."""
    run = replace(DIGITS, optimizer=QuantizedSGD(0.3), epochs=1)
    there, here = lay_out(tmp_path / "there", run), lay_out(tmp_path / "here", run)
    train_seeds(there)
    for folder in here:
        train_run(folder)
    for one, other in zip(there, here, strict=True):
        (a, _), (b, _) = (checkpoint.read(RunFolder(folder).last) for folder in (one, other))
        assert torch.equal(a["random.torch"], b["random.torch"])


def lanes(folder, interrupts, reports) -> list[SeedTraining]:
    """Small trainings of three models, without a stream of their own."""
    found = []
    for n, told in enumerate(reports):
        torch.manual_seed(n)
        model = ep.mlp([4, 6, 3], activation="sigmoid", settle=8)
        trainer = Trainer(model, CENTRED, sgd(model), folder=folder / str(n), callbacks=[told])
        course = FitArguments(TRAIN, 3, VALIDATION, TEST)
        found.append(SeedTraining(trainer, trainer.fit_steps(course, interrupts), nullcontext()))
    return found


def spoil(trainer) -> None:
    with torch.no_grad():
        trainer.model.network.connections[1].weight[0, 0] = float("nan")


@pytest.mark.parametrize("when", [(1, 1), (2, 2), (2, 3), (3, 3)])
def test_one_that_diverges_loses_itself_alone(when, tmp_path):
    """In an epoch, at its end, which the checkpoint notices, and at the end of all."""
    reports = [
        CallbackSpy(),
        CallbackSpy(batch=lambda *now: spoil(group[1].trainer) if now == when else None),
        CallbackSpy(),
    ]
    with Interrupts() as interrupts:
        group = lanes(tmp_path / "spoiled", interrupts, reports)
        outcomes = _train_batched(group, lambda n: mlp().requires_grad_(False))
        untouched = lanes(tmp_path / "whole", interrupts, [CallbackSpy(), CallbackSpy(), CallbackSpy()])
        _train_batched(untouched, lambda n: mlp())
    error = outcomes[1]
    assert isinstance(error, FloatingPointError)
    assert str(error).startswith(f"epoch {when[0]}")
    assert "connections.1.weight is not finite" in str(error) or "population" in str(error)
    for n in (0, 2):
        assert [row["epoch"] for row in outcomes[n]] == [1, 2, 3]
        assert outcome(tmp_path / "spoiled" / str(n)) == outcome(tmp_path / "whole" / str(n))
    tensors, facts = checkpoint.read(RunFolder(tmp_path / "spoiled" / "1").last)
    assert (facts["epoch"], facts["batch"]) == (when[0] - 1, 0)
    assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())
    assert [report.ended for report in reports] == [1, 1, 1]


def test_an_error_of_one_ends_all_and_lets_go_of_their_folders(tmp_path):
    def fail(epoch, batch):
        raise OSError("no room")

    reports = [CallbackSpy(), CallbackSpy(batch=fail), CallbackSpy()]
    with Interrupts() as interrupts:
        group = lanes(tmp_path, interrupts, reports)  # which outlives the error
        with pytest.raises(OSError, match="no room"):
            _train_batched(group, lambda n: mlp())
    assert [report.ended for report in reports] == [1, 1, 1]
    for n in range(3):
        with RunFolder(tmp_path / str(n)).lock():
            assert checkpoint.read(RunFolder(tmp_path / str(n)).last)[1]["batch"] == 0


EP = ep.EquilibriumProp(20, 10, 0.2)
SPIKES = replace(recipe("spiking-digits"), data=DIGITS.data)


@pytest.mark.parametrize(
    "run",
    [
        DIGITS,
        replace(DIGITS, estimator=EP),
        replace(DIGITS, estimator=ep.BPTT(20, 10)),
        replace(DIGITS, estimator=ep.ImplicitDiff(20)),
        replace(DIGITS, estimator=replace(EP, free_steps=ep.Settle(20, average=2))),
        recipe("p-1h"), recipe("p-3h"), recipe("eb-1h"), recipe("p-2h"),
        replace(DIGITS, model=ep.MLP((64, 10), tied=False, angle=30.0)),
    ],
)  # fmt: skip
def test_these_go_at_once(run):
    assert unsupported_reason(run) is None


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (replace(DIGITS, estimator=replace(EP, nudging="random-sign")), "random signs are drawn"),
        (replace(DIGITS, estimator=ep.ContinualEP(20, 10, 0.2)), "ContinualEP moves weights within a phase"),
        (replace(DIGITS, estimator=ep.ContinualSGD(20, 10, 0.2)), "ContinualSGD moves weights within a phase"),
        (replace(DIGITS, estimator=replace(EP, free_steps=ep.Settle(20, tol=1e-3))), "with a tolerance, 0.001, "),
        (replace(DIGITS, estimator=replace(EP, nudged_steps=ep.Settle(20, tol=1e-3))), "with a tolerance, 0.001, "),
        (replace(DIGITS, estimator=replace(EP, free_steps=ep.Settle(20, accelerate=ep.Anderson()))), "acceleration"),
        (SPIKES, "Spiking dynamics"),
        (replace(DIGITS, model=ep.MLP((64, 10), dynamics=ep.Noisy(ep.Prototypical(), 0.1))), "Noisy dynamics"),
        (recipe("p-conv"), "a connection of class Conv2d"),
        (replace(DIGITS, model=ep.MLP((64, 20), cost=ep.CrossEntropyReadout(20, 10))), "its cost, CrossEntropyReadout"),
    ],
)
def test_these_do_not_and_it_is_said_why(run, reason, tmp_path):
    assert reason in unsupported_reason(run)
    with pytest.raises(ValueError, match=r"cannot be batched: .*; call `train_run` with one after the other"):
        train_seeds(lay_out(tmp_path, run))


def test_runs_that_differ_in_more_are_refused(tmp_path):
    create_run(DIGITS, tmp_path / "a")
    create_run(replace(DIGITS, epochs=3, seed=1), tmp_path / "b")
    with pytest.raises(ValueError, match=r"^`folders` must hold runs that differ in their seed alone"):
        train_seeds([tmp_path / "a", tmp_path / "b"])
