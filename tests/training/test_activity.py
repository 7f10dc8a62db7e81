"""Spikes in the logs: what stands in a row, where, that looking changes nothing, and who is warned of wind-up."""

import io
import os
import signal
import warnings

import pytest
import torch

import eqprop as ep
from eqprop.spiking import Bernoulli, lagging, operations, record, saturation
from eqprop.training import SGD, Data, Run, create_run, prepare_run, train_run
from eqprop.training.diagnostics import diagnostics_of
from eqprop.training.history import warn_if_saturated
from eqprop.training.progress.callbacks import PlainLines, _scalars, format_row
from eqprop.training.rng import REST, seeded
from eqprop.training.signals import Interrupted
from small_trainings import after, outcome, timeless

pytestmark = pytest.mark.filterwarnings("ignore:epoch 2.*does not learn")  # two epochs are not for learning

CENTRED = ep.EquilibriumProp(12, 6, 0.5, "centred")
NAMES = {"spikes_per_unit", "spikes_per_inference", "synops_per_inference", "synops_per_step", "wound_up", "late"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """The disk itself need not be waited for."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def run(estimator=CENTRED, **options):
    spec = ep.MLP((64, 8, 10), "hard_sigmoid", dynamics=ep.Spiking(**options))
    return Run("spikes", Data("digits", 300), spec, estimator, SGD(0.1), epochs=2)


def test_rows_hold_what_recordings_of_the_first_batch_say(tmp_path):
    """The last row is of the weights that were left: two nudged phases from the end of the free one, a sample on average."""
    asked = run()
    create_run(asked, tmp_path / "run")
    row = train_run(tmp_path / "run")[-1]
    model, session = ep.load(tmp_path / "run"), prepare_run(asked)
    x, y = session.train.x[:300], session.train.y[:300]
    free = record(model, x, 12)
    nudged = [record(model, x, 6, y, beta, free) for beta in (-0.5, 0.5)]
    spikes = sum(count.sum().item() for count in free.counts) / 300
    assert row["spikes_per_inference"] == pytest.approx(spikes)
    assert row["spikes_per_unit"] == pytest.approx(spikes / (12 * (64 + 8 + 10)))
    assert row["synops_per_inference"] == pytest.approx(operations(model, free).synops)
    assert row["synops_per_step"] == pytest.approx(sum(operations(model, each).synops for each in (free, *nudged)))
    assert row["wound_up"] == pytest.approx(saturation(free.state).total)
    assert row["late"] == pytest.approx(list(lagging(model.dynamics, free.state, x)))


@pytest.mark.parametrize(
    ("asked", "missing"),
    [
        (run(), set()),
        (run(coder=Bernoulli()), set()),
        (run(ep.EquilibriumProp(12, 6, 0.5, "random-sign"), input="current"), set()),
        (run(ep.ContinualEP(12, 6, 0.5)), set()),
        (run(ep.BPTT(12, surrogate=True)), {"synops_per_step"}),
        (run(ep.BPTT(12)), {"synops_per_step"}),
        (run(decode="before"), {"synops_per_inference", "synops_per_step"}),
    ],
    ids=["EP", "Bernoulli", "current", "C-EP", "surrogate BPTT", "twin's BPTT", "decoded before"],
)
def test_every_spiking_run_has_them(asked, missing, tmp_path):
    create_run(asked, tmp_path / "run")
    for row in train_run(tmp_path / "run"):
        assert row.keys() >= NAMES
        assert {name for name in NAMES if row[name] is None} == missing
        assert 0 < row["spikes_per_unit"] <= 1
        assert len(row["late"]) == 3 - (asked.model.dynamics.input == "current")


def test_rows_without_spikes_are_as_they_were(tmp_path):
    plain = Run("rates", Data("digits", 300), ep.MLP((64, 8, 10)), ep.EquilibriumProp(12, 6, 0.2), SGD(0.1), epochs=1)
    create_run(plain, tmp_path / "run")
    (row,) = train_run(tmp_path / "run")
    parts = [f"{part}_{what}" for part in ("train", "test") for what in ("cost", "error")]
    nudged = {"nudged_residual", "nudged_distance", "nudge"}
    assert set(row) == {"epoch", *parts, "residual", "steps", "rates", "seconds"} | nudged
    assert diagnostics_of(plain, plain.build(), torch.rand(2, 64), torch.tensor([0, 1])) is None


@pytest.mark.parametrize("options", [{}, {"coder": Bernoulli()}], ids=["sigma-delta", "Bernoulli"])
def test_the_weights_are_those_without_a_look(options, tmp_path):
    asked = run(**options)
    create_run(asked, tmp_path / "run")
    rows = train_run(tmp_path / "run")
    session = prepare_run(asked)
    trainer = session.trainer(tmp_path / "none")
    trainer.folder, trainer.diagnostics = None, None
    with seeded(asked.seed, REST):
        blind = trainer.fit(session.train, 2, test=session.test)
    assert timeless(blind) == [{k: v for k, v in row.items() if k not in NAMES} for row in timeless(rows)]
    for a, b in zip(session.model.parameters(), ep.load(tmp_path / "run").parameters(), strict=True):
        assert a.equal(b)


@pytest.mark.parametrize("options", [{}, {"coder": Bernoulli()}], ids=["sigma-delta", "Bernoulli"])
@pytest.mark.parametrize("batches", [2, 5, 8])
def test_a_run_that_was_stopped_and_resumed_is_the_same(options, batches, tmp_path):
    """In the middle of an epoch, and with its last batch, before tests and look: byte by byte, rows and all."""
    for name in ("whole", "stopped"):
        create_run(run(**options), tmp_path / name)
    train_run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train_run(tmp_path / "stopped", callbacks=[after(batches, lambda: signal.raise_signal(signal.SIGINT))])
    torch.manual_seed(99)
    train_run(tmp_path / "stopped")
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def test_looking_draws_nothing_from_the_default_stream():
    asked = run(coder=Bernoulli())
    model = asked.build()
    x, y = torch.rand(4, 64), torch.tensor([0, 1, 2, 3])
    probe = diagnostics_of(asked, model, x, y)
    before = torch.get_rng_state()
    assert probe(model, CENTRED) == probe(model, CENTRED)
    assert torch.get_rng_state().equal(before)


def test_a_batch_that_is_not_finite_leaves_gaps():
    model = run().build()
    x, y = torch.rand(4, 64), torch.tensor([0, 1, 2, 3])
    with torch.no_grad():
        model.network.connections[1].weight[0, 0] = torch.nan
    assert diagnostics_of(run(), model, x, y)(model, CENTRED) == dict.fromkeys(NAMES)


def test_lines_and_tensorboard_tell_them(tmp_path):
    out = io.StringIO()
    create_run(run(), tmp_path / "run")
    rows = train_run(tmp_path / "run", callbacks=[PlainLines(out, "demo")])
    told = out.getvalue().splitlines()
    assert [f"{row['spikes_per_unit']:.3f} spikes" in text for row, text in zip(rows, told, strict=True)] == [True] * 2
    found, row = dict(_scalars(rows[-1])), rows[-1]
    for tag in ("spikes/per_unit", "spikes/per_inference", "synops/per_inference", "synops/per_step"):
        assert found[tag] == row[tag.replace("/", "_")]
    assert found["coders/wound_up"] == row["wound_up"]
    assert [found[f"coders/late/{n}"] for n in range(3)] == row["late"]


def test_where_a_line_is_short_spikes_are_left_out_first():
    row = {
        "epoch": 1,
        "train_cost": 0.1,
        "train_error": 0.2,
        "residual": 0.1,
        "steps": 12.0,
        "seconds": 1.0,
        "spikes_per_unit": 0.2,
    }
    whole = format_row(row, 9, "demo")
    assert "0.200 spikes" in whole
    assert format_row(row, 9, "demo", len(whole) - 1) == whole.replace("0.200 spikes   ", "")


@pytest.mark.parametrize(
    ("shares", "warned"),
    [
        ([[0.0, 0.0]], False),
        ([[0.1, 0.0]], False),
        ([[0.0, 0.2]], True),
        ([[0.0, 0.2], [0.3, 0.3]], False),
        ([[0.0, 0.0], [0.3, 0.0]], True),
        ([None], False),
        ([None, [0.3, 0.0]], True),
    ],
)
def test_a_warning_once(shares, warned):
    rows = [{"epoch": n, "late": late} for n, late in enumerate(shares, start=1)]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_if_saturated(rows)
        warn_if_saturated([{"epoch": 1}])
    assert len(told) == warned


def test_small_lambda_and_few_ticks_are_warned_of_and_the_recipes_are_not(tmp_path):
    """A pixel of .5 owes 10 spikes at lambda .05, and pays half of one a tick: it is late for 17 ticks."""
    create_run(run(ep.EquilibriumProp(12, 6, 0.5, "centred"), lam=0.05), tmp_path / "small")
    with pytest.warns(RuntimeWarning, match=r"epoch 1: .* off by more than lambda .* use a larger `lam`") as told:
        train_run(tmp_path / "small")
    assert len([each for each in told if "more than lambda" in str(each.message)]) == 1
    create_run(run(ep.EquilibriumProp(50, 6, 0.5, "centred")), tmp_path / "recipe")
    assert all(max(row["late"]) < 0.01 for row in train_run(tmp_path / "recipe"))
