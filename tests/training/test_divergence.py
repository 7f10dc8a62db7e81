"""A training that goes wrong says so in plain words, and keeps what was good."""

import warnings

import pytest
import torch

import eqprop as ep
from eqprop.training import SGD, Data, Run, Trainer, checkpoint, create_run, load, train_run
from eqprop.training.run_folder import RunFolder
from small_trainings import CENTRED, TEST, TRAIN, CallbackSpy, blobs, cut, mlp, sgd, trainer


def linear(settle=8) -> ep.Model:
    """Nothing bounds its states."""
    return mlp(activation="identity", settle=settle)


def diverging(folder=None, rate=1e6, **options) -> Trainer:
    model = linear()
    return Trainer(model, CENTRED, sgd(model, rate), folder=folder, **options)


def finite(path) -> bool:
    tensors, _ = checkpoint.read(path)
    return all(torch.isfinite(tensor).all() for tensor in tensors.values() if tensor.is_floating_point())


@pytest.mark.parametrize("every", [0.0, 60.0])
def test_it_stops_and_says_where(tmp_path, every):
    report = CallbackSpy()
    with pytest.raises(FloatingPointError, match=r"^epoch 1, batch \d: .*(diverged|not finite)") as caught:
        diverging(tmp_path, checkpoint_every=every, callbacks=[report]).fit(TRAIN, 3)
    assert str(caught.value).startswith(f"epoch 1, batch {len(report.batches) + 1}: ")
    assert report.ended == 1
    assert finite(RunFolder(tmp_path).last)


def test_the_last_good_epoch_is_kept(tmp_path):
    """Two good epochs, then a rate that no training bears."""
    trainer(tmp_path).fit(TRAIN, 2)
    folder = RunFolder(tmp_path)
    best = folder.best.read_bytes()
    wild = trainer(tmp_path, callbacks=[CallbackSpy(batch=lambda epoch, batch: spoil(wild))])

    def spoil(third):
        with torch.no_grad():
            third.model.network.connections[0].weight.fill_(float("nan"))

    with pytest.raises(
        FloatingPointError, match=r"^epoch 3, batch 2: parameter \S*connections\.0\.weight is not finite"
    ):
        wild.resume(TRAIN, 4)
    assert checkpoint.read(folder.last)[1]["epoch"] == 2
    assert [row["epoch"] for row in folder.rows()] == [1, 2]
    assert folder.best.read_bytes() == best
    assert finite(folder.last)
    trainer(tmp_path).resume(TRAIN, 3)


@pytest.mark.parametrize("when", ["in an epoch", "with checkpoints", "at its end", "at its end, tested"])
def test_where_is_said_whenever_it_is_noticed(tmp_path, when):
    """By the next batch, by a checkpoint, by the end of the epoch, or by a test."""
    spoiled = 2 if when in ("in an epoch", "with checkpoints") else 3

    def spoil(epoch, batch):
        if (epoch, batch) == (2, spoiled):
            with torch.no_grad():
                third.model.network.connections[1].weight[0, 0] = float("inf")

    every = 0.0 if when == "with checkpoints" else 60.0
    third = trainer(tmp_path, callbacks=[CallbackSpy(batch=spoil)], checkpoint_every=every)
    with pytest.raises(FloatingPointError, match=r"^epoch 2\b.*(diverged|not finite)"):
        third.fit(TRAIN, 3, test=TEST if when == "at its end, tested" else None)
    assert finite(RunFolder(tmp_path).last)
    assert [row["epoch"] for row in RunFolder(tmp_path).rows()] == [1]


def test_a_cost_too_large_for_a_number_is_divergence(tmp_path):
    """States near 1e25 are finite, their squares are not; and no file can carry such a cost."""
    x, y = blobs(6)
    model = linear()
    trainer = Trainer(model, CENTRED, sgd(model, 1e-3), folder=tmp_path)
    with pytest.raises(FloatingPointError, match=r"^epoch 1\b"):
        trainer.fit(TRAIN, 2, test=cut(1e25 * x, y))
    assert checkpoint.read(RunFolder(tmp_path).last)[1]["epoch"] == 0


def digits_run(activation, rate) -> Run:
    model = ep.MLP((64, 8, 10), activation, dynamics=ep.Prototypical(nudge="inside"))
    return Run("mine", Data("digits", 100), model, CENTRED, SGD(rate), epochs=3)


def test_a_run_with_a_rate_of_a_million(tmp_path):
    create_run(digits_run("identity", 1e6), tmp_path / "a")
    with pytest.raises(FloatingPointError, match=r"^epoch 1, batch \d+: "):
        train_run(tmp_path / "a")
    model = load(tmp_path / "a")
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert torch.isfinite(model(torch.rand(3, 64))).all()


def test_a_bounded_network_with_a_rate_of_a_million_does_not_learn(tmp_path):
    create_run(digits_run("sigmoid", 1e6), tmp_path / "a")
    message = r"^epoch \d: the training error is [\d.]+% and guessing gives 90\.0%: .* does not learn; lower the learning rate"
    with pytest.warns(RuntimeWarning, match=message):
        rows = train_run(tmp_path / "a")
    assert len(rows) == 3
    assert rows[-1]["train_error"] > 0.8


def stuck(epochs, samples=120, rate=1e-12):
    """Three classes by guessing: the weights hardly move, and the classes are random."""
    draw = torch.Generator().manual_seed(8)
    x, y = torch.rand(samples, 4, generator=draw), torch.randint(3, (samples,), generator=draw)
    model = mlp()
    with torch.no_grad():
        model.network.connections[1].bias.copy_(torch.tensor([-1.0, -1.0, -2.0]))
    return Trainer(model, CENTRED, sgd(model, rate)).fit(cut(x, y, 40), epochs)


def test_a_training_that_learns_is_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer().fit(cut(*blobs(120)), 8)


def test_a_handful_of_samples_is_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stuck(3, samples=20)


def test_a_stuck_training_is_warned_of_once():
    with pytest.warns(RuntimeWarning, match=r"does not learn") as caught:
        stuck(6)
    assert len(caught) == 1
