"""Several processes train as one does: to the same weights, with one writer, and they end together."""

import signal
import time

import pytest
import torch

from eqprop.training import checkpoint
from eqprop.training.distributed.processes import SINGLE_PROCESS
from eqprop.training.rng import ESTIMATOR, generator
from eqprop.training.run_folder import RunFolder
from small_team import End, running, team
from small_trainings import outcome, timeless
from team_trainings import (
    OWN,
    SIGNS,
    TRAININGS,
    Training,
    all_of,
    alone,
    die,
    drawn,
    fail,
    frozen,
    full,
    interrupt,
    interrupted_between,
    mlp,
    refused,
    resumed,
    spoiled,
    stopped,
    trained,
)


def equal(some, others) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def assert_near(row: dict, other: dict) -> None:
    """Up to round-off, and whatever the clock says."""
    assert row.keys() == other.keys()
    assert row["rates"] == other["rates"]
    for name in row.keys() - {"rates", "seconds"}:
        assert row[name] == pytest.approx(other[name], rel=1e-9, abs=1e-12), name


@pytest.fixture(scope="module", params=[2, 3])
def found(request):
    """Weights and rows of each training, of each process."""
    return [end.done() for end in team(request.param, all_of, TRAININGS)]


@pytest.mark.parametrize("name", TRAININGS)
def test_they_come_to_the_weights_of_one(name, found):
    """To 1e-10 after twenty steps in float64, of which the last is on one sample; and every process to the same bits."""
    wanted, (row,) = alone(TRAININGS[name])
    for weights, (told,) in (each[name] for each in found):
        assert all((w - v).abs().max() < 1e-10 for w, v in zip(weights, wanted, strict=True))
        assert equal(weights, found[0][name][0])
        assert_near(told, row)


def test_numbers_of_their_own_do_not_drive_them_apart():
    """Noise on the states is each process's own, however uneven the parts; what rounds the weights is not."""
    (first, second), (again, _) = ([end.done() for end in team(2, all_of, OWN, 2)] for _ in range(2))
    for name, (weights, rows) in first.items():
        for others, told in (second[name], again[name]):
            assert equal(weights, others)
            assert timeless(rows) == timeless(told)


def test_what_is_drawn_alike():
    """Signs are those of one process, noise is each one's own and new in every batch, and the rest is alike."""
    (first, left), (second, right) = (end.done() for end in team(2, drawn))
    (own, signs), (others, same) = zip(*first, strict=True), zip(*second, strict=True)
    assert len({*own, *others}) == 6
    stream = generator(3, ESTIMATOR)
    assert signs == same == tuple(torch.rand((), generator=stream).item() for _ in range(3))
    assert left == right


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training by two processes that nothing stops."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    for end in team(2, trained, folder):
        end.done()
    return outcome(folder)


def test_one_writes(whole, tmp_path):
    """As much as one process alone, and the same."""
    torch.manual_seed(0)
    Training(SIGNS).begin(SINGLE_PROCESS, tmp_path, epochs=2)
    (*_, rows), (*_, wanted) = whole, outcome(tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2]
    for row, other in zip(rows, wanted, strict=True):
        assert_near(row, other)


@pytest.mark.parametrize("rank", [0, 1])
def test_one_is_killed(rank, whole, tmp_path):
    """The others end at once and say so; another team goes on from the batch before, to the same bytes."""
    begun = time.monotonic()
    ends = team(2, stopped, tmp_path, die, rank)
    assert time.monotonic() - begun < 120
    assert ends[rank] == End(code=-signal.SIGKILL)
    assert ends[1 - rank].error == "ProcessLostError: another process of this training has ended, or does not answer"
    _, facts = checkpoint.read(RunFolder(tmp_path).last)
    assert (facts["epoch"], facts["batch"]) == (1, 4)
    for end in team(2, resumed, tmp_path):
        end.done()
    assert outcome(tmp_path) == whole
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("when", ["first", "second", "between"])
def test_one_is_interrupted(when, whole, tmp_path):
    """All stop after that batch, or the next one, however often the signal comes, and the checkpoint is of that batch."""
    if when == "between":
        ends = team(2, interrupted_between, tmp_path, 27)
    else:
        ends = team(2, stopped, tmp_path, interrupt, int(when == "second"), 27, 60.0)
    assert [end.error for end in ends] == [f"Interrupted: {signal.SIGINT}"] * 2
    _, facts = checkpoint.read(RunFolder(tmp_path).last)
    assert (facts["epoch"], facts["batch"]) == (1, 8 if when == "between" else 7)
    for end in team(2, resumed, tmp_path):
        end.done()
    assert outcome(tmp_path) == whole


def test_another_number_goes_on(whole, tmp_path):
    """Not to the same bits, but to the same weights."""
    team(2, stopped, tmp_path, interrupt)
    for end in team(3, resumed, tmp_path):
        end.done()
    model = mlp()
    checkpoint.load_weights(model, checkpoint.read(RunFolder(tmp_path).last)[0], tmp_path)
    wanted, _ = Training(SIGNS).begin(SINGLE_PROCESS, epochs=2)
    assert all((w - v).abs().max() < 1e-10 for w, v in zip(model.parameters(), wanted, strict=True))


def test_one_meets_no_number(tmp_path):
    """All of them raise what it said, with the place, and the last checkpoint is from before."""
    ends = team(3, stopped, tmp_path, fail, 2)
    assert [end.error for end in ends] == ["FloatingPointError: epoch 2, batch 5: process 2 met no number"] * 3
    assert checkpoint.read(RunFolder(tmp_path).last)[1]["batch"] == 4


def test_one_meets_no_number_in_a_test():
    ends = team(2, spoiled)
    assert ends[0] == ends[1]
    assert "the input (population 0) is not finite in 1 of 15 samples" in ends[0].error


def test_one_fails_by_itself(tmp_path):
    """Its error is its own, the others only miss it."""
    ends = team(2, stopped, tmp_path, full)
    assert ends[1].error.startswith("OSError: ")
    assert ends[0].error.startswith("ProcessLostError: ")


def test_what_they_cannot_do_together():
    first, second = (end.done() for end in team(2, refused))
    assert first == second
    sgd, other, device = first
    assert sgd == other
    assert "ContinualEP (continual-ep), which is the same rule" in sgd
    assert device == "`device` must be cpu where 2 processes train together, got 'cuda:1'"


@pytest.mark.slow
def test_one_hangs(tmp_path):
    """The patience of the others has an end."""
    with running(2, frozen, tmp_path) as begun:
        assert begun.pipes[0].poll(60)
        assert not begun.pipes[1].poll(0)
