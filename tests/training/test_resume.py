"""A training that was stopped anywhere and resumed ends with the same bytes as one that was not."""

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest
import torch
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

import eqprop as ep
from eqprop.data import Augment, Batches
from eqprop.training import SGD, Adam, Constant, Cosine, StepDecay, Trainer, checkpoint
from eqprop.training.run_folder import RunFolder
from eqprop.training.signals import Interrupted
from small_trainings import CENTRED, TEST, TRAIN, VALIDATION, CallbackSpy, after, blobs, mlp, outcome, timeless

EPOCHS, BATCHES = 2, 3


def in_order():
    return Batches(*blobs(), 8, seed=4)


def varied():
    """The inputs as images of two by two pixels, moved and mirrored."""
    x, y = blobs()
    return Batches(x.reshape(-1, 2, 2), y, 8, seed=4, augment=Augment(1), black=(0.1,), shape=(4,))


def loader():
    return DataLoader(TensorDataset(*blobs()), 8, shuffle=True)


@dataclass(frozen=True)
class Training:
    """Everything that a training is made of, to be made anew for every attempt at it."""

    estimator: ep.Estimator = CENTRED
    optimizer: SGD | Adam = field(default_factory=lambda: SGD(0.5))
    schedule: Constant | Cosine | StepDecay = field(default_factory=Constant)
    batches: Callable = in_order
    validation: Callable = lambda: VALIDATION
    test: Callable = lambda: TEST

    def begin(self, folder, callbacks=(), resume=False, noise=7, epochs=EPOCHS, every=0.0):
        """Fit or resume, as a new process would: with new objects, and another state of torch's default generator."""
        model = mlp()
        optimizer = self.optimizer.build(model)
        scheduler = self.schedule.build(optimizer, EPOCHS)
        trainer = Trainer(
            model, self.estimator, optimizer,
            scheduler=scheduler, folder=folder, seed=3, callbacks=callbacks, checkpoint_every=every,
        )  # fmt: skip
        batches, validation, test = self.batches(), self.validation(), self.test()
        torch.manual_seed(noise)
        go = trainer.resume if resume else trainer.fit
        return go(batches, epochs, validation=validation, test=test)


def noisy(model, x, y, *, on_free_phase=None, generator=None):
    """A user's own estimator that draws from torch's default generator, and from the one that it is given."""
    x = x + 0.05 * torch.randn(x.shape) + 0.05 * torch.randn(x.shape, generator=generator)
    return CENTRED(model, x, y, on_free_phase=on_free_phase)


TRAININGS = {
    "centred": Training(),
    "random-sign": Training(ep.EquilibriumProp(8, 4, 0.2, "random-sign"), SGD((0.5, 0.2))),
    "continual": Training(ep.ContinualEP(8, 4, 0.2, "random-sign"), SGD((0.1, 0.05))),
    "continual SGD, steps": Training(
        ep.ContinualSGD(8, 4, 0.2, nudging="random-sign"), SGD((0.1, 0.05)), schedule=StepDecay(1, 0.5)
    ),
    "bptt": Training(ep.BPTT(8, 5)),
    "adam, cosine": Training(optimizer=Adam(0.02, weight_decay=1e-3), schedule=Cosine(1e-4)),
    "momentum, steps": Training(optimizer=SGD(0.3, momentum=0.9, weight_decay=1e-3), schedule=StepDecay(1, 0.5)),
    "shuffling loader": Training(batches=loader),
    "shuffling loader, random-sign": Training(ep.EquilibriumProp(8, 4, 0.2, "random-sign"), batches=loader),
    "augmented": Training(batches=varied),
    "own noise": Training(noisy),
    "own noise, shuffling loader": Training(noisy, batches=loader),
    "list": Training(batches=lambda: TRAIN),
    "loaders everywhere": Training(batches=loader, validation=loader, test=loader),
}


class Stopped(Exception):
    """What ends a training in these tests."""


def stop():
    raise Stopped


def interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """The disk itself need not be waited for."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def whole(request, tmp_path):
    """What comes of a training that nobody stops."""
    request.param.begin(tmp_path / "whole")
    return request.param, outcome(tmp_path / "whole")


def each(names=TRAININGS):
    return pytest.mark.parametrize("whole", [TRAININGS[name] for name in names], ids=list(names), indirect=True)


@each()
def test_stopped_after_any_number_of_batches(whole, tmp_path):
    """Each batch has its checkpoint, but the one that is stopped at: it is done again."""
    training, wanted = whole
    for batches in range(1, EPOCHS * BATCHES + 1):
        folder = tmp_path / str(batches)
        with pytest.raises(Stopped):
            training.begin(folder, [after(batches, stop)])
        facts = checkpoint.read(RunFolder(folder).last)[1]
        assert facts["epoch"] * BATCHES + facts["batch"] == batches - 1
        training.begin(folder, resume=True, noise=99)
        assert outcome(folder) == wanted


@each(["random-sign", "adam, cosine", "shuffling loader"])
def test_stopped_at_every_second_batch(whole, tmp_path):
    training, wanted = whole
    with pytest.raises(Stopped):
        training.begin(tmp_path / "a", [after(2, stop)])
    for attempt in range(EPOCHS * BATCHES - 2):  # of two batches, one is kept
        with pytest.raises(Stopped):
            training.begin(tmp_path / "a", [after(2, stop)], resume=True, noise=attempt)
    training.begin(tmp_path / "a", resume=True)
    assert outcome(tmp_path / "a") == wanted


@each(["centred", "momentum, steps", "shuffling loader"])
def test_checkpoints_of_epochs_alone_are_enough(whole, tmp_path):
    training, wanted = whole
    for batches in range(1, EPOCHS * BATCHES + 1):
        folder = tmp_path / str(batches)
        with pytest.raises(Stopped):
            training.begin(folder, [after(batches, stop)], every=1e6)
        facts = checkpoint.read(RunFolder(folder).last)[1]
        assert (facts["epoch"], facts["batch"]) == ((batches - 1) // BATCHES, 0)
        training.begin(folder, resume=True, noise=99)
        assert outcome(folder) == wanted


@each(["centred", "random-sign", "shuffling loader"])
def test_ctrl_c_at_any_batch(whole, tmp_path):
    """That batch is finished, and the checkpoint is at exactly it."""
    training, wanted = whole
    for batches in range(1, EPOCHS * BATCHES + 1):
        folder, report = tmp_path / str(batches), after(batches, interrupt)
        with pytest.raises(Interrupted) as caught:
            training.begin(folder, [report], every=1e6)
        assert caught.value.signal == signal.SIGINT
        assert len(report.batches) == batches
        facts = checkpoint.read(RunFolder(folder).last)[1]
        assert facts["epoch"] * BATCHES + facts["batch"] == batches
        training.begin(folder, resume=True, noise=99)
        assert outcome(folder) == wanted


@each(["adam, cosine", "momentum, steps"])
def test_ctrl_c_between_the_last_batch_and_the_schedules_step(whole, tmp_path):
    """The resumed process has made no step of its own when the schedule's is due."""
    training, wanted = whole
    for epoch in range(1, EPOCHS + 1):
        folder = tmp_path / str(epoch)
        with pytest.raises(Interrupted):
            training.begin(folder, [after(epoch * BATCHES, interrupt)])
        training.begin(folder, resume=True, noise=99)
        assert outcome(folder) == wanted


@each(["random-sign", "list", "shuffling loader"])
@pytest.mark.parametrize("saved", [True, False])
def test_the_same_trainer_goes_on_after_ctrl_c(whole, tmp_path, saved):
    """As in a notebook, where nobody makes a new one; with a folder or without."""
    training, (last, best, rows) = whole
    model = mlp()
    optimizer = training.optimizer.build(model)
    report = after(5, interrupt)
    folder = tmp_path / "a" if saved else None
    trainer = Trainer(model, training.estimator, optimizer, folder=folder, seed=3, callbacks=[report])
    batches = training.batches()
    torch.manual_seed(7)
    with pytest.raises(Interrupted):
        trainer.fit(batches, EPOCHS, validation=VALIDATION, test=TEST)
    found = trainer.fit(batches, EPOCHS, validation=VALIDATION, test=TEST)
    assert timeless(found) == rows
    if saved:
        assert outcome(folder) == (last, best, rows)


class Interrupting:
    """Samples during whose n-th iteration a signal comes, before the item of that number or after the last one."""

    def __init__(self, samples, iteration, item):
        self.samples, self.left, self.item = samples, iteration, item

    def __iter__(self):
        self.left -= 1
        for number, pair in enumerate(self.samples):
            if self.left == 0 and number == self.item:
                interrupt()
            yield pair
        if self.left == 0 and self.item == len(self.samples):
            interrupt()


@each(["centred", "random-sign", "shuffling loader"])
@pytest.mark.parametrize("part", ["validation", "test"])
def test_ctrl_c_during_an_evaluation(whole, tmp_path, part):
    """It is not finished, but done again from the start."""
    training, wanted = whole
    for epoch in range(1, EPOCHS + 1):
        for item in range(2):
            folder = tmp_path / f"{epoch}-{item}"
            samples = Interrupting(getattr(training, part)(), epoch, item)
            broken = replace(training, **{part: lambda samples=samples: samples})
            with pytest.raises(Interrupted):
                broken.begin(folder, every=1e6)
            assert len(RunFolder(folder).rows()) == epoch - 1
            facts = checkpoint.read(RunFolder(folder).last)[1]
            assert (facts["epoch"], facts["batch"]) == (epoch - 1, BATCHES)
            training.begin(folder, resume=True, noise=99)
            assert outcome(folder) == wanted


@each(["loaders everywhere"])
@pytest.mark.parametrize("part", ["validation", "test"])
def test_ctrl_c_during_an_evaluation_that_draws(whole, tmp_path, part):
    """What the unfinished evaluation has drawn must not shift what later epochs draw."""
    training, wanted = whole
    samples = Interrupting(getattr(training, part)(), 1, 1)
    broken = replace(training, **{part: lambda: samples})
    with pytest.raises(Interrupted):
        broken.begin(tmp_path / "a", every=1e6)
    training.begin(tmp_path / "a", resume=True, noise=99)
    assert outcome(tmp_path / "a") == wanted


@each(["centred"])
@pytest.mark.parametrize("epoch", [1, EPOCHS])
def test_ctrl_c_at_the_end_of_an_evaluation_is_not_lost(whole, tmp_path, epoch):
    """Not even when nothing is left to do: who runs several trainings must stop."""
    training, wanted = whole
    samples = Interrupting(TEST, epoch, len(TEST))
    broken = replace(training, test=lambda: samples)
    with pytest.raises(Interrupted):
        broken.begin(tmp_path / "a", every=1e6)
    training.begin(tmp_path / "a", resume=True, noise=99)
    assert outcome(tmp_path / "a") == wanted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_signal_is_named(tmp_path, number):
    with pytest.raises(Interrupted) as caught:
        Training().begin(tmp_path, [after(2, lambda: signal.raise_signal(number))])
    assert caught.value.signal == number
    assert isinstance(caught.value, KeyboardInterrupt)


@pytest.fixture
def _foreground():
    """Ctrl-C does what it does in a terminal, even if these tests run in the background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_foreground")
def test_a_second_ctrl_c_is_obeyed_at_once(tmp_path):
    """In the middle of a batch; the checkpoint is then the one before it."""

    def twice(model, x, y, *, on_free_phase=None, on_nudged_phase=None, generator=None):
        losses = list(CENTRED(model, x, y, on_free_phase=on_free_phase, on_nudged_phase=on_nudged_phase))
        if len(seen.batches) == 4:
            interrupt()
            interrupt()
        yield from losses

    seen = CallbackSpy()
    with pytest.raises(KeyboardInterrupt) as caught:
        Training(twice).begin(tmp_path, [seen])
    assert not isinstance(caught.value, Interrupted)
    assert len(seen.batches) == 4
    assert checkpoint.read(RunFolder(tmp_path).last)[1]["batch"] == 1
    Training().begin(tmp_path, resume=True)
    Training().begin(tmp_path / "whole")
    assert outcome(tmp_path) == outcome(tmp_path / "whole")


class Killed(BaseException):
    """Like a kill, it is not handled by anybody."""


@each(["random-sign", "momentum, steps"])
@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_killed_at_any_write(whole, tmp_path, monkeypatch, operation):
    """Between a file's being written and its being in place, and between any two files."""
    training, wanted = whole
    where, plain = (os, os.fsync) if operation == "fsync" else (Path, Path.replace)
    for writes in count(1):
        folder, left = tmp_path / str(writes), iter(range(writes - 1))

        def kill(*args, left=left):
            if next(left, None) is None:
                raise Killed
            return plain(*args)

        with monkeypatch.context() as broken:
            broken.setattr(where, operation, kill)
            try:
                training.begin(folder)
            except Killed:
                pass
            else:
                break
        begun = RunFolder(folder).last.exists()
        training.begin(folder, resume=begun, noise=99 if begun else 7)
        assert outcome(folder) == wanted
    assert writes > EPOCHS * (BATCHES + 1)  # every batch and every epoch has its checkpoint


@each(["adam, cosine", "shuffling loader"])
def test_rows_after_the_checkpoint_are_done_again(whole, tmp_path):
    training, wanted = whole
    folder = RunFolder(tmp_path / "a")
    with pytest.raises(Stopped):
        training.begin(folder.path, [after(5, stop)])
    old = folder.last.read_bytes()
    training.begin(folder.path, resume=True, noise=99)
    folder.last.write_bytes(old)  # at the first batch of the second epoch; all rows are in the metrics
    assert len(folder.rows()) == EPOCHS
    training.begin(folder.path, resume=True, noise=98)
    assert outcome(folder.path) == wanted


@each(["centred"])
@pytest.mark.parametrize("torn", ['{"epoch": 2, "train_cost": 0.1', "{", '{"epoch": 2}', "\n", '{"epo'])
def test_a_torn_line_is_dropped(whole, tmp_path, torn):
    training, wanted = whole
    folder = RunFolder(tmp_path / "a")
    with pytest.raises(Stopped):
        training.begin(folder.path, [after(5, stop)])
    assert len(folder.rows()) == 1
    with folder.metrics.open("a") as file:
        file.write(torn)
    training.begin(folder.path, resume=True, noise=99)
    assert outcome(folder.path) == wanted
    assert len(folder.metrics.read_text().splitlines()) == EPOCHS


def test_a_row_that_could_not_be_written_is_written_once(tmp_path, monkeypatch):
    """The disk was full at the metrics; room is made, and the same trainer goes on."""
    Training().begin(tmp_path / "whole")
    model = mlp()
    trainer = Trainer(model, CENTRED, SGD(0.5).build(model), folder=tmp_path / "a", seed=3)

    def torn(path, line):
        with path.open("a") as file:
            file.write(line[:30])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    torch.manual_seed(7)
    with monkeypatch.context() as broken:
        broken.setattr("eqprop.training.run_folder.append_line", torn)
        with pytest.raises(OSError, match="No space left on device"):
            trainer.fit(in_order(), EPOCHS, validation=VALIDATION, test=TEST)
    rows = trainer.fit(in_order(), EPOCHS, validation=VALIDATION, test=TEST)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert outcome(tmp_path / "a") == outcome(tmp_path / "whole")


def test_resuming_a_finished_training_adds_epochs(tmp_path):
    training = Training(ep.EquilibriumProp(8, 4, 0.2, "random-sign"), batches=loader)
    training.begin(tmp_path / "a", epochs=2)
    training.begin(tmp_path / "a", epochs=5, resume=True, noise=99)
    training.begin(tmp_path / "b", epochs=5)
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")


def test_resuming_what_is_done_does_nothing(tmp_path):
    rows = Training().begin(tmp_path)
    before = outcome(tmp_path)
    assert Training().begin(tmp_path, resume=True, noise=99) == rows
    assert outcome(tmp_path) == before


def test_a_copied_folder_goes_on_alike(tmp_path):
    with pytest.raises(Stopped):
        Training().begin(tmp_path / "a", [after(4, stop)])
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere" / "b")
    Training().begin(tmp_path / "a", resume=True)
    Training().begin(tmp_path / "elsewhere" / "b", resume=True, noise=99)
    assert outcome(tmp_path / "a") == outcome(tmp_path / "elsewhere" / "b")


def test_time_goes_on_from_where_it_was(tmp_path):
    """The seconds of an epoch that was interrupted are those of both its parts."""

    def wait(epoch, batch):
        time.sleep(0.05)

    with pytest.raises(Stopped):
        Training().begin(tmp_path, [CallbackSpy(batch=wait), after(3, stop)])
    rows = Training().begin(tmp_path, [CallbackSpy(batch=wait)], resume=True)
    assert rows[0]["seconds"] >= 0.15


SCHEDULERS = {
    "steps": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
    "milestones": lambda o: lr_scheduler.MultiStepLR(o, [2, 3]),
    "milestone twice": lambda o: lr_scheduler.MultiStepLR(o, [3, 3, 4], 0.3),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.7),
    "linear": lambda o: lr_scheduler.LinearLR(o, 0.2, total_iters=4),
    "polynomial": lambda o: lr_scheduler.PolynomialLR(o, 5, 2.0),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 5),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=6),
    "function": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.8**epoch),
    "sequence": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.MultiStepLR(o, [1])], milestones=[2]
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_of_torch_go_on_exactly(tmp_path, name):
    def begin(folder, resume, epochs):
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.5)
        trainer = Trainer(model, CENTRED, optimizer, scheduler=SCHEDULERS[name](optimizer), folder=folder)
        return (trainer.resume if resume else trainer.fit)(TRAIN, epochs)

    rows = begin(tmp_path / "whole", False, 5)
    for epochs in (1, 2, 3):
        folder = tmp_path / str(epochs)
        begin(folder, False, epochs)
        assert timeless(begin(folder, True, 5)) == timeless(rows)
        assert outcome(folder)[1:] == outcome(tmp_path / "whole")[1:]
    assert len({str(row["rates"]) for row in rows}) > 1
