"""The trainer is the loop that anybody would write, and nothing of it depends on who looks on."""

import math
import signal
import threading

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import eqprop as ep
from eqprop.data import Batches, load_digits
from eqprop.estimators import as_loss
from eqprop.training import SGD, StepDecay, Trainer, checkpoint
from eqprop.training.metrics import Score
from eqprop.training.run_folder import RunFolder
from small_trainings import CENTRED, TEST, TRAIN, VALIDATION, CallbackSpy, blobs, cut, mlp, sgd, timeless, trainer

ESTIMATORS = {"centred": CENTRED, "bptt": ep.BPTT(8, 5), "implicit": ep.ImplicitDiff(8)}


def by_hand(model, estimator, optimizer, epochs, batches_of):
    """The ten-line loop; for each epoch mean cost and fraction of errors of the free phases."""
    found = []
    for epoch in range(epochs):
        cost = wrong = samples = 0
        for x, y in batches_of(epoch):
            seen = []
            for loss in estimator(model, x, y, on_free_phase=seen.append):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            cost += loss.item() * len(y)
            wrong += int((model.cost.predict(seen[0].state[-1]).argmax(1) != y).sum())
            samples += len(y)
        found.append((cost / samples, wrong / samples))
    return found


def same_weights(a, b) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_training_is_the_loop_by_hand_to_the_bit(name):
    (x, y), _ = load_digits()
    batches = Batches(x[:50], y[:50], 8, seed=3)
    torch.manual_seed(2)
    first = ep.mlp([64, 12, 10], activation="sigmoid", settle=8)
    torch.manual_seed(2)
    second = ep.mlp([64, 12, 10], activation="sigmoid", settle=8)
    found = by_hand(first, ESTIMATORS[name], sgd(first), 3, batches.epoch)
    rows = Trainer(second, ESTIMATORS[name], sgd(second)).fit(batches, 3)
    assert same_weights(first, second)
    assert [(row["train_cost"], row["train_error"]) for row in rows] == found


def test_each_connections_rate_and_a_schedule_reach_the_weights():
    first, second = mlp(), mlp()
    built = SGD((0.5, 0.1), momentum=0.5).build(first)
    schedule = StepDecay(1, 0.5).build(built, 3)
    for _ in range(3):
        by_hand(first, CENTRED, built, 1, lambda epoch: TRAIN)
        schedule.step()
    optimizer = SGD((0.5, 0.1), momentum=0.5).build(second)
    rows = Trainer(second, CENTRED, optimizer, scheduler=StepDecay(1, 0.5).build(optimizer, 3)).fit(TRAIN, 3)
    assert same_weights(first, second)
    assert [row["rates"] for row in rows] == [[0.5, 0.1], [0.25, 0.05], [0.125, 0.025]]


def test_a_scheduler_of_torch_is_stepped_once_an_epoch():
    model = mlp()
    optimizer = sgd(model, 1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    rows = Trainer(model, CENTRED, optimizer, scheduler=scheduler).fit(TRAIN, 4)
    assert [row["rates"] for row in rows] == [[1.0], [0.5], [0.25], [0.125]]
    assert scheduler.last_epoch == 4


class Factory:
    """Any object that gives a new generator each time it is iterated."""

    def __iter__(self):
        yield from TRAIN


@pytest.mark.parametrize("batches", [TRAIN, tuple(TRAIN), Factory(), DataLoader(TensorDataset(*blobs()), 8)])
def test_any_iterable_of_pairs_will_do(batches):
    first, second = mlp(), trainer()
    by_hand(first, CENTRED, sgd(first), 2, lambda epoch: TRAIN)
    second.fit(batches, 2)
    assert same_weights(first, second.model)


def test_a_loader_that_shuffles_draws_what_it_draws_in_a_loop_by_hand():
    loader = DataLoader(TensorDataset(*blobs()), 8, shuffle=True)
    first, second = mlp(), trainer()
    torch.manual_seed(11)
    by_hand(first, CENTRED, sgd(first), 3, lambda epoch: loader)
    drawn = torch.rand(3)
    torch.manual_seed(11)
    second.fit(loader, 3)
    assert same_weights(first, second.model)
    assert torch.equal(torch.rand(3), drawn)


def test_an_iterable_that_is_exhausted_is_no_silent_training():
    """A generator object can be iterated once: its second epoch has no batches, and nothing was learned in it."""
    with pytest.raises(ValueError, match=r"batch"):
        trainer().fit((pair for pair in TRAIN), 2)


def test_no_batches_are_refused():
    with pytest.raises(ValueError, match=r"batch"):
        trainer().fit([], 1)


def test_training_leaves_the_default_generator_alone():
    before = torch.get_rng_state()
    trainer(estimator=ep.EquilibriumProp(8, 4, 0.2, "random-sign")).fit(
        Batches(*blobs(), 8, seed=3), 2, validation=VALIDATION, test=TEST
    )
    assert torch.equal(torch.get_rng_state(), before)


def test_rows_hold_what_is_promised():
    rows = trainer().fit(TRAIN, 2, validation=VALIDATION, test=TEST)
    plain = {"epoch", "train_cost", "train_error", "residual", "steps", "rates", "seconds"}
    plain |= {"nudged_residual", "nudged_distance", "nudge"}
    tested = {"validation_cost", "validation_error", "test_cost", "test_error"}
    for number, row in enumerate(rows, start=1):
        assert set(row) == plain | tested
        assert row["epoch"] == number
        assert row["steps"] == 8
        assert row["seconds"] >= 0
        assert 0 <= row["train_error"] <= 1
        assert row["residual"] > 0
    assert set(trainer().fit(TRAIN, 1)[0]) == plain
    assert set(trainer().fit(TRAIN, 1, test=TEST)[0]) == plain | {"test_cost", "test_error"}


def test_tests_are_of_the_weights_after_the_epoch():
    kept = []
    third = trainer(callbacks=[CallbackSpy(epoch=lambda row: kept.append((row, third.model(TEST[0][0]))))])
    third.fit(TRAIN, 2, test=[TEST[0]])
    y = TEST[0][1]
    for row, scores in kept:
        assert row["test_error"] == pytest.approx((scores.argmax(1) != y).float().mean().item())
        costs = (torch.nn.functional.one_hot(y, 3) - scores).square().sum(1) / 2
        assert row["test_cost"] == pytest.approx(costs.mean().item(), rel=1e-5)


def regression():
    x, _ = blobs()
    return cut(x, torch.stack([x[:, 0] * x[:, 1], x.mean(1)], 1))


def test_regression():
    model = ep.mlp([4, 8, 2], activation="sigmoid", settle=8)
    third = Trainer(model, CENTRED, sgd(model))
    rows = third.fit(regression(), 25, validation=regression()[:1], test=regression()[1:])
    assert rows[-1]["train_cost"] < rows[0]["train_cost"] / 2
    assert all(row[f"{part}_error"] is None for row in rows for part in ("train", "validation", "test"))
    lowest = min(rows, key=lambda row: row["validation_cost"])
    assert third.best == {"epoch": lowest["epoch"], "by": "validation_cost", "value": lowest["validation_cost"]}


def test_without_validation_regression_is_judged_by_its_training_cost():
    model = ep.mlp([4, 8, 2], activation="sigmoid", settle=8)
    third = Trainer(model, CENTRED, sgd(model))
    rows = third.fit(regression(), 3, test=regression())
    lowest = min(rows, key=lambda row: row["train_cost"])
    assert third.best == {"epoch": lowest["epoch"], "by": "train_cost", "value": lowest["train_cost"]}


class Repeated:
    """Takes K steps on every batch; each loss is of the weights that the one before has left."""

    def __init__(self, times):
        self.times, self.costs = times, []

    def __call__(self, model, x, y, *, on_free_phase=None, generator=None):
        for n in range(self.times):
            (loss,) = CENTRED(model, x, y, on_free_phase=on_free_phase if n == 0 else None, generator=generator)
            self.costs.append((loss.item(), len(y)) if n == 0 else None)
            yield loss


def test_an_estimator_with_several_losses_steps_for_each():
    model, estimator = mlp(), Repeated(3)
    rows = Trainer(model, estimator, sgd(model)).fit(TRAIN, 2)
    other = mlp()
    by_hand(other, CENTRED, sgd(other), 2, lambda epoch: [pair for pair in TRAIN for _ in range(3)])
    assert same_weights(model, other)
    firsts = [pair for pair in estimator.costs if pair is not None]
    for row, part in zip(rows, (firsts[:3], firsts[3:]), strict=True):
        assert row["train_cost"] == pytest.approx(sum(c * n for c, n in part) / sum(n for _, n in part), rel=1e-12)
        assert row["steps"] == 8


def silent(model, x, y, *, on_free_phase=None, generator=None):
    """A user's own estimator that tells nobody of its free phase."""
    yield from CENTRED(model, x, y)


def test_an_estimator_that_never_calls_watch_trains_as_well():
    loud, quiet = trainer(), trainer(estimator=silent)
    loud.fit(TRAIN, 3)
    quiet.fit(TRAIN, 3)
    assert same_weights(loud.model, quiet.model)


def test_what_an_estimator_does_not_show_is_not_made_up():
    """A loss's value is the batch-mean cost by contract; errors are not known."""
    loud, quiet = trainer().fit(TRAIN, 3), trainer(estimator=silent)
    rows = quiet.fit(TRAIN, 3)
    assert [row["train_cost"] for row in rows] == [row["train_cost"] for row in loud]
    assert [row["train_error"] for row in rows] == [None] * 3
    assert quiet.best["value"] == min(row["train_cost"] for row in loud)


def test_a_test_error_is_known_even_so():
    assert trainer(estimator=silent).fit(TRAIN, 2, test=TEST)[-1]["test_error"] is not None


def idle(model, x, y, *, on_free_phase=None, generator=None):
    """A user's own estimator, whose estimate is zero."""
    free = ep.relax(model, x, 8)
    on_free_phase(free)
    cost = model.cost.value(free.state[-1], y).mean()
    yield as_loss(cost, 0 * sum(p.sum() for p in model.parameters()))


def test_parameters_may_stand_still():
    third = trainer(estimator=idle)
    rows = third.fit(TRAIN, 2)
    assert same_weights(third.model, mlp())
    assert rows[0]["train_cost"] == rows[1]["train_cost"]


def test_random_signs_come_from_the_seed():
    def weights(seed, noise):
        torch.manual_seed(noise)
        third = trainer(estimator=ep.EquilibriumProp(8, 4, 0.2, "random-sign"), seed=seed)
        third.fit(TRAIN, 3)
        return third.model

    assert same_weights(weights(4, noise=1), weights(4, noise=2))
    assert not same_weights(weights(4, noise=1), weights(5, noise=1))


def judged(monkeypatch, validation=None, test=None):
    """Errors as told instead of measured: one batch is the validation, two are the test."""
    told = {1: iter(validation or ()), 2: iter(test or ())}

    def evaluate(model, batches, pool):
        error = next(told[len(list(batches))])
        return Score(cost=1 - error, error=error, residual=0.0, steps=1.0, samples=1)

    monkeypatch.setattr("eqprop.training.trainer.evaluate", evaluate)


def trained(folder, **samples):
    """A trainer that has done three epochs, and the weights after each."""
    kept = []

    def keep(row):
        kept.append(third.model.network.connections[0].weight.detach().clone())

    third = trainer(folder, callbacks=[CallbackSpy(epoch=keep)])
    third.fit(TRAIN, 3, **samples)
    return third, kept


def check_best(third, kept, best, by, value):
    """The trainer and the file agree, and the file has that epoch's weights."""
    tensors, facts = checkpoint.read(third.folder.best)
    assert third.best == {"epoch": best, "by": by, "value": value}
    assert facts == third.best | {"config": None}
    assert torch.equal(tensors["model.network.connections.0.weight"], kept[best - 1])


@pytest.mark.parametrize(
    ("validation", "test", "best"),
    [
        ((0.5, 0.2, 0.3), (0.1, 0.4, 0.0), 2),
        ((0.2, 0.2, 0.2), (0.3, 0.2, 0.1), 1),
        ((0.9, 0.8, 0.7), (0.1, 0.2, 0.3), 3),
        ((0.0, 0.8, 0.0), (0.3, 0.0, 0.1), 1),
    ],
)
def test_the_validation_error_decides_what_is_best(monkeypatch, tmp_path, validation, test, best):
    """Never the test; the earliest of equals; and no cost where there are errors."""
    judged(monkeypatch, validation, test)
    third, kept = trained(tmp_path, validation=TEST[:1], test=TEST[:2])
    assert [row["validation_error"] for row in third.rows] == list(validation)
    assert [row["test_error"] for row in third.rows] == list(test)
    check_best(third, kept, best, "validation_error", validation[best - 1])


def test_without_validation_the_training_error_decides(monkeypatch, tmp_path):
    judged(monkeypatch, test=(0.0, 0.5, 0.9))
    third, kept = trained(tmp_path, test=TEST[:2])
    errors = [row["train_error"] for row in third.rows]
    assert min(errors) < errors[0]  # the test would have chosen the first epoch
    check_best(third, kept, errors.index(min(errors)) + 1, "train_error", min(errors))


def test_the_best_of_a_resumed_training_is_the_best_of_all(monkeypatch, tmp_path):
    judged(monkeypatch, (0.5, 0.2, 0.3))
    _, kept = trained(tmp_path, validation=TEST[:1])
    judged(monkeypatch, (0.4, 0.1))
    again = trainer(tmp_path)
    again.resume(TRAIN, 4, validation=TEST[:1])
    check_best(again, kept, 2, "validation_error", 0.2)
    again.resume(TRAIN, 5, validation=TEST[:1])
    assert again.best == {"epoch": 5, "by": "validation_error", "value": 0.1}


def test_epochs_are_counted_in_total():
    once, twice = trainer(), trainer()
    rows = once.fit(TRAIN, 4)
    twice.fit(TRAIN, 1)
    assert timeless(twice.fit(TRAIN, 4)) == timeless(rows)
    assert twice.fit(TRAIN, 4) == twice.rows
    assert same_weights(once.model, twice.model)


def test_fit_goes_on_in_its_own_folder(tmp_path):
    first, second = trainer(tmp_path / "a"), trainer(tmp_path / "b")
    first.fit(TRAIN, 1)
    first.fit(TRAIN, 3)
    second.fit(TRAIN, 3)
    assert timeless(RunFolder(tmp_path / "a").rows()) == timeless(RunFolder(tmp_path / "b").rows())
    assert same_weights(first.model, second.model)


def test_another_trainer_does_not_fit_over_a_training(tmp_path):
    trainer(tmp_path).fit(TRAIN, 1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match=r"already holds a training: resume it, or use another folder"):
        trainer(tmp_path).fit(TRAIN, 1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("epochs", [0, -1, True, 1.5, None])
def test_a_wrong_number_of_epochs_is_refused_and_creates_nothing(tmp_path, epochs):
    with pytest.raises(ValueError, match=rf"`epochs` must be a whole number of at least 1, got {epochs!r}"):
        trainer(tmp_path / "new").fit(TRAIN, epochs)
    assert not (tmp_path / "new").exists()


def test_a_trainer_refuses_what_it_cannot_use(tmp_path):
    model = mlp()
    with pytest.raises(ValueError, match=r"`model` must be an object of class Model, got an object of class Linear"):
        Trainer(torch.nn.Linear(2, 2), CENTRED, sgd(model))
    with pytest.raises(
        ValueError, match=r"`optimizer` must be an object of class Optimizer, got an object of class SGD"
    ):
        Trainer(model, CENTRED, SGD(0.1))
    for value in (-1, float("nan"), "often"):
        with pytest.raises(ValueError, match=r"`checkpoint_every` must be a finite number of at least 0, got"):
            trainer(checkpoint_every=value)
    with pytest.raises(ValueError, match=r"without a `folder` has no checkpoint to resume from"):
        trainer().resume(TRAIN, 1)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint"):
        trainer(tmp_path).resume(TRAIN, 1)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_batch_that_does_not_fit_is_told_of(part):
    wrong = [(torch.rand(3, 5), torch.tensor([0, 1, 2]))]
    samples = {"validation": VALIDATION, "test": TEST} | ({part: wrong} if part != "train" else {})
    with pytest.raises(ValueError, match=r"`x` must be \(B, 4\)"):
        trainer().fit(wrong if part == "train" else TRAIN, 1, **samples)


def test_reports_are_told_of_everything_in_order(tmp_path):
    one, two = CallbackSpy(), CallbackSpy()
    trainer(tmp_path, callbacks=[one, two]).fit(TRAIN, 2)
    for report in (one, two):
        assert report.begun == [(2, 3, 0)]
        assert report.batches == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
        assert report.ended == 1
    again = CallbackSpy()
    trainer(tmp_path, callbacks=[again]).resume(Factory(), 3)
    assert again.begun == [(3, None, 2)]
    assert again.batches == [(3, 1), (3, 2), (3, 3)]


def test_reports_change_nothing():
    alone, seen = (
        trainer(),
        trainer(callbacks=[CallbackSpy(batch=lambda *_: torch.rand(3)), CallbackSpy(epoch=lambda row: torch.rand(3))]),
    )
    assert timeless(alone.fit(TRAIN, 2)) == timeless(seen.fit(TRAIN, 2))
    assert same_weights(alone.model, seen.model)


def test_reports_are_told_of_the_end_of_a_training_that_broke():
    def trip(epoch, batch):
        raise RuntimeError("tripped")

    report = CallbackSpy(batch=trip)
    with pytest.raises(RuntimeError, match="tripped"):
        trainer(callbacks=[report]).fit(TRAIN, 1)
    assert report.ended == 1


def handlers():
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_signal_handlers_are_as_before():
    before, during = handlers(), []

    def trip(epoch, batch):
        during.append(handlers())
        if epoch == 2:
            raise RuntimeError("tripped")

    with pytest.raises(RuntimeError, match="tripped"):
        trainer(callbacks=[CallbackSpy(batch=trip)]).fit(TRAIN, 2)
    assert handlers() == before
    assert during[0] != before
    trainer().fit(TRAIN, 1)
    assert handlers() == before


def test_training_in_another_thread():
    """Where Python takes no signals."""
    first, second = trainer(), trainer()
    thread = threading.Thread(target=first.fit, args=(TRAIN, 2))
    thread.start()
    thread.join(60)
    second.fit(TRAIN, 2)
    assert same_weights(first.model, second.model)


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer(checkpoint_every=0.0).fit(TRAIN, 2, validation=VALIDATION, test=TEST)
    assert not list(tmp_path.iterdir())


def test_metrics_are_the_rows(tmp_path):
    rows = trainer(tmp_path).fit(TRAIN, 3, test=TEST)
    assert RunFolder(tmp_path).rows() == rows
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_time_is_counted():
    third = trainer(callbacks=[CallbackSpy(batch=lambda *_: threading.Event().wait(0.02))])
    (row,) = third.fit(TRAIN, 1)
    assert 0.06 <= row["seconds"] < 60
    assert math.isfinite(row["seconds"])
